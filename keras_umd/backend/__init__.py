"""The only code that knows a backend: here compiled functions, and what TensorFlow needs while it traces."""

import contextlib
import functools
import random

import keras
import numpy as np
from keras import ops

from keras_umd.backend.sharding import gathered


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
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        return jax.jit(run)
    if backend == "tensorflow":
        import tensorflow as tf

        # As a partial it is counted alone; TensorFlow would warn of one function that is traced again and again.
        return tf.function(functools.partial(run), reduce_retracing=True, jit_compile=jit_compile is True or None)
    import torch

    return torch.no_grad()(run)


def compile_part(function, variables, jit_compile="auto"):
    """On PyTorch with `jit_compile=True`, `function` through `torch.compile`; elsewhere `function` itself.

    For what is called again and again within a function from `compile_function`, whose loop PyTorch would unroll.
    """
    if keras.backend.backend() != "torch" or jit_compile is not True:
        return function
    import torch

    compiled = torch.compile(_with_values(function, variables))
    return lambda *args, **kwargs: compiled([variable.value for variable in variables], *args, **kwargs)


def _with_values(function, variables):
    def run(values, *args, **kwargs):
        read = variables() if callable(variables) else variables
        values = gathered(values, read)  # here once, and not in each round of a loop within `function`
        with keras.StatelessScope(state_mapping=list(zip(read, values, strict=True))):
            return function(*args, **kwargs)

    return run


def shard_batch(x):
    """`x` `(batch, ...)` spread over the devices of Keras' distribution, if there is one and the batch divides."""
    distribution = keras.distribution.distribution()
    if distribution is None:
        return x
    mesh = distribution.device_mesh
    if x.shape[0] % mesh.shape[mesh.axis_names.index(distribution.batch_dim_name)]:
        return x
    return keras.distribution.distribute_tensor(x, distribution.get_data_layout(x.shape))


def after(tensors):
    """A context in which nothing happens before `tensors` are there.

    On TensorFlow without XLA, counters would advance in the step that finds its data set at its end: random numbers,
    the optimizer's iterations and moving averages would then depend on the kind of the data set. Elsewhere it does
    nothing.
    """
    if keras.backend.backend() != "tensorflow":
        return contextlib.nullcontext()
    import tensorflow as tf

    return tf.control_dependencies([tensor for tensor in keras.tree.flatten(tensors) if tensor is not None])


def full_precision():
    """A context in which JAX takes float32 products as they are; TPUs would make them of bfloat16, GPUs of TF32."""
    if keras.backend.backend() != "jax":
        return contextlib.nullcontext()
    import jax

    return jax.default_matmul_precision("highest")


def ensure_shape(x, shape):
    """Fix what TensorFlow doesn't know of the shape of `x` while it traces; other tensors always know theirs.

    What it knows to have another number of axes is left to the checks, which say what is wrong.

    Args:
        x: Array or tensor.
        shape: Tuple of integers, and `None` for sizes that are left as they are.
    """
    if keras.backend.backend() != "tensorflow":
        return x
    import tensorflow as tf

    if not tf.is_tensor(x) or tf.executing_eagerly() or x.shape.rank not in (None, len(shape)):
        return x
    return tf.ensure_shape(x, shape)


def scale_for_replicas(loss):
    """`loss` as `tf.distribute` wants it: it sums the gradients of its replicas."""
    if keras.backend.backend() != "tensorflow":
        return loss
    import tensorflow as tf

    return loss / tf.distribute.get_strategy().num_replicas_in_sync


def host_values(x):
    """Return the values of `x` as a NumPy array if they are in host memory now, else `None`.

    Symbolic and traced tensors have no values yet, and reading those of an accelerator would stall it.
    """
    if isinstance(x, (np.ndarray, np.generic, list, tuple, int, float)):
        return np.asarray(x)
    if isinstance(x, keras.KerasTensor) or not hasattr(x, "dtype"):
        return None
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        if not isinstance(x, jax.Array) or isinstance(x, jax.core.Tracer):
            return None
        on_host = all(device.platform == "cpu" for device in x.devices())
    elif backend == "tensorflow":
        import tensorflow as tf

        on_host = tf.executing_eagerly() and hasattr(x, "numpy") and "GPU" not in getattr(x, "device", "")
    else:
        on_host = getattr(getattr(x, "device", None), "type", None) == "cpu"
    return np.asarray(ops.convert_to_numpy(x)) if on_host else None


@contextlib.contextmanager
def undisturbed(model):
    """A context for evaluations within `fit`, which then goes on as if they hadn't been.

    `evaluate` counts in the metrics of the epoch; Keras shuffles arrays by the global random numbers of NumPy, Python
    or PyTorch, which others draw, too, PyTorch's also `predict`; and there `predict` ends the training mode.
    """
    metrics = [(variable, np.array(ops.convert_to_numpy(variable))) for variable in model.metrics_variables]
    python_state, numpy_state = random.getstate(), np.random.get_state()
    if keras.backend.backend() == "torch":
        import torch

        is_training = model.training
        with torch.random.fork_rng(devices=[]):
            yield
        model.train(is_training)
    else:
        yield
    random.setstate(python_state)
    np.random.set_state(numpy_state)
    for variable, value in metrics:
        variable.assign(value)


def import_tensorflow():
    """TensorFlow for what is not the model: on other backends it must not take the accelerator's memory.

    Raises:
        ImportError: if it isn't installed.
    """
    try:
        import tensorflow as tf
    except ImportError as error:
        raise ImportError("This needs TensorFlow, whatever the backend: pip install 'keras_umd[tensorflow]'") from error
    if keras.backend.backend() != "tensorflow":
        # Refused where the user has used TensorFlow's devices before: then it is the user's to decide.
        with contextlib.suppress(RuntimeError):
            tf.config.set_visible_devices([], "GPU")
    return tf
