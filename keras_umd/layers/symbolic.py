"""Output shapes and types of layers in functional models."""

import functools

import keras
import numpy as np


def output_spec_by_tracing(layer, *args, **kwargs):
    """Trace `layer.call`, as its `compute_output_spec`.

    Keras itself asks `compute_output_shape`, which it tells of tensors only and not of `num_outputs` or `read`, and
    takes all outputs for floats. The arguments without tensors are bound first: JAX would trace the numbers in a tuple.
    """
    fixed = {name: value for name, value in kwargs.items() if not any(map(_is_tensor, keras.tree.flatten(value)))}
    given = {name: value for name, value in kwargs.items() if name not in fixed}
    return _Call(functools.partial(layer.call, **fixed)).compute_output_spec(*args, **given)


class _Call(keras.Operation):
    def __init__(self, function):
        super().__init__()
        self.call = function


def _is_tensor(x):
    return isinstance(x, (keras.KerasTensor, np.ndarray)) or keras.ops.is_tensor(x)
