"""What several commands need: models from runs, labels by name, folders of images, telling instead of doing."""

import pathlib

import keras

from keras_umd import data
from keras_umd.data.image_dataset import ImageDataset
from keras_umd.models import UMD
from keras_umd.models.presets import SHIPPED
from keras_umd.utils.checks import require
from keras_umd.utils.preset_folder import CONFIG
from keras_umd_cli import config

MODEL_FILE = "model.keras"
SAMPLING = ("num_steps", "sampler", "guidance", "predict_from", "weights")


def chosen(settings, *names):
    """Those of the settings that are there, as arguments of a Python function."""
    return {name: settings[name] for name in names if name in settings}


def tell(command, settings, dry_run):
    """Print the settings of a command that only tells. Returns whether it is one."""
    if dry_run:
        print(f"keras-umd {command} would take:\n\n{config.dumps(settings)}".rstrip())
    return dry_run


def run_folder(path):
    """The folder of the run that a model is of: itself, or that of the file; of a preset, one of its name."""
    path = pathlib.Path(path)
    if not path.exists():
        return pathlib.Path("runs", path.name)
    return path if path.is_dir() else path.parent


def load_model(path):
    """The model in a run's folder, in a `.keras` file, or of a preset with weights."""
    file = pathlib.Path(path)
    is_shipped = not file.exists() and path.isidentifier() and (SHIPPED / path).is_dir()
    if (file / CONFIG).is_file() or is_shipped or "://" in path:
        return UMD.from_preset(path, load_weights=True)
    file = file / MODEL_FILE if file.is_dir() else file
    rule = f"A model is a .keras file, a run's folder with {MODEL_FILE}, or a preset with weights, such as umd_digits."
    require(file.is_file(), rule, model=path)
    model = keras.models.load_model(file, compile=False)
    require(isinstance(model, UMD), "The model must be a keras_umd.UMD.", model=model)
    return model


def sampling_options(settings):
    """Arguments of `generate`: those given, and below them those that the model's run recommends."""
    recommended = config.of_run(run_folder(settings["model"])).get("sampling", {})
    options = {**recommended, **chosen(settings, *SAMPLING)}
    if recommended:
        shown = ", ".join(f"{name} {value}" for name, value in options.items())
        print(f"Sampling, as the run recommends where nothing else is said: {shown}")
    return options


def label_indices(model, settings, num_images):
    """Class indices of so many images, in turn, from names or numbers; `None` without."""
    if "labels" not in settings:
        return None
    require(model.num_classes is not None, "The model has no classes.", labels=settings["labels"])
    names = config.of_run(run_folder(settings["model"])).get("class_names", [])
    indices = [_index(label, names, model.num_classes) for label in settings["labels"]]
    return [indices[i % len(indices)] for i in range(num_images)]


def _index(label, names, num_classes):
    if label in names:
        return names.index(label)
    is_index = label.isdigit() and int(label) < num_classes
    known = f"{', '.join(names[:20])} or " if names else ""
    require(is_index, f"`labels` must be of {known}0 to {num_classes - 1}.", labels=label)
    return int(label)


def images_of(folder, model, num_images=None, **options) -> ImageDataset:
    """The images of a folder, cropped in the middle as the model wants them, as a data set in order."""
    size, channels = model.image_shape[:2], model.image_shape[-1]
    options = {"labels": False, "batch_size": num_images or 64, "loader": "python", **options}
    return data.from_folder(folder, image_size=size, channels=channels, training=False, **options)


def enlargement(image_shape):
    """So many times as large are small images drawn."""
    return max(1, 96 // max(image_shape[:2]))
