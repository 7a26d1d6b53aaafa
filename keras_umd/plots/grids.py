"""Grids of images as one image, in NumPy: side by side, reconstructions under their originals, images out of noise."""

import math

import numpy as np

from keras_umd.plots.picture import Picture
from keras_umd.utils.checks import check_integers, check_tensors, require

MAX_SIDE = 1000  # columns, and pixels of padding and scale: a picture of more could not be shown


def image_grid(images, columns=None, padding=1, scale=1):
    """Place images side by side in one picture.

    Example:

    >>> plots.image_grid(images[:6], columns=3, scale=2).shape    # a notebook shows it
    (35, 52, 3)

    Args:
        images: uint8 array of shape `(n, height, width, channels)`, one or three channels.
        columns: Integer. Defaults to a square grid.
        padding: Integer. Pixels of white between images.
        scale: Integer. Each pixel becomes `scale` x `scale` pixels, to enlarge small images.

    Returns:
        uint8 array of shape `(height, width, 3)`.
    """
    check_integers(1, MAX_SIDE, scale=scale)
    check_integers(1, MAX_SIDE, optional=True, columns=columns)
    check_integers(0, MAX_SIDE, padding=padding)
    images = np.asarray(images)
    require(
        images.ndim == 4 and len(images) and images.dtype == np.uint8 and images.shape[-1] in (1, 3),
        "`images` must be uint8 of shape (n, height, width, 1 or 3).",
        f"images of shape {images.shape} and type {images.dtype}",
    )
    images = np.broadcast_to(images, (*images.shape[:3], 3)).repeat(scale, axis=1).repeat(scale, axis=2)
    n, height, width, _ = images.shape
    columns = math.ceil(math.sqrt(n)) if columns is None else columns
    rows = math.ceil(n / columns)
    cells = np.full((rows, columns, padding + height, padding + width, 3), 255, "uint8")
    cells.reshape(-1, *cells.shape[2:])[:n, padding:, padding:] = images
    grid = cells.swapaxes(1, 2).reshape(rows * cells.shape[2], columns * cells.shape[3], 3)
    return np.pad(grid, ((0, padding), (0, padding), (0, 0)), constant_values=255).view(Picture)


def reconstruction_grid(images, result, scale=1):
    """Place originals, masked images and reconstructions in three rows.

    Example:

    >>> result = model.reconstruct(images[:4], mask_ratio=0.5)
    >>> plots.save_image("filled_in.png", plots.reconstruction_grid(images[:4], result, scale=4))

    Args:
        images: uint8 array of shape `(n, height, width, channels)`.
        result: Dictionary, as returned by `UMD.reconstruct(images)`.
        scale: Integer, as in `image_grid`.

    Returns:
        uint8 array of shape `(height, width, 3)`, one column an image.
    """
    is_result = isinstance(result, dict) and {"masked", "reconstruction"} <= set(result)
    require(is_result, "`result` must be what `UMD.reconstruct(images)` returned.", result=result)
    rows = {"images": images, "masked": result["masked"], "reconstruction": result["reconstruction"]}
    check_tensors(4, **rows)
    shapes = {name: tuple(row.shape) for name, row in rows.items()}
    require(
        len(set(shapes.values())) == 1,
        "`images` and those in `result` must have one shape.",
        f"images and result of {shapes}",
    )
    return image_grid(np.concatenate(list(rows.values())), columns=len(images), scale=scale)


def strips(frames, scale=1):
    """Place the states of sampling from noise to image side by side, one row an image.

    Example:

    >>> frames = model.trajectory([0, 1, 2], num_frames=4, num_steps=6)
    >>> plots.save_image("way.png", plots.strips(frames, scale=4))

    Args:
        frames: uint8 array of shape `(num_frames, n, height, width, channels)`, as returned by `UMD.trajectory`.
        scale: Integer, as in `image_grid`.

    Returns:
        uint8 array of shape `(height, width, 3)`, one column a frame.
    """
    frames = np.asarray(frames)
    require(
        frames.ndim == 5 and len(frames) > 0,
        "`frames` must be of shape (num_frames, n, height, width, channels).",
        f"frames of shape {frames.shape}",
    )
    return image_grid(frames.swapaxes(0, 1).reshape(-1, *frames.shape[2:]), columns=len(frames), scale=scale)
