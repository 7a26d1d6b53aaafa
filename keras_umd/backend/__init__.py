"""The only code that knows a backend. Here: compiled functions, and the parts that the rest of the package asks for."""

import functools

try:
    import keras
except ModuleNotFoundError as error:
    from keras_umd.backend.installed import missing_backend

    raise missing_backend(error) from error

from keras_umd.backend.frameworks import jax, tf, torch
from keras_umd.backend.host import host_values, isolated_evaluation
from keras_umd.backend.kernels import full_precision
from keras_umd.backend.sharding import gathered, shard_batch
from keras_umd.backend.tensorflow import (
    assign_on_each_replica,
    control_dependencies,
    ensure_shape,
    import_tensorflow,
    mean_over_replicas,
    not_finite_on_all_replicas,
    num_replicas,
    of_all_replicas,
    scale_for_replicas,
)


def compile_function(function, variables, jit_compile="auto"):
    """Compile `function(*tensors)`, which reads `variables`.

    The result takes the values to use for the variables first, so that the same program serves raw and averaged
    weights, and updated weights never need a new trace. Nothing that `function` assigns is kept.

    Args:
        function: callable. Takes and returns (nested) tensors.
        variables: list of Keras variables that `function` may read, or a callable that returns it.
        jit_compile: `"auto"`, or `True` for XLA on TensorFlow too.

    Returns:
        A callable `(values, *tensors)`: one jitted program a shape on JAX, one graph on TensorFlow, plain calls
        without gradients on PyTorch.
    """
    run = _with_values(function, variables)
    if jax:
        return jax.jit(run)
    if tf:
        # As a partial it is counted alone; TensorFlow would warn of one function that is traced again and again.
        return tf.function(functools.partial(run), reduce_retracing=True, jit_compile=jit_compile is True or None)
    return torch.no_grad()(run)


def compile_part(function, variables, jit_compile="auto"):
    """On PyTorch with `jit_compile=True`, `function` through `torch.compile`; elsewhere `function` itself.

    For what is called again and again within a function from `compile_function`, whose loop PyTorch would unroll.
    """
    if not torch or jit_compile is not True:
        return function
    compiled = torch.compile(_with_values(function, variables))
    return lambda *args, **kwargs: compiled([variable.value for variable in variables], *args, **kwargs)


def _with_values(function, variables):
    def run(values, *args, **kwargs):
        read = variables() if callable(variables) else variables
        values = gathered(values, read)  # here once, and not in each round of a loop within `function`
        with keras.StatelessScope(state_mapping=list(zip(read, values, strict=True))):
            return function(*args, **kwargs)

    return run
