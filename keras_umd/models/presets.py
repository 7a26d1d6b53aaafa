"""Presets: named configurations (method, size, patch and image in one name), and folders with weights."""

import os
import pathlib
import re

from keras_umd.utils import hub, storage
from keras_umd.utils.atomic import MANIFEST
from keras_umd.utils.checks import check_bools, require
from keras_umd.utils.preset_folder import config_of, read_description, read_preset, write_preset
from keras_umd.utils.variable_names import by_name

SIZES = {
    "tiny": {"hidden_dim": 192, "num_layers": 12, "decoder_layers": 4, "num_heads": 3},
    "small": {"hidden_dim": 384, "num_layers": 12, "decoder_layers": 4, "num_heads": 6},
    "base": {"hidden_dim": 768, "num_layers": 12, "decoder_layers": 4, "num_heads": 12},
    # Deeper and narrower, with as many weights in the encoder (Xue et al., 2022, Bamboo).
    "tiny_deep": {"hidden_dim": 128, "num_layers": 27, "decoder_layers": 4, "num_heads": 2},
    "small_deep": {"hidden_dim": 256, "num_layers": 27, "decoder_layers": 4, "num_heads": 4},
    "base_deep": {"hidden_dim": 512, "num_layers": 27, "decoder_layers": 4, "num_heads": 8},
    "large": {"hidden_dim": 1024, "num_layers": 24, "decoder_layers": 8, "num_heads": 16},
}
SHIPPED = pathlib.Path(__file__).parent / "shipped"  # folders with weights that come with the package


class Presets(dict):
    """The methods that `UMD.from_preset` knows, functions by their names; shown with the papers."""

    def papers(self):
        """Dictionary of strings: where each method was published, and what each preset with weights is."""
        shipped = {path.parent.name: read_description(path.parent) for path in sorted(SHIPPED.glob(f"*/{MANIFEST}"))}
        methods = {name: getattr(method, "paper", "") for name, method in self.items()}
        return methods | {name: metadata["description"] for name, metadata in shipped.items()}

    def __repr__(self):
        papers = self.papers()
        width = max(map(len, papers), default=0)
        return "\n".join(f"{name:{width}}  {paper}" for name, paper in papers.items())


