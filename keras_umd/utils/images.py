"""Images as users have them: checked, scaled to a model's range, and back; the one place where this is done."""

import keras
import numpy as np
from keras import ops

from keras_umd.backend import host_values
from keras_umd.utils.checks import check_tensors, require

# Resizing may overshoot a little; a forgotten scaling is far beyond.
RANGE_TOLERANCE = 1e-2


def check_images(images, image_shape, value_range, must_be_finite=True, may_have_gaps=False):
    """Raise a ValueError that says what to do if `images` can't be a batch for a model of `image_shape`.

    Shape and type are always checked; the values only where they are in host memory.

    Args:
        images: Array or tensor.
        image_shape: Tuple `(*space, channels)`, with `None` for sizes that may be any.
        value_range: Pair of floats, or `None` for latents.
        must_be_finite: Bool. Whether values that aren't finite raise; a guard leaves the step out instead.
        may_have_gaps: Bool. Whether values may be NaN, where something is missing.
    """
    check_tensors(None, images=images)
    shape, dtype = tuple(images.shape), keras.backend.standardize_dtype(images.dtype)
    axes = {2: "length", 3: "height, width"}.get(len(image_shape), f"{len(image_shape) - 1} space axes")
    require(
        len(shape) == 1 + len(image_shape),
        f"`images` must be a batch of rank {1 + len(image_shape)}, (batch, {axes}, channels); add a batch axis to "
        "a single image with images[None].",
        f"images of shape {shape}",
    )
    require(
        all(None in sizes or sizes[0] == sizes[1] for sizes in zip(shape[1:], image_shape, strict=True)),
        f"The model takes images of shape (batch, {', '.join(map(str, image_shape))}), channels last; resize the "
        "images or build the model with another `image_shape`.",
        f"images of shape {shape}",
    )
    require(
        dtype != "uint8" or value_range is not None,
        "The model works on latents (value_range=None) and takes no uint8 images; encode them first.",
        "images of type uint8",
    )
    require(dtype == "uint8" or "float" in dtype, "`images` must be uint8 or float.", f"images of type {dtype}")
    values = None if dtype == "uint8" else host_values(images)
    if values is None or not values.size:
        return
    if may_have_gaps:
        values = values[~np.isnan(values)]
        if not values.size:
            return
    low, high = float(values.min()), float(values.max())
    if not (must_be_finite or np.isfinite(low + high)):
        return
    require(np.isfinite(low + high), "`images` must be finite.", "images with NaN or infinite values")
    if value_range is not None:
        slack = RANGE_TOLERANCE * (value_range[1] - value_range[0])
        require(
            low >= value_range[0] - slack and high <= value_range[1] + slack,
            f"Float images must lie in the model's value_range={tuple(value_range)}; scale them, or pass uint8 images, "
            "which are scaled inside.",
            f"images with values from {low:g} to {high:g}",
        )


def scale_images(images, value_range, given_range=None):
    """Images as float32 in the model's range.

    Args:
        images: Tensor. uint8 is mapped from 0..255 to `value_range`.
        value_range: Pair of floats, the model's; `None` for latents.
        given_range: Pair of floats, the range of float images where it isn't the model's.
    """
    given_range = (0.0, 255.0) if keras.backend.standardize_dtype(images.dtype) == "uint8" else given_range
    images = ops.cast(images, "float32")
    if given_range is None or tuple(given_range) == value_range:
        return images
    (low, high), (given_low, given_high) = value_range, given_range
    images = images if given_low == 0 else images - given_low
    return images * ((high - low) / (given_high - given_low)) + low


def are_in_range(images, value_range):
    """Whether all values of each float image lie in the range, a bool tensor `(batch,)`; also while traced."""
    low, high = value_range
    slack, axes = RANGE_TOLERANCE * (high - low), tuple(range(1, len(images.shape)))
    return ops.logical_and(ops.min(images, axis=axes) >= low - slack, ops.max(images, axis=axes) <= high + slack)


def to_uint8(images, value_range):
    """A float array in the model's range as uint8 images; the inverse of `scale_images`."""
    low, high = value_range
    return np.clip(np.round((np.asarray(images) - low) * (255.0 / (high - low))), 0, 255).astype("uint8")


def as_uint8(images, value_range):
    """`to_uint8` of a tensor, in a program."""
    low, high = value_range
    return ops.cast(ops.clip(ops.round((images - low) * (255.0 / (high - low))), 0, 255), "uint8")
