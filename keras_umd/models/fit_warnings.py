"""Warnings before a training that would run, and teach nothing or not what was meant."""

import warnings

import keras
import numpy as np
from keras import ops

from keras_umd.backend import host_values

NO_RATE = 1e-12
LARGEST, NARROWEST = 2.0, 0.5  # beyond these, noise of deviation 1 drowns images, or never hides them


def before_training(model):
    """Warn of a value range that noise doesn't fit, and of a learning rate that has come to its end."""
    _warn_of_range(model)
    of_rate(model)


def _warn_of_range(model):
    if model.value_range is None or all(view.noise is None for view in model.corruption.views):
        return
    low, high = model.value_range
    if max(abs(low), abs(high)) > LARGEST or high - low < NARROWEST:
        warnings.warn(
            f"Noise has a deviation of 1, and the images that it is added to lie in value_range={model.value_range}: "
            "the noise schedule means something else there, and samples will be poor. Build the model with value_range="
            "(-1, 1), the default; uint8 images are scaled inside, floats must be scaled first.",
            stacklevel=5,
        )


def of_rate(model):
    """Warn of a learning rate that has come to its end."""
    optimizer = getattr(model, "optimizer", None)  # Keras refuses to train without
    if optimizer is None or not optimizer.built:
        return
    step, rate = (float(ops.convert_to_numpy(value)) for value in (optimizer.iterations, optimizer.learning_rate))
    if step > 0 and rate <= NO_RATE:  # a warm-up begins at 0, too
        warnings.warn(
            f"The learning rate is {rate:g} after {step:.0f} steps: its schedule has ended, and nothing will be "
            "learned. Compile the model with a new optimizer, made for the steps to come.",
            stacklevel=5,
        )


def on_images(images, value_range):
    """Warn of float images that were scaled to [0, 1], for a model of another range."""
    if value_range is None or value_range[0] >= 0 or keras.backend.standardize_dtype(images.dtype) == "uint8":
        return
    values = host_values(images)
    if values is None or not values.size:
        return
    low, high = float(np.min(values)), float(np.max(values))
    if 0 <= low < high <= 1:
        warnings.warn(
            f"All values of the images lie in [{low:g}, {high:g}], which looks like a scaling to [0, 1], while the "
            f"model takes floats in value_range={tuple(value_range)}: scale them to that, or pass uint8 images, "
            "which are scaled inside.",
            stacklevel=5,
        )


def on_missing_labels(model):
    """Warn of images without labels for a model that has classes."""
    if model.num_classes is not None:
        warnings.warn(
            f"The model has {model.num_classes} classes and the data have no labels, so that nothing is learned of "
            "classes, and `generate(labels)` won't heed them. Pass labels, fit(images, labels), or train a model "
            "without classes, num_classes=None.",
            stacklevel=5,
        )


def on_place(x, callbacks):
    """Warn of callbacks that keep a run, but not the place in the data of `keras_umd.data` that are trained on."""
    if not hasattr(x, "state_after") or getattr(x, "is_repeated", False):
        return
    for callback in callbacks:
        if hasattr(callback, "save_freq") and getattr(callback, "dataset", x) is not x:
            warnings.warn(
                "The run's callbacks don't know the data set that `fit` gets, so that an epoch that is stopped will be "
                "repeated from its first batch: pass it, callbacks.standard(directory, dataset=...). Received: "
                f"dataset={callback.dataset}",
                stacklevel=4,
            )