def preset_config(name, methods):
    """The constructor arguments of `UMD` that a preset's name stands for.

    `{method}_{tiny,small,base,large}_patch{p}_{size}` works on RGB pixels with the cosine schedule,
    `{method}_{tiny,small,base}_deep_...` is of 27 narrower blocks with as many weights.
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
            "before the size for latents, for example 'umd_base_patch4_64' or 'umd_large_patch2_latent32'; or it is "
            "'umd_digits', the path of a folder, or 'hf://user/repo'. "
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


def from_preset(cls, preset, load_weights=None, **overrides):
    """A model by the name of a preset, or from the folder or the address of one.

    A name of a method and sizes is a configuration, with fresh weights; see `keras_umd.models.presets`. A folder that
    `save_to_preset` wrote, on any backend, comes with its weights and averages, and so do the presets of the package:
    `"umd_digits"`, handwritten digits of 8x8. Nothing that such a folder holds is executed.

    Example:

    >>> keras_umd.UMD.from_preset("umd_base_patch4_64")                      # fresh weights
    >>> keras_umd.UMD.from_preset("umd_digits").generate([3])                # trained
    >>> keras_umd.UMD.from_preset("hf://user/repo", scan_blocks=True)

    Args:
        preset: String, `{umd,mae,maskdit,dit}_{tiny,small,base,large}_patch{p}_{size}` for pixels, for example
            `"umd_base_patch4_64"`, or `..._patch{p}_latent{size}` for latents; `"umd_digits"`; the path of a folder,
            which may be remote (`gs://`); `"hf://user/repo"`, with `@revision` behind it for another than the newest;
            or `"kaggle://user/model/framework/variation"`. `print(UMD.presets)` lists the names.
        load_weights: Bool, or `None` for the weights where there are any. `False` is for fresh ones.
        **overrides: Constructor arguments that replace those of the preset.

    Raises:
        ValueError: for another name, and for weights that don't fit the overrides; it names them.
        DamagedFileError: a ValueError, for a folder that isn't what was written.
    """
    is_right = isinstance(preset, (str, os.PathLike)) and os.fspath(preset)
    require(is_right, "`preset` must be a name, as 'umd_base_patch4_64', a folder, or 'hf://user/repo'.", preset=preset)
    check_bools(optional=True, load_weights=load_weights)
    preset = os.fspath(preset)
    is_file = preset.endswith(".keras")
    require(not is_file, "A `.keras` file isn't a preset; load it by keras.models.load_model.", preset=preset)
    folder = SHIPPED / preset if (preset.isidentifier() and (SHIPPED / preset).is_dir()) else preset
    if folder is not preset or hub.is_hub(preset) or storage.is_remote(preset) or _is_folder(preset):
        return read_preset(cls, folder, load_weights, overrides)
    config = preset_config(preset, cls.presets)
    require(not load_weights, "The preset has no weights; give it load_weights=None or False.", preset=preset)
    return cls(**{**config, **overrides})


def _is_folder(preset):
    """Whether it is a path: names have no separators, and come before folders of the same name."""
    is_path = any(sign in preset for sign in {"/", os.sep})
    return is_path or (os.path.isdir(preset) and re.search(r"_patch\d+_(latent)?\d+$", preset) is None)


def preset_variables(model):
    """The variables of a preset by name: of the network, of the objective's terms, and of the averages.

    Example:

    >>> names = list(model.preset_variables())
    """
    network = by_name(model.network_weights)
    names = {id(variable): name for name, variable in network.items()}
    averages = {
        f"averages/{index}/{name}": variable
        for index, average in enumerate(model.averages)
        for name, variable in average.variables_by(names).items()
    }
    return network | _of_objective(model) | averages


def _of_objective(model):
    return {f"objective/{name}": variable for name, variable in model.objective.preset_variables().items()}


def save_to_preset(model, folder, *, weights=None, dtype=None, results=(), license=None, description=None):
    """Save the model with its weights as a folder, to load it by `from_preset` on any backend, and to share it.

    Optimizer, seeds and `autoencoder` are no part of it; a `.keras` file has them, to go on with a training. LoRA
    factors and quantised kernels stay what they are.

    Example:

    >>> model.save_to_preset("presets/birds", license="cc-by-4.0")
    >>> model = UMD.from_preset("presets/birds")

    Args:
        folder: String or path, of a folder that isn't there yet, or is empty.
        weights: `None` for all that there are, with the averages; or those to save alone, `"average"`, `"raw"` or a
            decay, as of `weight_values`: a preset for use, of half the size.
        dtype: `"float32"`, `"float16"` or `"bfloat16"`, of floats in the file; `None` keeps their own. A loaded model
            has the types of its own `dtype` again.
        results: List of `keras_umd.evaluation.Result`, for the model card.
        license: String, the identifier of a licence as the hubs have it, `"apache-2.0"` for example, or `None`.
        description: String, what it is and what it was trained on, for the model card, or `None`.

    Raises:
        FileExistsError: for a folder with files in it.
        FloatingPointError: for weights that aren't finite; nothing is saved.
    """
    config = config_of(model)
    if weights is None:
        values = preset_variables(model)
    else:
        chosen = dict(zip(map(id, model.network_weights), model.weight_values(weights), strict=True))
        network = {name: chosen[id(variable)] for name, variable in by_name(model.network_weights).items()}
        values = network | _of_objective(model)
        config["config"]["ema_decays"] = []
    preprocessing = {"image_shape": list(model.image_shape), "value_range": model.value_range}
    card = {"results": results, "license": license, "description": description}
    write_preset(folder, config, values, preprocessing, dtype=dtype, **card)
