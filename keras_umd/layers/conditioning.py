"""The condition of layers with adaptive LayerNorm, or what is made of it in advance."""

import typing


class Modulations(typing.NamedTuple):
    """What layers with adaptive LayerNorm make of a condition, computed in advance and passed as their `condition`.

    A sampler computes them once for all steps and labels. A named tuple, since Keras' calls, functional models, remat
    and compiled loops pass nested tensors on, and would lose those inside of another object.

    Args:
        of_layers: Tuple of float tensors `(batch or 1, units)`, one for each layer in the order of their calls.
    """

    of_layers: tuple


def modulation_of(layer, condition):
    """The modulation of a single layer: `layer.modulation(condition)`, or the first of given `Modulations`."""
    return condition.of_layers[0] if isinstance(condition, Modulations) else layer.modulation(condition)


def condition_width(condition_shape, default):
    """The width of the condition that a layer is built for; `default` where the shape doesn't tell it."""
    if condition_shape is None or isinstance(condition_shape, Modulations):
        return default
    return condition_shape[-1]
