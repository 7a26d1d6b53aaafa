"""What a folder of images and this machine suggest: size, classes, network, batch, steps."""

import dataclasses
import importlib.util
import math
import os
import statistics

from keras_umd.backend.devices import training_devices
from keras_umd.data.image_files import IMAGE_TYPES
from keras_umd.data.readers.folder import FolderSource
from keras_umd.models.umd import UMD
from keras_umd.training import small
from keras_umd.utils.checks import check_numbers, check_one_of, require
from keras_umd.utils.optional import import_optional

LOOKED_AT = 50  # images, for their size
SMALLEST, ON_CPU, ON_ACCELERATOR = 8, 32, 64  # pixels
NETWORK = ("hidden_dim", "num_layers", "decoder_layers", "num_heads")
PRESETS = ((200_000, "base"), (20_000, "small"))  # images from which on, with an accelerator
STEPS, STEPS_ON_ACCELERATOR = 3_000, 50_000
ROUND = 100
MANY = 20_000  # images
SHORT = 50_000  # steps, below which the paper's rate teaches next to nothing
PEAK = 1e-3
SMALL_METHOD = "umd_x0"  # that of `recipes.small`, which gave shapes where the paper's two heads gave mosaics


@dataclasses.dataclass(frozen=True)
class Folder:
    """What is in a folder of images.

    Args:
        num_images: Integer.
        class_names: List of strings, its sub-folders, or `None` where they are no classes.
        side: Integer, the shorter side of its images in pixels, in the middle of those looked at.
    """

    num_images: int
    class_names: list | None
    side: int

    def __str__(self):
        classes = "" if self.class_names is None else f" in {len(self.class_names)} classes"
        return f"{self.num_images:,} images{classes}, about {self.side} pixels"


