"""The arrays of another codebase's file, compared with those that a network needs before one is made."""

import os

import numpy as np

from keras_umd.utils.checks import require
from keras_umd.weights.files import read_weights


def arrays_of(source):
    """The arrays by name, of a file or of a dictionary of arrays.

    Args:
        source: String or path, as of `read_weights`, or dictionary of arrays.
    """
    is_path = isinstance(source, (str, os.PathLike)) and os.fspath(source)
    is_dictionary = isinstance(source, dict) and source and all(isinstance(name, str) for name in source)
    require(
        is_path or (is_dictionary and all(hasattr(value, "shape") for value in source.values())),
        "`source` must be the path of a file of weights, or a dictionary of arrays.",
        source=type(source).__name__ if isinstance(source, dict) else source,
    )
    if is_path:
        return read_weights(source)
    return {name: np.asarray(value) for name, value in source.items()}


def check_not_taken(overrides, own):
    """Raise a ValueError for arguments that the file decides.

    Args:
        overrides: Dictionary of the arguments that were given.
        own: Names of those that the file decides.
    """
    taken = sorted(set(own) & set(overrides))
    require(not taken, "These arguments are the file's own, and can't be replaced.", taken)


def checked(arrays, shapes, what, reasons=None):
    """The arrays that `shapes` asks for, as float32.

    Args:
        arrays: Dictionary of arrays.
        shapes: Dictionary, the shape of every array that there must be.
        what: String, what the file must hold, for errors.
        reasons: Function from the name of an unknown entry to a string that says why it is refused, or `None`.

    Raises:
        ValueError: naming every entry that is missing, unknown, of another shape or not finite.
    """
    problems = [f"missing: {name}" for name in shapes if name not in arrays]
    for name, array in arrays.items():
        if name not in shapes:
            reason = reasons(name) if reasons else None
            problems.append(f"unknown: {name}" + (f" ({reason})" if reason else ""))
        elif tuple(array.shape) != tuple(shapes[name]):
            problems.append(f"shape of {name}: {tuple(array.shape)} instead of {tuple(shapes[name])}")
        elif not is_finite(array):
            problems.append(f"no finite numbers: {name}")
    if problems:
        raise ValueError(f"The weights aren't those of {what}.\n" + "\n".join(sorted(problems)))
    return {name: arrays[name].astype("float32") for name in shapes}


def is_finite(array):
    """Whether an array of any type holds numbers, all of them finite."""
    try:
        return bool(np.isfinite(np.asarray(array).astype("float32")).all())
    except (TypeError, ValueError):  # texts
        return False
