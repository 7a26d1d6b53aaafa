"""`keras-umd probe` and `keras-umd evaluate`: tables, whose cards `keras-umd runs` reads."""

import os
import pathlib

import keras
import numpy as np

from keras_umd import evaluation
from keras_umd.commands import choices
from keras_umd.commands.common import chosen, images_of, load_model, run_folder, sampling_options, tell
from keras_umd.utils.checks import require


def probe(settings, dry_run=False):
    """Score the features of a model on labelled images.

    Args:
        settings: Dictionary, as of `keras_umd_cli.tables`.
        dry_run: Bool.
    """
    settings = {"batch_size": 256, "probes": ["few-shot"], **settings}
    settings.setdefault("directory", str(run_folder(settings["model"]) / "results"))
    if "test" not in settings:
        settings.setdefault("validation_split", 0.2)
    if tell("probe", settings, dry_run):
        return
    model = load_model(settings["model"])
    train, test = _two_sets(settings, model)
    probes = [_probe(name, settings, train[1]) for name in settings["probes"]]
    extractor = model.feature_extractor(**chosen(settings, "pooling", "layer", "timesteps", "weights"), seed=0)
    table = evaluation.evaluate_features(extractor, (train, test), probes, batch_size=settings["batch_size"])
    _write(table, settings["directory"], "probe")


def _two_sets(settings, model):
    """Images and labels to train the probes on, and others to test them on."""
    for name in ("images", "test"):
        folder = settings.get(name)
        if folder is not None and os.path.isdir(folder):
            has_classes = any(entry.is_dir() for entry in os.scandir(folder))
            require(has_classes, f"`{name}` must have a sub-folder of images for each class.", **{name: folder})
    options = {"labels": True, "batch_size": settings["batch_size"]}
    if "test" in settings:
        train = images_of(settings["images"], model, **options)
        test = images_of(settings["test"], model, class_names=train.class_names, **options)
    else:
        split = {"validation_split": settings["validation_split"], **options}
        train, test = (
            images_of(settings["images"], model, subset=part, **split) for part in ("training", "validation")
        )
    return train.as_arrays(verbose=False), test.as_arrays(verbose=False)


def _probe(name, settings, labels):
    if name == "knn":
        return evaluation.KNNProbe(min(settings.get("k", 20), len(labels)))
    if name == "linear":
        return evaluation.LinearProbe()
    if name == "ridge":
        return evaluation.FewShotProbe(None)
    shots, fewest = settings.get("shots", 10), int(np.unique(labels, return_counts=True)[1].min())
    if fewest < shots:
        print(f"A class has {fewest} training images: takes shots {fewest}, not {shots}")
    return evaluation.FewShotProbe(min(shots, fewest))


def _write(table, directory, name):
    path = pathlib.Path(directory, f"{name}.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    table.save(path)
    print(f"{table}\n\nTheir cards are in {path}")


def evaluate(settings, dry_run=False):
    """Score generated images, or those of a file, against real ones.

    Args:
        settings: Dictionary, as of `keras_umd_cli.tables`.
        dry_run: Bool.
    """
    settings = {"num_images": 50_000, "batch_size": 64, "seed": 0, **settings}
    settings.setdefault("directory", str(run_folder(settings["model"]) / "results"))
    require(
        "network" in settings, "`network` is needed, whose features are compared: FID's Inception, or your own.", "none"
    )
    options = sampling_options(settings)
    if tell("evaluate", {**settings, **options}, dry_run):
        return
    model, network = load_model(settings["model"]), _network(settings["network"])
    reference = _reference(settings, model, network)
    how = {"metrics": settings.get("metrics"), "batch_size": settings["batch_size"]}
    if "images" in settings:
        scores = evaluation.evaluate_images(settings["images"], reference, network, **how)
    else:
        seed, num_images = settings["seed"], settings["num_images"]
        scores = evaluation.evaluate_generator(model, reference, network, num_images, seed=seed, **how, **options)
    _write(evaluation.Table([scores]), settings["directory"], "evaluate")


def _network(path):
    require(os.path.isfile(path), "`network` must be a file.", network=path)
    return keras.models.load_model(path) if path.endswith(".keras") else evaluation.FIDInception(path)


def _reference(settings, model, network):
    path = settings["reference"]
    if path.endswith(".npz"):
        return evaluation.Reference.load(path)
    folder = choices.look_at(path, labels=False)
    print(f"{path}: {folder}")
    images = images_of(path, model, batch_size=settings["batch_size"])
    return evaluation.Reference.of(network, images)