def look_at(directory, labels=None, class_names=None):
    """Look at the names in a folder, and at the sizes of some images.

    Args:
        directory: String.
        labels: Bool, whether sub-folders are classes; `None` for yes where there are several and no image beside them.
        class_names: List of strings, the sub-folders to read, or `None` for all.
    """
    require(os.path.isdir(directory), "`images` must be a folder with images.", images=directory)
    if labels is None:
        labels = class_names is not None or _has_classes(directory)
    source = FolderSource(directory, labels, class_names if labels else None)
    step = max(1, len(source.paths) // LOOKED_AT)
    return Folder(len(source.paths), source.class_names, _side(source.paths[::step]))


def _has_classes(directory):
    entries = [entry for entry in os.scandir(directory) if not entry.name.startswith(".")]
    has_images = any(entry.name.lower().endswith(IMAGE_TYPES) and entry.is_file() for entry in entries)
    return not has_images and sum(entry.is_dir() for entry in entries) > 1


def _side(paths):
    """The median of the shorter sides; files that can't be read, which the reader counts later, don't count."""
    pillow = import_optional("PIL.Image", "Reading images needs Pillow: pip install 'keras-umd[data]'")
    sides = []
    for path in paths:
        try:
            with pillow.open(path) as image:
                sides.append(min(image.size))
        except Exception:
            continue
    return int(statistics.median_low(sides)) if sides else ON_CPU


def has_accelerator():
    return training_devices()[0] is not None


def for_pretraining(folder, settings):
    """Settings of a pre-training that aren't given: image size, network, batch size, base rate, steps.

    Args:
        folder: `Folder`.
        settings: Dictionary, those given.

    Returns:
        Dictionary.
    """
    check_numbers("(0, inf)", optional=True, minutes=settings.get("minutes"))
    is_large = has_accelerator() and folder.num_images >= PRESETS[-1][0]
    batch_size = settings.get("batch_size", min(256 if is_large else 32, folder.num_images))
    chosen = {"batch_size": batch_size, "labels": folder.class_names is not None}
    if folder.class_names is not None:
        chosen["class_names"] = folder.class_names
    is_timed = "minutes" in settings and not {"steps", "epochs"} & set(settings)
    if "preset" in settings:
        rule = "`minutes` times the networks of recipes.small; say `steps` or `epochs`, too, for a preset."
        require(not is_timed, rule, preset=settings["preset"])
        return chosen
    size = settings.get("image_size", _image_size(folder.side))
    patch_size = settings.get("patch_size") or small.choose_patch((size, size, settings.get("channels", 3)))
    chosen["image_size"] = size
    if is_timed:
        image_shape = (size, size, settings.get("channels", 3))
        return {**chosen, **_in_minutes(folder, settings, image_shape, patch_size, batch_size)}
    if is_large and not any(name in settings for name in ("method", *NETWORK)):
        name = next(name for num_images, name in PRESETS if folder.num_images >= num_images)
        return {**chosen, "preset": f"umd_{name}_patch{patch_size}_{size}"}
    steps = math.prod(epochs_and_steps(settings, folder.num_images // batch_size))
    network = small.choose_size(lambda size: steps, folder.num_images).settings()
    return {**chosen, "method": SMALL_METHOD, "patch_size": patch_size, **network}


def _in_minutes(folder, settings, image_shape, patch_size, batch_size):
    """The network, that of the settings if there is one, and its steps in `minutes`, from a few timed ones."""
    method = settings.get("method", SMALL_METHOD)
    check_one_of(tuple(UMD.presets), method=method)
    num_classes = None if folder.class_names is None else len(folder.class_names)
    task = {"image_shape": image_shape, "patch_size": patch_size, "num_classes": num_classes, **UMD.presets[method]()}
    seconds = 60.0 * settings["minutes"]
    print(f"Times a few steps, to know how many take {settings['minutes']:g} minutes")
    if any(name in settings for name in NETWORK):
        network = {**small.SIZES[0].settings(), **{name: settings[name] for name in NETWORK if name in settings}}
        steps = small.steps_within({**network, **task}, seconds, batch_size)
    else:
        size, steps = small.fitting(task, folder.num_images, seconds, batch_size)
        network = size.settings()
    return {"method": method, "patch_size": patch_size, **network, "steps": steps}


def _image_size(side):
    largest = ON_ACCELERATOR if has_accelerator() else ON_CPU
    return max(SMALLEST, min(largest, side) // 4 * 4)


def epochs_and_steps(settings, steps_per_epoch):
    """The epochs of a training, and their steps: as given, or as many as are known to give pictures.

    Few images are repeated to epochs of `ROUND` steps where the epochs aren't given: a checkpoint follows each. Where
    the steps are fewer than those of a pass over the images, there is one epoch of so many. Epochs aren't those of the
    images where steps are asked for that would become a twentieth more or fewer.
    """
    steps_per_epoch = settings.get("steps_per_epoch", steps_per_epoch)
    if "steps" not in settings and "epochs" in settings:
        return settings["epochs"], steps_per_epoch
    steps = settings.get("steps", STEPS_ON_ACCELERATOR if has_accelerator() else STEPS)
    if "steps_per_epoch" not in settings:
        steps_per_epoch = min(max(steps_per_epoch, ROUND), steps)  # no more than are asked for
    epochs = max(1, round(steps / steps_per_epoch))
    if "steps" in settings and "steps_per_epoch" not in settings and abs(epochs * steps_per_epoch / steps - 1) > 0.05:
        steps_per_epoch = round(steps / epochs)  # 150 steps are not 103, the whole batches of 3,312 images
    return epochs, steps_per_epoch


def loader(folder):
    """What reads the files of a folder: Python's threads suffice for few, and start at once."""
    return "python" if folder.num_images < MANY or not importlib.util.find_spec("tensorflow") else "tensorflow"


def base_learning_rate(total_steps, batch_size):
    """A rate at batch size 256 for short trainings; `None`, the paper's, for long ones."""
    return None if total_steps >= SHORT else round(min(8e-3, PEAK * 256 / batch_size), 6)


def average_decay(total_steps):
    """The decay of an average over the last fourteenth of the training."""
    return round(min(max(1 - 1 / (0.074 * total_steps + 1), 0.5), 0.9999), 4)
