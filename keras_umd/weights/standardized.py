"""Images that other networks get standardised by channel, and ours as they are: the difference is a linear map.

Where a network takes `(x - mean) / deviation` of images in [0, 1], the patch embedding of one that takes images of a
value range takes the map into itself, so that the outputs are the same, and pipelines need not know of it.
"""

import numpy as np

from keras_umd.utils.checks import is_list, is_number, require

KNOWN = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5,), (0.5,)),
}


def moments(standardized, channels):
    """Means and deviations of each channel, for images in [0, 1], as a pair of float64 arrays; `None` for `None`.

    Args:
        standardized: `"imagenet"`, `"half"`, a pair `(means, deviations)` of numbers or of lists with a number for each
            channel, or `None`.
        channels: Integer.
    """
    if standardized is None:
        return None
    is_text = isinstance(standardized, str)
    given = KNOWN.get(standardized) if is_text else standardized
    rule = (
        f"`standardized` must be one of {sorted(KNOWN)}, a pair (means, deviations) for the {channels} channels of "
        "images in [0, 1], or None for images that come as the network takes them."
    )
    require(isinstance(given, (list, tuple)) and len(given) == 2, rule, standardized=standardized)
    pair = [tuple(values) if is_list(values) else (values,) for values in given]
    is_right = all(len(values) in (1, channels) and all(map(is_number, values)) for values in pair)
    require(is_right and min(pair[1]) > 0, rule, standardized=standardized)
    return tuple(np.broadcast_to(np.asarray(values, "float64"), (channels,)) for values in pair)


def in_range(pair, value_range):
    """Means and deviations for images in a value range, of those for images in [0, 1]."""
    low, high = value_range
    means, deviations = pair
    return low + (high - low) * means, (high - low) * deviations


def folded(kernel, bias, means, deviations):
    """The patch embedding of images, of that of `(images - means) / deviations`.

    Args:
        kernel: Array `(patch_dim, hidden_dim)`, the channels last within a patch.
        bias: Array `(hidden_dim,)`.
        means, deviations: Arrays `(channels,)`.

    Returns:
        Pair of float32 arrays, kernel and bias.
    """
    number = len(kernel) // len(means)
    kernel = kernel.astype("float64") / np.tile(deviations, number)[:, None]
    bias = bias.astype("float64") - np.tile(means, number) @ kernel
    return kernel.astype("float32"), bias.astype("float32")


def unfolded(kernel, bias, means, deviations):
    """The inverse of `folded`."""
    return folded(kernel, bias, -means / deviations, 1 / deviations)
