"""`keras-umd pretrain` and `keras-umd finetune`."""

import importlib.util
import os
import pathlib

import keras

from keras_umd import data
from keras_umd.commands import choices
from keras_umd.commands.common import chosen, enlargement, images_of, load_model, run_folder, tell
from keras_umd.evaluation.tracking import DrawReconstructions, DrawSamples
from keras_umd.models import UMD
from keras_umd.models.presets import preset_config
from keras_umd.models.reconstruction import pixel_target
from keras_umd.training import callbacks, recipes
from keras_umd.training.report import write_report
from keras_umd.utils.checks import check_one_of, require
from keras_umd_cli import config

DATA = ("batch_size", "labels", "area_range", "flip", "loader", "workers", "on_error", "max_bad_share", "seed")
NETWORK = ("patch_size", "hidden_dim", "num_layers", "num_heads", "decoder_layers", "scan_blocks", "remat", "dtype")
RUN = ("save_freq", "keep")
SHOWN = ("image_size", "preset", "patch_size", "hidden_dim", "num_layers", "batch_size", "epochs", "steps_per_epoch")
RESUME = {"true": True, "false": False, "force": "force"}
RECONSTRUCTED = 8


def pretrain(settings, dry_run=False):
    """Train a new model on a folder of images; with its classes, if it has any.

    Args:
        settings: Dictionary, as of `keras_umd_cli.tables`.
        dry_run: Bool.
    """
    settings = _of_run("pretrain", settings, f"runs/{_name(settings['images'])}")
    folder = choices.look_at(settings["images"], settings.get("labels"), settings.get("class_names"))
    settings = {**choices.for_pretraining(folder, settings), **settings}
    model_arguments = _model_arguments(settings, folder)
    settings.setdefault("image_size", model_arguments["image_shape"][0])
    settings = _settled(settings, folder, area_range=[0.8, 1.0])
    if tell("pretrain", settings, dry_run):
        return
    keras.utils.set_random_seed(settings["seed"])
    _train("pretrain", _new_model(settings, model_arguments), recipes.pretraining_optimizer, settings)


def finetune(settings, dry_run=False):
    """Train a model further for generation, with the classes of a folder.

    Args:
        settings: Dictionary, as of `keras_umd_cli.tables`.
        dry_run: Bool.
    """
    source = run_folder(settings["model"])
    settings = _of_run("finetune", settings, f"{source}-finetuned")
    before = config.of_run(source)
    settings = {**chosen(before, "images", "class_names"), **settings}
    require("images" in settings, "`images` is needed: the model's run has no config.toml that names a folder.", "none")
    folder = choices.look_at(settings["images"], settings.get("labels"), settings.get("class_names"))
    batch_size = before.get("batch_size", min(32, folder.num_images))
    settings = {"batch_size": batch_size, "labels": folder.class_names is not None, **settings}
    if folder.class_names is not None:
        settings["class_names"] = folder.class_names
    settings = _settled(settings, folder, area_range=[0.95, 1.0])
    if tell("finetune", settings, dry_run):
        return
    keras.utils.set_random_seed(settings["seed"])
    num_classes = None if folder.class_names is None else len(folder.class_names)
    model = load_model(settings["model"]).with_classes(num_classes, **chosen(settings, "label_dropout", "freeze"))
    _train("finetune", model, recipes.finetuning_optimizer, settings)


def _name(directory):
    return os.path.basename(os.path.abspath(directory)) or "run"


def _of_run(command, settings, directory):
    """The settings, with the folder of the run and, if there is a run, what it was begun with."""
    settings = {"directory": directory, "seed": 0, **settings}
    before = config.of_run(settings["directory"])
    if before.pop("command", None) == command and settings.get("resume", "true") == "true":
        # Few images are repeated, and then the run itself doesn't know its data.
        same = os.path.abspath(settings.get("images", before["images"])) == os.path.abspath(before["images"])
        require(
            same, f"The run in {settings['directory']} has other images: {before['images']}.", images=settings["images"]
        )
        print(f"{settings['directory']} holds a run: what isn't said now is as in its {config.CONFIG_FILE}")
        settings = {**before, **settings}
    return settings


def _model_arguments(settings, folder):
    """Constructor arguments of the network; those of a preset where nothing else is said."""
    arguments = chosen(settings, *NETWORK, "label_dropout", "seed")
    if folder.class_names is not None:
        arguments["num_classes"] = len(folder.class_names)
    channels = settings.get("channels", 3)
    size = settings.get("image_size")
    if size is None:
        size = preset_config(settings["preset"], UMD.presets)["image_shape"][0]
    return {**arguments, "image_shape": (size, size, channels)}


def _new_model(settings, arguments):
    if "preset" in settings:
        return UMD.from_preset(settings["preset"], **arguments)
    method = settings.get("method", "umd")
    check_one_of(tuple(UMD.presets), method=method)
    return UMD(**{**UMD.presets[method](), **arguments})


