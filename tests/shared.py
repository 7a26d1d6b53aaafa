"""Models that tests use one after the other: to trace and compile a program takes seconds, to restore weights none.

With KERAS_UMD_UNSHARED=1 every test gets a new model, which shows whether one depends on what another left.
"""

import json
import os

import keras
import numpy as np

UNSHARED = bool(os.environ.get("KERAS_UMD_UNSHARED"))
_free = {}  # models that no test uses at the moment, by their settings


class SharedModel:
    """A model and a snapshot of its variables."""

    def __init__(self, model):
        self.model = model
        optimizer = self._optimizer()
        if optimizer is not None and not optimizer.built:
            optimizer.build(model.trainable_variables)
        # Copies: PyTorch's arrays would share the memory of the variables.
        to_numpy = keras.ops.convert_to_numpy
        self.values = [(variable, np.array(to_numpy(variable.value))) for variable in self._variables()]
        self.structure = self._structure()

    def _optimizer(self):
        return getattr(self.model, "optimizer", None)  # before `compile`, a model has none

    def _variables(self):
        optimizer = self._optimizer()
        return [*self.model.variables, *(optimizer.variables if optimizer is not None else [])]

    def _structure(self):
        """What a snapshot doesn't hold and a test may have changed."""
        return (
            [(id(variable), variable.trainable) for variable in self._variables()],
            [layer.trainable for layer in self.model._flatten_layers()],
            id(self._optimizer()),
        )

    def is_whole(self):
        return self._structure() == self.structure

    def restore(self):
        for variable, value in self.values:
            variable.assign(value.copy())  # JAX may use an array's memory, and donate it to the next step
        if self._optimizer() is not None:
            self.model.stop_training = False
            self.model.reset_metrics()


def key_of(settings):
    """Text that two calls have in common whose models are equal."""

    def as_json(value):
        return value.get_config() if hasattr(value, "get_config") else repr(value)

    return json.dumps(settings, sort_keys=True, default=as_json)


def take(build, compiled, overrides):
    """A model that `build(**overrides)` makes, compiled, as if it was new.

    Args:
        build: Function that makes a model.
        compiled: Optimizer or its name, dictionary of the arguments of `compile`, or `None`.
        overrides: Dictionary, the arguments of `build`.

    Returns:
        The key for `give_back`, and the `SharedModel`.
    """
    if compiled is not None and not isinstance(compiled, dict):
        compiled = {"optimizer": compiled}
    key = key_of([compiled, overrides])
    if _free.get(key):
        shared = _free[key].pop()
        shared.restore()
    else:
        model = build(**overrides)
        if compiled is not None:
            model.compile(**compiled)
        shared = SharedModel(model)
    keras.utils.set_random_seed(0)
    return key, shared


def give_back(key, shared):
    if shared.is_whole() and not UNSHARED:
        _free.setdefault(key, []).append(shared)
