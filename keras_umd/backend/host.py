"""Host memory and the host's global state."""

import contextlib
import random

import keras
import numpy as np
from keras import ops

from keras_umd.backend.frameworks import jax, tf, torch
from keras_umd.backend.processes import to_numpy


def host_values(x):
    """Return the values of `x` as a NumPy array if they are in host memory now, else `None`.

    Symbolic and traced tensors have no values yet, and reading from an accelerator would stall it.
    """
    if isinstance(x, (np.ndarray, np.generic, list, tuple, int, float)):
        return np.asarray(x)
    if isinstance(x, keras.KerasTensor) or not hasattr(x, "dtype"):
        return None
    if jax:
        has_values = isinstance(x, jax.Array) and not isinstance(x, jax.core.Tracer)
        on_host = has_values and all(device.platform == "cpu" for device in x.devices())
    elif tf:
        on_host = tf.executing_eagerly() and hasattr(x, "numpy") and "GPU" not in getattr(x, "device", "")
    else:
        on_host = getattr(getattr(x, "device", None), "type", None) == "cpu"
    return np.asarray(ops.convert_to_numpy(x)) if on_host else None


def known_to_be_wrong(x):
    """Whether a value of `x` isn't finite; `False` where the values aren't known yet, while a function is traced."""
    if isinstance(x, np.ndarray):
        return not np.isfinite(x).all()
    is_traced = isinstance(x, jax.core.Tracer) if jax else tf and not tf.executing_eagerly()
    if is_traced or isinstance(x, keras.KerasTensor):
        return False
    return not bool(ops.convert_to_numpy(ops.all(ops.isfinite(x))))


@contextlib.contextmanager
def isolated_evaluation(model):
    """A context for evaluations within `fit`: restores the metrics and the global random states afterwards.

    Without it, `evaluate` would count in the metrics of the epoch, draws from the global generators of Python, NumPy or
    PyTorch would change how Keras shuffles the next epoch, and on PyTorch `predict` would end the training mode.
    """
    metrics = [(variable, np.array(to_numpy(variable))) for variable in model.metrics_variables]
    python_state, numpy_state = random.getstate(), np.random.get_state()
    is_training = torch and model.training
    with torch.random.fork_rng(devices=[]) if torch else contextlib.nullcontext():
        yield
    if torch:
        model.train(is_training)
    random.setstate(python_state)
    np.random.set_state(numpy_state)
    for variable, value in metrics:
        variable.assign(value)
