"""Named configurations: method, size, patch and image in one name."""

import re

SIZES = {
    "tiny": {"hidden_dim": 192, "num_layers": 12, "decoder_layers": 4, "num_heads": 3},
    "small": {"hidden_dim": 384, "num_layers": 12, "decoder_layers": 4, "num_heads": 6},
    "base": {"hidden_dim": 768, "num_layers": 12, "decoder_layers": 4, "num_heads": 12},
    "large": {"hidden_dim": 1024, "num_layers": 24, "decoder_layers": 8, "num_heads": 16},
}


def preset_config(name, methods):
    """The constructor arguments of `UMD` that a preset's name stands for.

    `{method}_{tiny,small,base,large}_patch{p}_{size}` works on RGB pixels with the cosine schedule,
    `..._patch{p}_latent{size}` on four channels of latents with the linear one.

    Args:
        name: String, for example `"umd_base_patch4_64"` or `"dit_large_patch2_latent32"`.
        methods: Dictionary of the methods by name, `UMD.presets`.

    Raises:
        ValueError: for a name of another form.
    """
    match = re.fullmatch(rf"({'|'.join(methods)})_({'|'.join(SIZES)})_patch(\d+)_(latent)?(\d+)", name)
    if match is None:
        raise ValueError(
            f"A preset is named {{{','.join(methods)}}}_{{{','.join(SIZES)}}}_patch{{p}}_{{size}}, with 'latent' "
            "before the size for latents, for example 'umd_base_patch4_64' or 'umd_large_patch2_latent32'. "
            f"Received: {name!r}"
        )
    method, size, patch_size, latent, image_size = match.groups()
    return {
        **SIZES[size],
        "image_shape": (int(image_size), int(image_size), 4 if latent else 3),
        "patch_size": int(patch_size),
        "value_range": None if latent else (-1.0, 1.0),
        **methods[method](schedule="linear" if latent else "cosine"),
    }