def _settled(settings, folder, area_range):
    """All settings of a training, which are printed: those given, and defaults for the others."""
    settings.setdefault("area_range", area_range)
    settings = _with_steps(settings, folder)
    guidance = 1.0 if folder.class_names is None else 2.0
    settings.setdefault("sampling", {"num_steps": 20, "sampler": "dpmpp_2m", "guidance": guidance})
    print(f"{settings['images']}: {folder}")
    shown = ", ".join(f"{name} {settings[name]}" for name in SHOWN if name in settings)
    print(f"Takes {shown}; writes into {settings['directory']}")
    return settings


def _with_steps(settings, folder):
    """Settings with epochs and a rate; steps are in the epochs then."""
    batch_size = settings["batch_size"]
    require(
        folder.num_images >= batch_size,
        f"An epoch must fill a batch; the folder has {folder.num_images} images.",
        batch_size=batch_size,
    )
    epochs, steps_per_epoch = choices.epochs_and_steps(settings, folder.num_images // batch_size)
    settings = {name: value for name, value in settings.items() if name != "steps"}
    settings["epochs"] = epochs
    if steps_per_epoch != folder.num_images // batch_size:
        settings["steps_per_epoch"] = steps_per_epoch
    if rate := choices.base_learning_rate(epochs * steps_per_epoch, batch_size):
        settings.setdefault("base_learning_rate", rate)
    return {"loader": choices.loader(folder), **settings}


class WriteConfig(keras.callbacks.Callback):
    """Writes the settings when the training begins: behind the callback that refuses the folder of another run."""

    def __init__(self, command, settings):
        super().__init__()
        self.command, self.settings = command, settings

    def on_train_begin(self, logs=None):
        settings = {name: value for name, value in self.settings.items() if name != "resume"}
        config.write(settings["directory"], self.command, settings)


def _train(command, model, recipe, settings):
    options = {**chosen(settings, *DATA), "image_size": model.image_shape[:2], "channels": model.image_shape[-1]}
    if settings["labels"]:
        options["class_names"] = settings["class_names"]
    options["area_range"] = tuple(options["area_range"])
    dataset = data.from_folder(settings["images"], **options)
    steps = settings.get("steps_per_epoch")
    total_steps = settings["epochs"] * (steps or len(dataset))
    rates = chosen(settings, "base_learning_rate", "weight_decay")
    model.compile(recipe(total_steps, settings["batch_size"], ema_decay=choices.average_decay(total_steps), **rates))
    directory = settings["directory"]
    resumed = {"dataset": None if steps else dataset, "resume": RESUME[settings.get("resume", "true")]}
    standard = callbacks.standard(directory, **resumed, **chosen(settings, *RUN))
    # The last of `standard` marks an epoch as finished, so that what looks at epochs stands before it.
    by_clock = [callbacks.StopAfter(settings["minutes"])] if "minutes" in settings else []
    all_callbacks = [*_monitor(model, settings), *by_clock, *standard, WriteConfig(command, settings)]
    dataset = dataset.repeat() if steps else dataset
    model.fit(dataset, epochs=settings["epochs"], steps_per_epoch=steps, callbacks=all_callbacks)
    print(f"The model is {pathlib.Path(directory, 'model.keras')}; the training is shown by {write_report(directory)}")
    follows = f"generate {directory}" if _can(model.prediction) else f"probe {directory} {settings['images']}"
    print(f"Next: keras-umd {follows}")


def _monitor(model, settings):
    """A callback that draws samples, reconstructions and curves; none where that isn't wanted or can't be."""
    if not settings.get("monitor", True) or model.image_shape[-1] not in (1, 3):
        return []
    if importlib.util.find_spec("matplotlib") is None:
        print("Without matplotlib, no pictures are drawn while it trains: pip install 'keras-umd[plots]'")
        return []
    scale = enlargement(model.image_shape)
    first = next(iter(images_of(settings["images"], model, RECONSTRUCTED, shuffle=True)))
    draw = {"num_images": 16, "scale": scale, **settings["sampling"]}
    # Many methods learn no noise, some no pixels: asked for such pictures, the first epoch would be the last.
    evaluations = [DrawSamples(**draw)] if _can(model.prediction) else []
    evaluations += [DrawReconstructions(first, scale=scale)] if _can(pixel_target, model) else []
    # Not by default as in Python: it imports TensorFlow, where that is installed, which takes seconds.
    tensorboard = settings.get("tensorboard", False)
    return [callbacks.Monitor(settings["directory"], evaluations, tensorboard=tensorboard)]


def _can(ask, *arguments):
    """Whether the model has learned what a question about it wants: `ValueError` is the answer of one that hasn't."""
    try:
        ask(*arguments)
    except ValueError:
        return False
    return True
