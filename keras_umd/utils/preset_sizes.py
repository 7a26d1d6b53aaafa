"""Whether a preset's settings fit the size of its weights: settings are numbers, and a few can ask for any memory."""

import math

# Settings that are the length of an array, of which the network has one as wide as itself for each.
LENGTHS = ("num_classes", "num_cls_tokens", "registers", "decoder_hidden_dim")
# Numbers that any preset may have: schedules aren't in its file.
FREE = 2**20


def check_sizes(config, num_bytes, source):
    """A ValueError for settings of a network far larger than its weights, before memory is taken for it.

    A bound from below, for what any network of these settings has: a square matrix in each block, a vector for each
    class and token. What passes takes a few dozen times the size of the file at most.

    Args:
        config: JSON values.
        num_bytes: Integer, the size of the file of the weights.
        source: String, where the settings are from, for the error.
    """
    most = max(FREE, 2 * num_bytes)  # kernels of int4 have two numbers in a byte
    for settings in _dictionaries(config):
        for name, number in _numbers(settings).items():
            if number > most:
                raise ValueError(
                    f"The settings of {source} are of a network with {number:,} numbers or more, and its weights have "
                    f"{most:,} at most; take a copy of the preset from elsewhere. Received: {name}"
                )


def _numbers(settings):
    """The least numbers of a network with these settings, by what asks for them."""
    sizes = {name: value for name, value in settings.items() if type(value) is int and value > 0}
    if settings.get("conditioning", "") is None:
        sizes.pop("num_classes", None)  # no embedding of them
    width, copies = sizes.get("hidden_dim", 1), 1 + len(settings.get("ema_decays") or ())
    numbers = {f"{name}={sizes[name]:,}": sizes[name] * width for name in LENGTHS if name in sizes}
    numbers["num_timesteps"] = sizes.get("num_timesteps", 0)
    of_decoder = sizes.get("decoder_hidden_dim", width)
    for layers, size in (("num_layers", width), ("decoder_layers", of_decoder)):
        if layers in sizes:
            numbers[f"{layers}={sizes[layers]:,} of width {size:,}"] = copies * sizes[layers] * size**2
    numbers[f"image_shape={settings.get('image_shape')}"] = _num_patches(settings)
    return numbers


def _num_patches(settings):
    """How many patches an image has, which have places; 0 where the settings don't tell."""
    shape, patch = settings.get("image_shape"), settings.get("patch_size")
    if not (isinstance(shape, list) and all(type(size) is int and size > 0 for size in shape)):
        return 0
    patch = patch if isinstance(patch, list) else [patch] * (len(shape) - 1)
    if not all(type(size) is int and size > 0 for size in patch):
        return 0
    return math.prod(size // along for size, along in zip(shape, patch, strict=False))


def _dictionaries(config):
    """All dictionaries in JSON values."""
    if isinstance(config, dict):
        yield config
    for value in config.values() if isinstance(config, dict) else config if isinstance(config, list) else ():
        yield from _dictionaries(value)
