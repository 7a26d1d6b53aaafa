"""TensorFlow's own needs: while it traces, under `tf.distribute`, and beside another backend."""

import contextlib

import keras


def control_dependencies(tensors):
    """A context: TensorFlow's control dependencies on `tensors`, those of a batch; on other backends nothing.

    Without them, and without XLA, the step that meets the end of the data (`OutOfRange`) still increments seed
    generators, the optimizer's iterations and the moving averages.
    """
    if keras.backend.backend() != "tensorflow":
        return contextlib.nullcontext()
    import tensorflow as tf

    return tf.control_dependencies([tensor for tensor in keras.tree.flatten(tensors) if tensor is not None])


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
