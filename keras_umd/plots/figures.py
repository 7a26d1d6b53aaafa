"""Pictures to and from matplotlib: figures as arrays, files, and the screen."""

import os

import numpy as np

from keras_umd.plots.grids import image_grid
from keras_umd.plots.picture import Picture
from keras_umd.utils.checks import check_paths, require
from keras_umd.utils.optional import import_optional

EXTRA = "matplotlib: pip install 'keras_umd[plots]'"


def new_figure(width, height):
    """A matplotlib figure of so many pixels; not pyplot's, which would keep every figure in memory."""
    figures = import_optional("matplotlib.figure", f"Captions and curves need {EXTRA}")
    return figures.Figure(figsize=(width / 100, height / 100), dpi=100, layout="constrained")


def rendered(figure):
    """The figure as a uint8 array of shape `(height, width, 3)`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy().view(Picture)


def check_picture(**pictures):
    """Raise a ValueError that names the first argument that is no uint8 picture `(height, width, 3)`."""
    for name, picture in pictures.items():
        shape, dtype = getattr(picture, "shape", ()), getattr(picture, "dtype", None)
        require(
            dtype == np.uint8 and len(shape) == 3 and shape[-1] == 3 and all(shape),
            f"`{name}` must be a uint8 array of shape (height, width, 3).",
            f"{name} of type {type(picture).__name__}, shape {tuple(shape)} and {dtype}",
        )


def save_image(path, image):
    """Save a uint8 image `(height, width, 1 or 3)` as a PNG file, making its folder; needs the extra `plots`.

    Example:

    >>> plots.save_image("pictures/first.png", images[0])
    """
    check_paths(path=path)
    require(os.fspath(path).lower().endswith(".png"), "`path` must end in .png.", path=path)
    require(
        getattr(image, "ndim", None) != 4,
        "`image` must be one image; `plots.image_grid(images)` makes one of several.",
        f"image of shape {tuple(getattr(image, 'shape', ()))}",
    )
    is_grey = getattr(image, "ndim", None) == 3 and image.shape[-1] == 1
    image = np.repeat(image, 3, axis=-1) if is_grey else image
    check_picture(image=image)
    matplotlib_image = import_optional("matplotlib.image", f"Saving pictures needs {EXTRA}")
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    matplotlib_image.imsave(path, image)


def show(picture, scale=1):
    """Show a picture, or images as a grid, in a notebook or a window; needs the extra `plots`.

    Example:

    >>> plots.show(model.generate(num_images=4, num_steps=5), scale=4)

    Args:
        picture: uint8 array of shape `(height, width, 3)`, or images `(n, height, width, 1 or 3)`.
        scale: Integer. Each pixel becomes `scale` x `scale` pixels.
    """
    plt = import_optional("matplotlib.pyplot", f"Showing pictures needs {EXTRA}")
    picture = np.asarray(picture)
    require(
        picture.ndim in (3, 4),
        "`picture` must be of shape (height, width, 3) or (n, height, width, 1 or 3).",
        f"picture of shape {picture.shape}",
    )
    picture = image_grid(picture if picture.ndim == 4 else picture[None], padding=int(picture.ndim == 4), scale=scale)
    height, width = picture.shape[:2]
    figure = plt.figure(figsize=(width / 100, height / 100), dpi=100)
    axis = figure.add_axes((0, 0, 1, 1))
    axis.imshow(picture, interpolation="nearest")
    axis.set_axis_off()
    plt.show()
    plt.close(figure)
