"""Resizing of images for the Inception network: a matrix for the rows, and one for the columns."""

import numpy as np
from keras import ops

from keras_umd.utils.checks import check_one_of, require
from keras_umd.utils.cubic import cubic_weights

RESIZE_MODES = ("tf1", "half_pixel", "clean")


def resize_images(images, new_size, mode):
    """Resize images to `new_size` by `new_size` pixels.

    Args:
        images: Tensor `(batch, height, width, channels)` of static height and width; uint8, or floats in [0, 255].
        new_size: Integer.
        mode: As in `resize_matrix`.

    Returns:
        Float32 tensor `(batch, new_size, new_size, channels)`.

    Raises:
        ValueError: if height or width isn't static.
    """
    height, width = images.shape[1:3]
    require(
        height is not None and width is not None,
        "Height and width must be static shapes. TensorFlow relaxes them where one function (such as `predict`) "
        "is traced for several sizes; use a function, or a network, for each.",
        f"images of shape {tuple(images.shape)}",
    )
    rows, columns = (ops.cast(resize_matrix(size, new_size, mode), "float32") for size in (height, width))
    images = ops.einsum("ph,bhwc->bpwc", rows, ops.cast(images, "float32"))
    images = ops.einsum("qw,bpwc->bpqc", columns, images)
    return ops.clip(images, 0.0, 255.0) if mode == "clean" else images  # cubic interpolation overshoots


def resize_matrix(size, new_size, mode):
    """The weights of the pixels of a line in each pixel of the resized line.

    Args:
        size: Integer, pixels of the line.
        new_size: Integer, pixels of the result.
        mode: String. `"tf1"`, TensorFlow 1's `resize_bilinear`, in the FID paper and ADM: without antialiasing, and
            with pixel centres at integers, which shifts the image. `"half_pixel"`, the same with pixel centres at
            halves: PyTorch's `interpolate`, in pytorch-fid. `"clean"`, Pillow's antialiased bicubic, in clean-fid.

    Returns:
        Float64 array `(new_size, size)`; each row sums to 1.

    Raises:
        ValueError: if `mode` is unknown.

    Reference:
        Parmar et al., "On Aliased Resizing and Surprising Subtleties in GAN Evaluation", 2022.
    """
    check_one_of(RESIZE_MODES, mode=mode)
    step = size / new_size
    pixels, new_pixels = np.arange(size)[None, :], np.arange(new_size)[:, None]
    centers = new_pixels * step if mode == "tf1" else (new_pixels + 0.5) * step - 0.5
    if mode != "clean":
        return np.maximum(1 - np.abs(pixels - np.clip(centers, 0, size - 1)), 0)
    return cubic_weights(np.abs(pixels - centers) / max(step, 1))
