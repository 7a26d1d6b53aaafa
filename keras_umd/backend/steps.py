"""A training step with work before and after Keras' own; the only code that knows JAX's state."""

import contextlib

import keras
from keras import ops

from keras_umd.backend import control_dependencies
from keras_umd.backend.frameworks import jax, tf, torch

# Whether a step gets and returns the values of all variables, so that those before it are still at hand behind it.
STATE_IS_VALUES = jax is not None


def run_step(model, keras_step, args, before, after=None):
    """Run `before` on the batch, Keras' step on its result, then `after`.

    No gradient is taken through `before`: it runs outside of TensorFlow's tape, of JAX's `value_and_grad`, and on
    PyTorch under `no_grad`.

    Args:
        model: `keras.Model`.
        keras_step: callable, `train_step` or `test_step` of `keras.Model`.
        args: Tuple of Keras' arguments for it: the batch; on JAX, the state and the batch.
        before: callable. `batch -> data`, what Keras' step gets. It may read and assign all variables.
        after: callable, `logs -> logs`, or `None`. It may read and assign all variables, the optimizer's and those of
            metrics too.

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
        return logs if after is None else after(logs)


def _run_on_jax(model, keras_step, state, batch, before, after):
    # Trainable ones, too: what they hold outside of the step is stale here, or its memory was given away.
    groups = [model.trainable_variables, model.non_trainable_variables, model.metrics_variables]
    if len(state) == 4:
        groups.insert(2, model.optimizer.variables)
    data, state = _with_state(groups, lambda: before(batch), state)
    logs, state = keras_step(state, data)
    if after is not None:
        logs, state = _with_state(groups, lambda: after(logs), state)
    return logs, state


def _with_state(groups, function, state):
    """Run `function` with groups of variables at the values of `state`; returns its result and those it leaves."""
    pairs = [pair for group, values in zip(groups, state, strict=True) for pair in zip(group, values, strict=True)]
    with keras.StatelessScope(state_mapping=pairs) as scope:
        result = function()
    return result, tuple([scope.get_current_value(variable) for variable in group] for group in groups)


def value_now(variable):
    """The value of a variable before what may be assigned to it later in the step."""
    return variable.value if jax else ops.copy(variable)  # the others assign in place


def global_norm(tensors):
    """The norm of all tensors together, a float32 scalar."""
    if torch:  # two kernels for all of them; one after the other they would take longer to start than to run
        norms = torch._foreach_norm([tensor.detach().float() for tensor in tensors])
        return torch.linalg.vector_norm(torch.stack(norms))
    if tf:  # gradients of tables that are read by index name a row more than once
        tensors = [tf.convert_to_tensor(tensor) for tensor in tensors]
    return ops.sqrt(sum(ops.sum(ops.square(ops.cast(tensor, "float32"))) for tensor in tensors))


def in_scope_of(model):
    """A context for new variables of a model: that of the `tf.distribute` strategy that it was made in, if any."""
    return model.distribute_strategy.scope() if tf else contextlib.nullcontext()


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
