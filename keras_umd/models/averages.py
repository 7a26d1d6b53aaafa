"""Moving averages of the weights, for generation."""

import math

import keras
import numpy as np
from keras import ops


class WeightAverage(keras.layers.Layer):
    """An exponential moving average of a model's weights, kept as non-trainable weights of its own.

    After n updates the average is `sum_i decay^(n - i) w_i / sum_i decay^(n - i)`: free of the initial weights, so that
    short trainings can use it too, and for many updates the usual `average = decay * average + (1 - decay) * w`.

    Args:
        decay: Float in [0, 1).
        variables: list of Keras variables to average.
    """

    def __init__(self, decay, variables, **kwargs):
        super().__init__(trainable=False, autocast=False, **kwargs)
        if not 0 <= decay < 1:
            raise ValueError(f"The decay of a moving average must lie in [0, 1). Received: decay={decay}")
        self.decay = decay
        # A tuple of variables that belong to other layers must not become weights of this one.
        self._sources = lambda: variables
        self.num_updates = self.add_weight(shape=(), initializer="zeros", dtype="float32", name="num_updates")
        # Each is named after its source, by which a `LayoutMap` puts it where that lies.
        self.averages = [
            self.add_weight(shape=v.shape, initializer="zeros", dtype=v.dtype, name=v.path.replace("/", "_"))
            for v in variables
        ]
        self.built = True

    def update(self):
        """Take the current weights into the average."""
        self.num_updates.assign_add(1.0)
        weight = 1.0
        if self.decay:  # 1 - decay^n by expm1: for decays close to 1 the difference would lose its digits
            weight = (1 - self.decay) / -ops.expm1(self.num_updates.value * math.log(self.decay))
        for average, variable in zip(self.averages, self._sources(), strict=True):
            average.assign(average + ops.cast(weight, average.dtype) * (variable - average))

    def values_for(self, variables):
        """The values of `variables`, averaged where this average knows them; raw ones before the first update."""
        if not np.asarray(ops.convert_to_numpy(self.num_updates)):
            return [variable.value for variable in variables]
        averages = {id(source): average for source, average in zip(self._sources(), self.averages, strict=True)}
        return [averages.get(id(variable), variable).value for variable in variables]
