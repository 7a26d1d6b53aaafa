"""`keras-umd generate` and `keras-umd inpaint`."""

import pathlib

import keras
import numpy as np

from keras_umd import plots
from keras_umd.commands.common import (
    chosen,
    enlargement,
    images_of,
    label_indices,
    load_model,
    run_folder,
    sampling_options,
    tell,
)
from keras_umd.sampling.files import generate_to
from keras_umd.utils.checks import require

SHOWN, MAX_COLUMNS = 100, 20  # images in a picture


def generate(settings, dry_run=False):
    """Generate images into a folder, and draw a picture of the first ones.

    Args:
        settings: Dictionary, as of `keras_umd_cli.tables`.
        dry_run: Bool.
    """
    directory = str(run_folder(settings["model"]) / "samples")
    settings = {"num_images": 16, "batch_size": 64, "seed": 0, "format": "png", "directory": directory, **settings}
    options = sampling_options(settings)
    if tell("generate", {**settings, **options}, dry_run):
        return
    model = load_model(settings["model"])
    labels = label_indices(model, settings, settings["num_images"])
    options |= chosen(settings, "num_images", "batch_size", "format", "seed")
    path = generate_to(
        model,
        settings["directory"],
        labels="balanced" if labels is None else labels,
        verbose=True,
        **options,
    )
    print(f"{settings['num_images']} images are in {path}")
    if not model.is_latent and model.image_shape[-1] in (1, 3):
        _draw(settings["directory"], _first(path, model), model, _columns(settings, model))


def _columns(settings, model):
    """A column for each class, where they are few; `None` for a square."""
    columns = len(settings.get("labels", range(model.num_classes or 1)))
    return columns if 1 < columns <= min(MAX_COLUMNS, settings["num_images"]) else None


def _first(path, model):
    """The first of the images that `generate_to` wrote, uint8."""
    path = pathlib.Path(path)
    if path.suffix == ".npz":
        return np.load(path)["arr_0"][:SHOWN]
    mode = "grayscale" if model.image_shape[-1] == 1 else "rgb"
    files = sorted(path.glob("[0-9]*.png"))[:SHOWN]
    images = [np.asarray(keras.utils.load_img(file, color_mode=mode)) for file in files]
    return np.stack(images).reshape(-1, *model.image_shape)


def _draw(directory, images, model, columns=None):
    picture = pathlib.Path(directory, "grid.png")
    plots.save_image(picture, plots.image_grid(images, columns=columns, scale=enlargement(model.image_shape)))
    print(f"A picture of them: {picture}")


def inpaint(settings, dry_run=False):
    """Generate a part of the images of a folder.

    Args:
        settings: Dictionary, as of `keras_umd_cli.tables`.
        dry_run: Bool.
    """
    directory = str(run_folder(settings["model"]) / "inpainted")
    settings = {"num_images": 8, "seed": 0, "directory": directory, **settings}
    parts = chosen(settings, "mask", "box")
    require(len(parts) == 1, "Either `mask` or `box` says what to generate.", parts or "neither")
    options = sampling_options(settings)
    if tell("inpaint", {**settings, **options}, dry_run):
        return
    model = load_model(settings["model"])
    require(not model.is_latent, "Latents have no picture to complete.", model=model)
    images = next(iter(images_of(settings["images"], model, settings["num_images"])))
    mask = _mask(settings, model.image_shape[:2])
    labels = label_indices(model, settings, len(images))
    if labels is None and "guidance" not in settings:
        options.pop("guidance", None)  # the run's is towards labels
    options |= chosen(settings, "batch_size", "seed")
    completed = model.inpaint(images, mask, labels, **options)
    folder = pathlib.Path(settings["directory"])
    for i, image in enumerate(completed):
        plots.save_image(folder / f"{i:06}.png", plots.image_grid(image[None], padding=0))
    print(f"{len(completed)} images are in {folder}")
    seen = np.where(mask, np.uint8(127), images)
    _draw(folder, np.concatenate([images, seen, completed]), model, columns=len(images))


def _mask(settings, size):
    """Bool array `(1, height, width, 1)`, `True` where to generate."""
    if "mask" in settings:
        picture = keras.utils.load_img(settings["mask"], color_mode="grayscale", target_size=size)
        return (np.asarray(picture) > 127)[None, ..., None]
    top, left, height, width = settings["box"]
    require(
        min(top, left) >= 0 and min(height, width) > 0 and max(top + height, left + width) <= 1,
        "`box` must be top, left, height and width, within 0 and 1.",
        box=settings["box"],
    )
    mask = np.zeros((1, *size, 1), bool)
    rows, columns = (
        slice(round(start * length), round((start + share) * length))
        for start, share, length in zip((top, left), (height, width), size, strict=True)
    )
    mask[:, rows, columns] = True
    require(mask.any(), "`box` must have at least one pixel.", box=settings["box"])
    return mask
