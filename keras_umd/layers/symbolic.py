"""The base of all layers: their config, and their output shapes and types in functional models."""

import functools

import keras
import numpy as np

from keras_umd.utils.configurable import Configurable


def output_spec_by_tracing(layer, *args, **kwargs):
    """Trace `layer.call`, as its `compute_output_spec`.

    Keras itself asks `compute_output_shape`, which it tells of tensors only and not of `num_outputs` or `read`, and
    takes all outputs for floats. The arguments without tensors are bound first: JAX would trace the numbers in a tuple.
    """
    fixed = {name: value for name, value in kwargs.items() if not any(map(_is_tensor, keras.tree.flatten(value)))}
    given = {name: value for name, value in kwargs.items() if name not in fixed}
    operation = keras.Operation()
    operation.call = functools.partial(layer.call, **fixed)
    return operation.compute_output_spec(*args, **given)


def _is_tensor(x):
    return isinstance(x, (keras.KerasTensor, np.ndarray)) or keras.ops.is_tensor(x)


class BaseLayer(keras.layers.Layer):
    """A layer that keeps its constructor's arguments as attributes, and returns the shape of its first input."""

    compute_output_spec = output_spec_by_tracing

    def compute_output_shape(self, tokens_shape, *other_shapes, **named_shapes):
        return tokens_shape

    def get_config(self):
        return {**super().get_config(), **Configurable.get_config(self)}
