"""Moving averages of the weights, for generation."""

import math

import keras
import numpy as np
from keras import ops

from keras_umd.utils.checks import check_numbers


class WeightAverage(keras.layers.Layer):
    """An exponential moving average of a model's weights, kept as non-trainable weights of its own.

    After n updates the average is `sum_i decay^(n - i) w_i / sum_i decay^(n - i)`: free of the initial weights, so that
    short trainings can use it too, and for many updates the usual `average = decay * average + (1 - decay) * w`.

    It is kept in float32, whatever the weights are: in bfloat16 it would soon stand still.

    Args:
        decay: Float in [0, 1).
        variables: list of Keras variables to average.
    """

    def __init__(self, decay, variables, **kwargs):
        super().__init__(trainable=False, autocast=False, **kwargs)
        check_numbers("[0, 1)", decay=decay)
        self.decay = decay
        # A tuple of variables that belong to other layers must not become weights of this one.
        self._sources = lambda: variables
        # Not trainable themselves: the layer, frozen as it is, could be unfrozen with its model.
        zeros = {"initializer": "zeros", "dtype": "float32", "trainable": False}
        self.num_updates = self.add_weight(shape=(), name="num_updates", **zeros)
        # Each is named after its source, by which a `LayoutMap` puts it where that lies.
        self.averages = [self.add_weight(shape=v.shape, name=v.path.replace("/", "_"), **zeros) for v in variables]
        self.built = True

    def update(self):
        """Take the current weights into the average."""
        self.num_updates.assign_add(1.0)
        # 1 - decay^n by expm1: for decays close to 1 the difference would lose its digits.
        weight = (1 - self.decay) / -ops.expm1(self.num_updates.value * math.log(self.decay)) if self.decay else 1.0
        for average, variable in zip(self.averages, self._sources(), strict=True):
            average.assign(average + weight * (ops.cast(variable, "float32") - average))

    def is_updated(self):
        return bool(np.asarray(ops.convert_to_numpy(self.num_updates)))

    def values_for(self, variables):
        """The values of `variables`, averaged where this average knows them; raw ones before the first update."""
        if not self.is_updated():
            return [variable.value for variable in variables]
        averages = {id(source): average for source, average in zip(self._sources(), self.averages, strict=True)}
        return [ops.cast(averages.get(id(variable), variable).value, variable.dtype) for variable in variables]
