"""Pictures: grids of images, reconstructions beside their originals, images on their way out of noise."""

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


def strips(frames, scale=1):
    """From noise to image, a row for each image, for `UMD.trajectory`.

    Args:
        frames: uint8 array of shape `(num_frames, n, height, width, channels)`.
        scale: Integer, as of `image_grid`.

    Returns:
        uint8 array of shape `(height, width, 3)`, with one column for each frame.
    """
    frames = np.asarray(frames)
    if frames.ndim != 5:
        raise ValueError(
            "`frames` must be of shape (num_frames, n, height, width, channels). "
            f"Received: frames of shape {frames.shape}"
        )
    rows = frames.swapaxes(0, 1).reshape(-1, *frames.shape[2:])
    return image_grid(rows, columns=len(frames), scale=scale)


def guidance_grid(model, labels, guidance_scales=(1.0, 2.0, 4.0), num_steps=(5, 20, 100), scale=1, **options):
    """What guidance and the number of steps do: the same noise and labels in each cell; needs the extra `plots`.

    Args:
        model: `UMD` with classes.
        labels: Int array `(n,)`, the labels of the images in every cell.
        guidance_scales: List of floats, one row each.
        num_steps: List of integers, one column each.
        scale: Integer, as of `image_grid`.
        **options: As of `UMD.generate`.

    Returns:
        uint8 array of shape `(height, width, 3)`, with captions.
    """
    options = {"seed": 0, **options}

    def cell(guidance_scale, steps):
        images = model.generate(labels, guidance_scale=guidance_scale, num_steps=steps, **options)
        return image_grid(images, scale=scale)

    cells = [[cell(guidance_scale, steps) for steps in num_steps] for guidance_scale in guidance_scales]
    rows = [f"guidance {guidance_scale:g}" for guidance_scale in guidance_scales]
    return _captioned(cells, rows, [f"{steps} steps" for steps in num_steps])


def _captioned(cells, row_names, column_names):
    """Pictures of one size, uint8 `(height, width, 3)`, in rows and columns with names, as one picture."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("Captions need matplotlib: pip install 'keras_umd[plots]'") from error
    height, width = cells[0][0].shape[:2]
    dpi = 100
    size = ((width + 20) * len(column_names) / dpi + 0.4, (height + 20) * len(row_names) / dpi + 0.4)
    figure = Figure(figsize=size, dpi=dpi, layout="constrained")
    axes = figure.subplots(len(row_names), len(column_names), squeeze=False)
    for row, row_name in enumerate(row_names):
        for column, column_name in enumerate(column_names):
            axis = axes[row, column]
            axis.imshow(cells[row][column])
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
            if row == 0:
                axis.set_title(column_name, fontsize=9)
            if column == 0:
                axis.set_ylabel(row_name, fontsize=9)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def save_image(path, image):
    """Save a uint8 image `(height, width, 3)` as a PNG file, making its folder; needs the extra `plots`."""
    try:
        from matplotlib import image as matplotlib_image
    except ImportError as error:
        raise ImportError("Saving pictures needs matplotlib: pip install 'keras_umd[plots]'") from error
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    matplotlib_image.imsave(path, image)
