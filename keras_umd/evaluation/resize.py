"""How images are resized for the Inception network: a matrix for the rows, and one for the columns."""

import numpy as np
from keras import ops

from keras_umd.utils.cubic import cubic_weights

RESIZE_MODES = ("tf1", "half_pixel", "clean")


def resize_images(images, new_size, mode):
    """Resize square or oblong images to `new_size` by `new_size` pixels.

    Args:
        images: Tensor `(batch, height, width, channels)` of known height and width; uint8, or floats in [0, 255].
        new_size: Integer.
        mode: As of `resize_matrix`.

    Returns:
        Float32 tensor `(batch, new_size, new_size, channels)`.

    Raises:
        ValueError: if height or width isn't known while a function is compiled.
    """
    height, width = images.shape[1:3]
    if height is None or width is None:
        raise ValueError(
            "Height and width must be known while a function is compiled. TensorFlow forgets them where one function "
            "(`predict` is one) meets several sizes; make a function, or a network, for each. "
            f"Received: images of shape {tuple(images.shape)}"
        )
    rows, columns = (ops.cast(resize_matrix(size, new_size, mode), "float32") for size in (height, width))
    images = ops.einsum("ph,bhwc->bpwc", rows, ops.cast(images, "float32"))
    images = ops.einsum("qw,bpwc->bpqc", columns, images)
    return ops.clip(images, 0.0, 255.0) if mode == "clean" else images  # a cubic overshoots


def resize_matrix(size, new_size, mode):
    """What each pixel of a line contributes to each pixel of the resized line.

    Args:
        size: Integer, pixels of the line.
        new_size: Integer, pixels of the result.
        mode: `"tf1"`, TensorFlow 1's `resize_bilinear`: linear between the two nearest pixels, however much the image
            shrinks, and shifted to the upper left, as pixels are points at their upper left corner. The FID paper and
            ADM have it. `"half_pixel"`, the same with pixels as squares: PyTorch's `interpolate`, and pytorch-fid.
            `"clean"`, Pillow's bicubic, which smooths where the image shrinks: clean-fid.

    Returns:
        Float64 array `(new_size, size)`; each row adds up to 1.

    Raises:
        ValueError: if `mode` is unknown.

    Reference:
        Parmar et al., "On Aliased Resizing and Surprising Subtleties in GAN Evaluation", 2022.
    """
    if mode not in RESIZE_MODES:
        raise ValueError(f"`mode` must be one of {RESIZE_MODES}. Received: mode={mode!r}")
    step = size / new_size
    pixels, new_pixels = np.arange(size)[None, :], np.arange(new_size)[:, None]
    centers = new_pixels * step if mode == "tf1" else (new_pixels + 0.5) * step - 0.5
    if mode != "clean":
        return np.maximum(1 - np.abs(pixels - np.clip(centers, 0, size - 1)), 0)
    return cubic_weights(np.abs(pixels - centers) / max(step, 1))
