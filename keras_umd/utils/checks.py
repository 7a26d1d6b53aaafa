"""Checks of arguments that several parts of the library share: each names the argument, what is allowed, the value.

`True` is no integer and no number, `"False"` is no bool; NumPy's own numbers, and arrays without axes, are numbers.
"""

import os

import keras
import numpy as np
from keras import ops

from keras_umd.backend import host_values
from keras_umd.backend.host import known_to_be_wrong

# Sizes and counts above it overflow int32, which is what devices count with, and would never be reached.
MAX_COUNT = 2**31 - 1
SHOWN = 200  # characters of a value in a message


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
        received = (
            ", ".join(f"{name}={_shown(value)}" for name, value in values.items()) if received is None else received
        )
        raise ValueError(f"{rule} Received: {received}")


def _shown(value):
    text = repr(value) if isinstance(value, (str, bytes)) else str(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def is_integer(value):
    """Whether it is an integer of Python or NumPy, or an array of one without axes; a bool is none."""
    value = value[()] if isinstance(value, np.ndarray) and value.ndim == 0 else value
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def is_number(value):
    """Whether it is a finite number of Python or NumPy, or an array of one without axes; a bool is none."""
    value = value[()] if isinstance(value, np.ndarray) and value.ndim == 0 else value
    return is_integer(value) or (isinstance(value, (float, np.floating)) and bool(np.isfinite(value)))


def is_between(number, least, greatest):
    """Whether it is an integer from `least` to `greatest`."""
    return is_integer(number) and least <= number <= greatest


def is_size(number):
    """Whether it is a positive integer that a size or a count can be."""
    return is_between(number, 1, MAX_COUNT)


def is_list(values):
    """Whether it is a list, a tuple or an array of one axis."""
    return isinstance(values, (list, tuple)) or (isinstance(values, np.ndarray) and values.ndim == 1)


def is_pair(values, low=-np.inf, high=np.inf):
    """Whether it is a pair of numbers that rise and lie in `[low, high]`."""
    return is_list(values) and len(values) == 2 and all(map(is_number, values)) and low <= values[0] < values[1] <= high


def check_integers(least, greatest=MAX_COUNT, /, *, optional=False, **values):
    """Raise a ValueError that names the first argument that is no integer from `least` to `greatest`.

    Args:
        optional: Bool. Whether `None` is allowed.
    """
    for name, value in values.items():
        if (optional and value is None) or is_between(value, least, greatest):
            continue
        rule = {0: "an integer of at least 0", 1: "a positive integer"}.get(least)
        if rule is None or greatest != MAX_COUNT or (is_integer(value) and value > greatest):
            rule = f"an integer from {least} to {greatest}"
        require(False, f"`{name}` must be {rule}{' or None' if optional else ''}.", **{name: value})


def check_positive_integers(**values):
    """Raise a ValueError that names the first argument that is no integer of at least 1."""
    check_integers(1, **values)


def check_numbers(interval, /, *, optional=False, **values):
    """Raise a ValueError that names the first argument that is no finite number in an interval.

    Args:
        interval: String, such as `"[0, 1)"` or `"(0, inf)"`.
        optional: Bool. Whether `None` is allowed.
    """
    low, high = map(float, interval[1:-1].split(","))
    rule = {"(0, inf)": "be positive", "[0, inf)": "be at least 0", "(-inf, inf)": "be finite"}.get(interval)
    for name, value in values.items():
        if optional and value is None:
            continue
        is_inside = (
            is_number(value)
            and (low < value or (value == low and interval[0] == "["))
            and (value < high or (value == high and interval[-1] == "]"))
        )
        kind = "" if is_number(value) or isinstance(value, float) else "be a number and "
        none = " or be None" if optional else ""
        require(is_inside, f"`{name}` must {kind}{rule or f'lie in {interval}'}{none}.", **{name: value})


def check_decays(*, optional=False, **values):
    """Raise a ValueError that names the first argument that is no decay of an average, nor a list of them.

    A decay is a number in [0, 1), or a profile such as `PowerProfile`.
    """
    for name, value in values.items():
        for decay in value if is_list(value) else [value]:
            if hasattr(decay, "newest_weight") and not isinstance(decay, type):
                continue
            check_numbers("[0, 1)", optional=optional and not is_list(value), **{name: decay})


def check_bools(*, optional=False, **values):
    """Raise a ValueError that names the first argument that is neither `True` nor `False`."""
    for name, value in values.items():
        is_bool = isinstance(value, (bool, np.bool_)) or (optional and value is None)
        require(is_bool, f"`{name}` must be True or False{' or None' if optional else ''}.", **{name: value})


def check_one_of(allowed, **values):
    """Raise a ValueError that names the first argument that is none of those `allowed`."""
    for name, value in values.items():
        plain = value.item() if isinstance(value, np.generic) else value
        is_allowed = any(type(plain) is type(item) and plain == item for item in allowed)
        require(is_allowed, f"`{name}` must be one of {allowed}.", f"{name}={_shown(value)}")


def check_instances(kinds, description, /, *, optional=False, **values):
    """Raise a ValueError that names the first argument that is no object of a class.

    Args:
        kinds: Class or tuple of classes.
        description: String, what it must be, such as `"a keras_umd.UMD"`.
        optional: Bool. Whether `None` is allowed.
    """
    allowed = f"{description} or None" if optional else description.removesuffix(",")
    for name, value in values.items():
        is_instance = isinstance(value, kinds) or (optional and value is None)
        require(is_instance, f"`{name}` must be {allowed}.", **{name: value})


def as_numbers(*, finite=True, **values):
    """A number or an array-like of numbers, the one keyword, as a float64 array; a ValueError that names it if not.

    Args:
        finite: Bool. Whether NaN and infinity are refused.
    """
    ((name, value),) = values.items()
    try:
        array = np.asarray(ops.convert_to_numpy(value) if _type_of(value) else value)
    except ValueError:  # rows of several lengths
        array = np.asarray(None)
    is_right = array.dtype.kind in "iuf" and (not finite or bool(np.all(np.isfinite(array))))
    require(is_right, f"`{name}` must be {'finite ' if finite else ''}numbers.", **{name: value})
    return array.astype("float64")


def as_integers(least, greatest=MAX_COUNT, /, **values):
    """A list of integers, the one keyword, as an int64 array `(n,)`; a ValueError that names it if it is none."""
    ((name, value),) = values.items()
    array = as_numbers(**values) if is_list(value) or _type_of(value) else np.zeros((0, 0))
    is_right = array.ndim == 1 and np.all(array == np.round(array)) and np.all((least <= array) & (array <= greatest))
    require(is_right, f"`{name}` must be a list of integers from {least} to {greatest}.", **values)
    return array.astype("int64")


def check_tensors(rank, /, *, types=("float", "int", "bool"), **values):
    """Raise a ValueError that names the first argument that is no array or tensor of numbers with so many axes.

    Args:
        rank: Integer, or `None` for any number of axes.
        types: Tuple of strings, kinds of its type: `"float"`, `"int"` or `"bool"`.
    """
    for name, value in values.items():
        shape, dtype = getattr(value, "shape", None), _type_of(value)
        is_right = dtype is not None and any(kind in dtype for kind in types) and rank in (None, len(shape))
        axes = "" if rank is None else f" of rank {rank}"
        require(
            is_right,
            f"`{name}` must be an array or a tensor{axes} of type {' or '.join(types)}.",
            f"{name} of type {type(value).__name__}" + ("" if dtype is None else f", shape {tuple(shape)} and {dtype}"),
        )


def _type_of(value):
    """The name of the type of an array's or a tensor's numbers; `None` for anything else."""
    if getattr(value, "shape", None) is None or not hasattr(value, "dtype"):
        return None
    try:
        return keras.backend.standardize_dtype(value.dtype)
    except ValueError:  # strings and objects
        return None


def check_names(*, optional=False, **values):
    """Raise a ValueError that names the first argument that is no list of different strings."""
    for name, names in values.items():
        if optional and names is None:
            continue
        is_right = is_list(names) and len(names) and all(isinstance(item, str) for item in names)
        require(
            is_right and len(set(names)) == len(names),
            f"`{name}` must be a list of strings, each once.",
            **{name: names},
        )


def check_paths(**paths):
    """Raise a ValueError that names the first argument that is no path: a string that isn't empty, or a `PathLike`."""
    for name, path in paths.items():
        is_path = isinstance(path, (str, os.PathLike)) and os.fspath(path)
        require(is_path, f"`{name}` must be a path, a string or a pathlib.Path.", **{name: path})


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
    check_integers(0, num_timesteps, timesteps=timesteps)


def _remedy(shape, dtype):
    """What to do with labels that are no class indices."""
    if len(shape) == 0:
        return "put a single one into a list"
    if len(shape) > 1:
        return "turn one-hot labels into indices with argmax"
    if "float" in dtype or "bool" in dtype:
        return 'labels.astype("int32") makes integers of them'
    return "np.unique(labels, return_inverse=True)[1] makes indices of names"


def check_labels(labels, num_classes, may_lack=False):
    """Raise a ValueError if `labels` are no class indices for a model of `num_classes` classes (`None`: no labels).

    With `may_lack`, -1 says that an image has none.
    """
    require(
        num_classes is not None,
        "The model has no classes and takes no labels; leave them out (dataset.map(lambda image, label: image)), "
        "or make a conditional model with `model.with_classes(num_classes)`.",
        f"labels of shape {tuple(labels.shape)}",
    )
    shape, dtype = tuple(labels.shape), _type_of(labels) or str(labels.dtype)
    require(
        (len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)) and "int" in dtype,
        f"`labels` must be integer class indices of shape (batch,); {_remedy(shape, dtype)}.",
        f"labels of shape {shape} and type {dtype}",
    )
    values = host_values(labels)
    if values is not None and values.size:
        require(
            values.min() >= (-1 if may_lack else 0) and values.max() < num_classes,
            f"`labels` must lie in [0, {num_classes}), the model's classes{', or be -1 for none' * may_lack}.",
            f"labels from {values.min()} to {values.max()}",
        )
