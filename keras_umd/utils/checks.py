"""Checks of arguments that several parts of the library share."""

import keras
import numpy as np

from keras_umd.backend import host_values


def require(condition, expected, received):
    """Raise a ValueError unless the condition holds.

    Args:
        condition: Bool.
        expected: String, a sentence that names the argument and says what is allowed.
        received: String, what it was.
    """
    if not condition:
        raise ValueError(f"{expected} Received: {received}")


def check_one_of(allowed, **values):
    """Raise a ValueError that names the first argument that is none of those `allowed`."""
    for name, value in values.items():
        require(value in allowed, f"`{name}` must be one of {allowed}.", f"{name}={value!r}")


def check_positive(**numbers):
    """Raise a ValueError that names the first argument that is no number above 0."""
    for name, number in numbers.items():
        require(number > 0, f"`{name}` must be positive.", f"{name}={number}")


def check_positive_integers(**values):
    """Raise a ValueError that names the first argument that is no integer of at least 1."""
    for name, value in values.items():
        require(is_between(value, 1, np.inf), f"`{name}` must be a positive integer.", f"{name}={value}")


def is_between(number, least, greatest):
    """Whether it is an integer from `least` to `greatest`."""
    return isinstance(number, (int, np.integer)) and least <= number <= greatest


def check_timesteps(timesteps, num_timesteps):
    """Check the noise level at which images are encoded, 0 for none."""
    if not is_between(timesteps, 0, num_timesteps):
        raise ValueError(f"`timesteps` must be an integer from 0 to {num_timesteps}. Received: timesteps={timesteps}")


def check_labels(labels, num_classes):
    """Raise a ValueError if `labels` are no class indices for a model of `num_classes` classes (`None`: no labels)."""
    if num_classes is None:
        raise ValueError(
            "The model has no classes and takes no labels; leave them out (dataset.map(lambda image, label: image)), "
            "or make a conditional model with `model.with_classes(num_classes)`. "
            f"Received: labels of shape {tuple(labels.shape)}"
        )
    shape, dtype = tuple(labels.shape), keras.backend.standardize_dtype(labels.dtype)
    if len(shape) not in (1, 2) or (len(shape) == 2 and shape[1] != 1) or "int" not in dtype:
        raise ValueError(
            "`labels` must be integer class indices of shape (batch,); turn one-hot labels into indices with argmax. "
            f"Received: labels of shape {shape} and type {dtype}"
        )
    values = host_values(labels)
    if values is not None and values.size and (values.min() < 0 or values.max() >= num_classes):
        raise ValueError(
            f"`labels` must lie in [0, {num_classes}), the model's classes. "
            f"Received: labels from {values.min()} to {values.max()}"
        )
