"""Moving averages of the weights, for features and generation."""

import math
import warnings

import keras
import numpy as np
from keras import ops

from keras_umd.utils.checks import check_decays, check_numbers, is_list, is_number, require


def as_decays(decays):
    """A list of decays, floats and profiles, from one or several."""
    decays = decays if is_list(decays) else [decays]
    return [decay if hasattr(decay, "newest_weight") else float(decay) for decay in decays]


class WeightAverage(keras.layers.Layer):
    """An exponential moving average of a model's weights, kept as non-trainable weights of its own.

    After n updates the average is `sum_i decay^(n - i) w_i / sum_i decay^(n - i)`: free of the initial weights, so that
    short trainings can use it too, and for many updates the usual `average = decay * average + (1 - decay) * w`.

    It is kept in float32, whatever the weights are: in bfloat16 it would soon stand still.

    Args:
        decay: Float in [0, 1); or a `PowerProfile`, by which the weights of the updates follow a power of time instead.
        variables: list of Keras variables to average.
    """

    def __init__(self, decay, variables, **kwargs):
        super().__init__(trainable=False, autocast=False, **kwargs)
        if not hasattr(decay, "newest_weight"):
            check_numbers("[0, 1)", decay=decay)
        self.decay = decay
        # A tuple of variables that belong to other layers must not become weights of this one.
        self._sources = lambda variables=tuple(variables): variables
        # Not trainable themselves: the layer, frozen as it is, could be unfrozen with its model.
        zeros = {"initializer": "zeros", "dtype": "float32", "trainable": False}
        self.num_updates = self.add_weight(shape=(), name="num_updates", **zeros)
        # Each is named after its source, by which a `LayoutMap` puts it where that lies.
        self.averages = [self.add_weight(shape=v.shape, name=v.path.replace("/", "_"), **zeros) for v in variables]
        self.built = True

    def update(self, counts=None):
        """Take the current weights into the average.

        Args:
            counts: Bool scalar, whether the weights have been updated since the last time; `None` for yes.
        """
        self.num_updates.assign_add(1.0 if counts is None else ops.cast(counts, "float32"))
        weight = self._newest_weight()
        if counts is not None:
            weight = ops.where(counts, weight, 0.0)
        for average, variable in zip(self.averages, self._sources(), strict=True):
            average.assign(average + weight * (ops.cast(variable, "float32") - average))

    def _newest_weight(self):
        """The weight of the value that is taken in now, in the average with those of before."""
        if hasattr(self.decay, "newest_weight"):
            # At least 1: before the first update, the weight of a step that doesn't count would be NaN.
            return self.decay.newest_weight(ops.maximum(self.num_updates.value, 1.0))
        # 1 - decay^n by expm1: for decays close to 1 the difference would lose its digits.
        return (1 - self.decay) / -ops.expm1(self.num_updates.value * math.log(self.decay)) if self.decay else 1.0

    def is_of(self, variables):
        """Whether it averages exactly these variables."""
        sources = self._sources()
        return len(sources) == len(variables) and all(a is b for a, b in zip(sources, variables, strict=True))

    def variables_by(self, names):
        """Its own variables by name, those of the averages by the names of what they average.

        Args:
            names: Dictionary from the identity of a variable to its name.

        Raises:
            ValueError: for averages of variables that aren't the model's any more.
        """
        sources = self._sources()
        lost = [source.path for source in sources if id(source) not in names]
        if lost or len(sources) != len(names):
            raise ValueError(
                "Weights were added or replaced since the average was begun; call `compile` again, and it goes on with "
                f"them, or `track_average([])`. Received: averages of {len(sources)} weights, of which {lost} are gone"
            )
        named = {names[id(source)]: average for source, average in zip(sources, self.averages, strict=True)}
        return {"num_updates": self.num_updates, **named}

    def renewed(self, variables):
        """An average of other variables that goes on with those that this one knows; the others begin as they are now.

        As for LoRA, which adds variables. Warns of averages whose variables are gone.
        """
        renewed = WeightAverage(self.decay, variables)
        if not self.is_updated():
            return renewed
        known = {id(source): average for source, average in zip(self._sources(), self.averages, strict=True)}
        renewed.num_updates.assign(ops.copy(self.num_updates.value))
        for average, variable in zip(renewed.averages, variables, strict=True):
            # Copies: on JAX the next `fit` would give the same memory away twice.
            average.assign(ops.copy(ops.cast(known.pop(id(variable), variable), "float32")))
        if known:
            lost = [source.path for source in self._sources() if id(source) in known]
            warnings.warn(f"The model has no such weights any more; their averages are dropped: {lost}", stacklevel=3)
        return renewed

    def is_updated(self):
        return bool(np.asarray(ops.convert_to_numpy(self.num_updates)))

    def values_for(self, variables):
        """The averages of `variables`; their raw values before the first update.

        Raises:
            ValueError: naming variables that it doesn't know: beside averages their raw values would be of another
                time.
        """
        if not self.is_updated():
            return [variable.value for variable in variables]
        averages = {id(source): average for source, average in zip(self._sources(), self.averages, strict=True)}
        unknown = [variable.path for variable in variables if id(variable) not in averages]
        if unknown:
            raise ValueError(
                "Weights were added or replaced since the average was begun; call `compile` again, and it goes on with "
                f"them, or take weights='raw'. Received: no average of {unknown}"
            )
        return [ops.cast(averages[id(variable)].value, variable.dtype) for variable in variables]


def weight_values(model, weights="average"):
    """The values of the network's weights, averaged or not.

    Example:

    >>> len(model.weight_values("raw")) == len(model.network_weights)
    True

    Args:
        weights: `"average"`, the first average that a training has updated, or the raw weights of a model without;
            `"raw"`; or the decay of one of the model's averages, a float or a `PowerProfile`.
    """
    decays = [average.decay for average in model.averages]
    if isinstance(weights, str) and weights == "average":
        weights = next((average.decay for average in model.averages if average.is_updated()), "raw")
    if isinstance(weights, str) and weights == "raw":
        return [variable.value for variable in model.network_weights]
    require(
        (is_number(weights) or hasattr(weights, "newest_weight")) and weights in decays,
        "`weights` must be 'average', 'raw' or the decay of one of the model's averages, which `track_average` "
        f"starts before training: {decays}.",
        weights=weights,
    )
    return model.averages[decays.index(weights)].values_for(model.network_weights)


def track_average(model, decays):
    """Keep exponential moving averages of the weights from now on, updated after every training step.

    They are saved with the model and used by `generate`. An average that is asked for again goes on, also where
    LoRA has added weights since (`compile` asks for all again); one that is not is dropped.

    Example:

    >>> model.track_average([0.99, 0.999])
    >>> model.fit(images, labels, batch_size=8, epochs=1)
    >>> slow = model.encode(images, weights=0.999)

    Args:
        decays: Float in [0, 1), `recipes.PowerProfile`, or a list of them, one average each.
    """
    check_decays(decays=decays)
    decays, weights = as_decays(decays), model.network_weights
    if decays == [average.decay for average in model.averages] and all(a.is_of(weights) for a in model.averages):
        return
    kept = {a.decay: a if a.is_of(weights) else a.renewed(weights) for a in model.averages if a.decay in decays}
    averages = [kept.get(decay) or WeightAverage(decay, weights) for decay in decays]
    model.train_function = model.test_function = model.predict_function = None  # compiled without them
    model.averages.clear()
    model.averages.extend(averages)
