"""What adaptive LayerNorm makes of a condition, by a layer or computed in advance."""

import typing

from keras_umd.layers.dense import Dense


class Modulations(typing.NamedTuple):
    """Modulations of layers with adaptive LayerNorm, computed in advance and passed as their `condition`.

    A sampler computes them once for all steps and labels. A named tuple, since Keras' calls, functional models, remat
    and compiled loops pass nested tensors on, and would lose those inside of another object.

    Example:

    >>> stack = layers.BlockStack(num_layers=2, num_heads=2)
    >>> stack.build((None, None, 32))
    >>> modulations = stack.modulations(np.ones((4, 32), "float32"))
    >>> stack(np.ones((4, 5, 32), "float32"), condition=modulations).shape
    (4, 5, 32)

    Args:
        of_layers: Tuple of float tensors `(batch or 1, units)`, one for each layer in the order of their calls.
    """

    of_layers: tuple


def modulation_of(layer, condition):
    """The modulation of a single layer: `layer.modulation(condition)`, or the first of given `Modulations`."""
    return condition.of_layers[0] if isinstance(condition, Modulations) else layer.modulation(condition)


def build_modulation(layer, num_vectors, hidden_dim, condition_shape):
    """Make `layer.modulation`, which starts at zero, for a condition whose width is `hidden_dim` unless given."""
    layer.modulation = Dense(
        num_vectors * hidden_dim, kernel_initializer="zeros", dtype=layer.dtype_policy, name="modulation"
    )
    is_given = condition_shape is not None and not isinstance(condition_shape, Modulations)
    layer.modulation.build((None, condition_shape[-1] if is_given else hidden_dim))
