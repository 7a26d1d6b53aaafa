"""Pictures: grids of images, and reconstructions beside their originals."""

import math
import os

import numpy as np


def image_grid(images, columns=None, padding=1, scale=1):
    """Images side by side as one image.

    Args:
        images: uint8 array of shape `(n, height, width, channels)`, one or three channels.
        columns: Integer. Defaults to a square grid.
        padding: Integer. Pixels of white between images.
        scale: Integer. Each pixel becomes `scale` x `scale` pixels, so that small images can be looked at.

    Returns:
        uint8 array of shape `(height, width, 3)`.
    """
    images = np.asarray(images)
    if images.ndim != 4 or not len(images) or images.dtype != np.uint8 or images.shape[-1] not in (1, 3):
        raise ValueError(
            "`images` must be uint8 of shape (n, height, width, 1 or 3). "
            f"Received: images of shape {images.shape} and type {images.dtype}"
        )
    images = np.broadcast_to(images, (*images.shape[:3], 3)).repeat(scale, axis=1).repeat(scale, axis=2)
    n, height, width, _ = images.shape
    columns = math.ceil(math.sqrt(n)) if columns is None else columns
    rows = math.ceil(n / columns)
    cell_height, cell_width = height + padding, width + padding
    grid = np.full((rows * cell_height + padding, columns * cell_width + padding, 3), 255, "uint8")
    for i, image in enumerate(images):
        top, left = padding + i // columns * cell_height, padding + i % columns * cell_width
        grid[top : top + height, left : left + width] = image
    return grid


def reconstruction_grid(images, result, scale=1):
    """Rows of three for `UMD.reconstruct`: the original, what the model saw, what it filled in.

    Args:
        images: uint8 array of shape `(n, height, width, channels)`.
        result: What `reconstruct(images)` returned.
        scale: Integer, as of `image_grid`.

    Returns:
        uint8 array of shape `(height, width, 3)`, with one column for each image.
    """
    rows = np.concatenate([images, result["masked"], result["reconstruction"]])
    return image_grid(rows, columns=len(images), scale=scale)


def save_image(path, image):
    """Save a uint8 image `(height, width, 3)` as a PNG file, making its folder; needs the extra `plots`."""
    try:
        from matplotlib import image as matplotlib_image
    except ImportError as error:
        raise ImportError("Saving pictures needs matplotlib: pip install 'keras_umd[plots]'") from error
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    matplotlib_image.imsave(path, image)
