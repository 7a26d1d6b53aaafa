"""Compiled programs of a model: bounded in number, and none keeps a model alive."""

import functools
import weakref

from keras_umd.backend import compile_function, compile_part


class Programs:
    """A cache of compiled functions of models, which drops the least recently used one.

    A program refers to its models and their weights weakly: a cache that held the model it belongs to would leave it
    to the garbage collector, and one that held a second model, as that which guides, would keep it in memory for good.

    Args:
        max_size: Integer, programs to keep. Each holds its compiled code and, on an accelerator, constants.
    """

    def __init__(self, max_size=8):
        self.max_size = max_size
        self._programs = {}  # the most recently used one last
        self._parts = {}

    def __len__(self):
        return len(self._programs)

    def clear(self):
        self._programs.clear()
        self._parts.clear()

    def run(self, key, function, models, *tensors, values=None, jit_compile="auto"):
        """`function(*models, *tensors)`, compiled once for each key.

        Args:
            key: Tuple of hashable values, all that tells `function` from others besides the shapes of `tensors`.
            function: callable. Reads the weights of `models`, and must not refer to a model in another way.
            models: List of models with `network_weights`.
            *tensors: (Nested) tensors.
            values: List of the values to use for the models' weights. Defaults to their own.
            jit_compile: As of `compile_function`.

        Returns:
            What `function` returns.
        """
        variables = _weights(models)
        values = [variable.value for variable in variables] if values is None else values
        # By identity: a layer may get other variables, as for LoRA. An identity is used again after a death.
        self._programs = {
            other: (program, references)
            for other, (program, references) in self._programs.items()
            if all(reference() is not None for reference in references)
        }
        key = (*key, jit_compile, *map(id, models), *map(id, variables))
        program, references = self._programs.pop(key, (None, None))
        if program is None:
            program = compile_function(*_of_living(function, models), jit_compile)
            references = [weakref.ref(x) for x in (*models, *variables)]
        self._programs[key] = program, references
        if len(self._programs) > self.max_size:
            del self._programs[next(iter(self._programs))]
        return program(values, *tensors)

    def part(self, function, model, jit_compile="auto"):
        """`function` with `model` as its first argument, as of `compile_part`, compiled once for this cache's model."""
        key, variables = (function, jit_compile), _weights([model])
        part, known = self._parts.get(key, (None, ()))
        if part is not None and list(map(id, known)) == list(map(id, variables)):  # LoRA adds variables
            return part
        of_model = functools.partial(function, model)
        part = compile_part(of_model, variables, jit_compile)
        if part is not of_model:
            self._parts[key] = part, variables
        return part


def _weights(models):
    return [variable for model in models for variable in model.network_weights]


def _of_living(function, models):
    """`function` and the weights of its models, both with the models behind weak references."""
    references = [weakref.ref(model) for model in models]

    def run(*tensors):
        return function(*(reference() for reference in references), *tensors)

    return run, lambda: _weights([reference() for reference in references])
