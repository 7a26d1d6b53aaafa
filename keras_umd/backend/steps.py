"""A training step with work before and after Keras' own; the only code that knows JAX's state."""

import contextlib

import keras

from keras_umd.backend import control_dependencies
from keras_umd.backend.frameworks import jax, torch


def run_step(model, keras_step, args, before, after=None):
    """Run `before` on the batch, Keras' step on its result, then `after`.

    No gradient is taken through `before`: it runs outside of TensorFlow's tape, of JAX's `value_and_grad`, and on
    PyTorch under `no_grad`.

    Args:
        model: `keras.Model`.
        keras_step: callable, `train_step` or `test_step` of `keras.Model`.
        args: Tuple of Keras' arguments for it: the batch; on JAX, the state and the batch.
        before: callable. `batch -> data`, what Keras' step gets. It may read and assign the model's variables.
        after: callable without arguments, or `None`. It may assign variables that aren't trainable.

    Returns:
        As `keras_step`.
    """
    if jax:
        return _run_on_jax(model, keras_step, *args, before, after)
    (batch,) = args
    # Without them the step that hits TensorFlow's OutOfRange still increments seeds, iterations and averages.
    with control_dependencies(batch):
        with torch.no_grad() if torch else contextlib.nullcontext():
            data = before(batch)
        logs = keras_step(data)
        if after is not None:
            after()
    return logs


def _run_on_jax(model, keras_step, state, batch, before, after):
    trainable, non_trainable, *others = state
    data, (trainable, non_trainable) = _with_state(model, lambda: before(batch), trainable, non_trainable)
    logs, (trainable, non_trainable, *others) = keras_step((trainable, non_trainable, *others), data)
    if after is not None:
        _, (trainable, non_trainable) = _with_state(model, after, trainable, non_trainable)
    return logs, (trainable, non_trainable, *others)


def _with_state(model, function, trainable, non_trainable):
    """Run `function` with the variables at these values; returns its result and the values that it leaves behind."""
    # Trainable ones, too: what they hold outside of the step is stale here, or its memory was given away.
    variables, values = model.trainable_variables + model.non_trainable_variables, [*trainable, *non_trainable]
    with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))) as scope:
        result = function()
    values = [scope.get_current_value(variable) for variable in variables]
    return result, (values[: len(trainable)], values[len(trainable) :])


@contextlib.contextmanager
def kept_values(model):
    """A context after which no variable is without a value, however it is left.

    On JAX, Keras takes the values out of the variables before a step, and an error in the first one (a wrong batch,
    Ctrl-C while it compiles) would leave them empty.
    """
    optimizer = getattr(model, "optimizer", None)
    variables = [*model.variables, *model.metrics_variables, *(optimizer.variables if optimizer is not None else ())]
    values = [variable.value for variable in variables] if jax else []
    try:
        yield
    except BaseException:
        for variable, value in zip(variables, values, strict=False):  # other backends keep theirs
            if variable._value is None:
                variable._value = value
        raise


def supported_steps_per_execution(steps):
    """`steps`, or 1 on PyTorch, where Keras refuses more; the results are the same."""
    return 1 if torch else steps
