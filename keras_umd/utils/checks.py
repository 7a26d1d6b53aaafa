"""Checks of arguments that several parts of the library share."""

import keras
import numpy as np

from keras_umd.backend import host_values
from keras_umd.backend.host import known_to_be_wrong


def require(condition, rule, received=None, **values):
    """Raise a ValueError that says what is allowed and what was received, unless a condition holds.

    Example:

    >>> require(0 <= eta <= 1, "`eta` must lie in [0, 1].", eta=eta)
    ValueError: `eta` must lie in [0, 1]. Received: eta=2

    Args:
        condition: Bool.
        rule: String, what is allowed.
        received: String, what was received. Defaults to the names and values of `values`.
        **values: Whatever was received. They are formatted only where the condition fails, as large arrays should be.
    """
    if not condition:
        shown = (f"{name}={value!r}" if isinstance(value, str) else f"{name}={value}" for name, value in values.items())
        raise ValueError(f"{rule} Received: {', '.join(shown) if received is None else received}")


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
        require(is_between(value, 1, np.inf), f"`{name}` must be a positive integer.", **{name: value})


def is_between(number, least, greatest):
    """Whether it is an integer from `least` to `greatest`."""
    return isinstance(number, (int, np.integer)) and least <= number <= greatest


def check_finite(values, what):
    """Return `values`, an array or tensor, or raise a ValueError if they aren't finite: black images, or a false score.

    Args:
        what: String, what they are, for the error: `"samples"`.
    """
    if known_to_be_wrong(values):
        raise ValueError(
            f"The {what} of the model aren't finite; load weights from before its training diverged, or look for NaN "
            f"in them (model.get_weights()). Received: {what} of shape {tuple(values.shape)}, with NaN or infinity"
        )
    return values


def check_timesteps(timesteps, num_timesteps):
    """Check the noise level at which images are encoded, 0 for none."""
    require(
        is_between(timesteps, 0, num_timesteps),
        f"`timesteps` must be an integer from 0 to {num_timesteps}.",
        timesteps=timesteps,
    )


def check_labels(labels, num_classes):
    """Raise a ValueError if `labels` are no class indices for a model of `num_classes` classes (`None`: no labels)."""
    require(
        num_classes is not None,
        "The model has no classes and takes no labels; leave them out (dataset.map(lambda image, label: image)), "
        "or make a conditional model with `model.with_classes(num_classes)`.",
        f"labels of shape {tuple(labels.shape)}",
    )
    shape, dtype = tuple(labels.shape), keras.backend.standardize_dtype(labels.dtype)
    require(
        (len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)) and "int" in dtype,
        "`labels` must be integer class indices of shape (batch,); turn one-hot labels into indices with argmax.",
        f"labels of shape {shape} and type {dtype}",
    )
    values = host_values(labels)
    if values is not None and values.size:
        require(
            values.min() >= 0 and values.max() < num_classes,
            f"`labels` must lie in [0, {num_classes}), the model's classes.",
            f"labels from {values.min()} to {values.max()}",
        )
