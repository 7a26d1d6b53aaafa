"""TensorFlow's own needs: while it traces, under `tf.distribute`, and beside another backend."""

import contextlib

import keras

from keras_umd.backend.frameworks import tf


def control_dependencies(tensors):
    """A context: TensorFlow's control dependencies on `tensors`, those of a batch; on other backends nothing.

    Without them, and without XLA, the step that meets the end of the data (`OutOfRange`) still increments seed
    generators, the optimizer's iterations and the moving averages.
    """
    if not tf:
        return contextlib.nullcontext()
    return tf.control_dependencies([tensor for tensor in keras.tree.flatten(tensors) if tensor is not None])


def ensure_shape(x, shape):
    """Set the static shape of `x` where TensorFlow doesn't know it while it traces; else return `x`.

    A tensor of another rank is returned as it is, for the checks of arguments to refuse by name.

    Args:
        x: Array or tensor.
        shape: Tuple of integers, and `None` for sizes that are left as they are.
    """
    if not tf or not tf.is_tensor(x) or tf.executing_eagerly() or x.shape.rank not in (None, len(shape)):
        return x
    return tf.ensure_shape(x, shape)


def scale_for_replicas(loss):
    """`loss` over the number of replicas, whose gradients `tf.distribute` sums."""
    return loss / tf.distribute.get_strategy().num_replicas_in_sync if tf else loss


def num_replicas():
    """The replicas of `tf.distribute` among which a batch is shared here; 1 outside of a strategy, and elsewhere."""
    return tf.distribute.get_strategy().num_replicas_in_sync if tf else 1


def mean_over_replicas(x):
    """The mean of a tensor over the replicas, within a step."""
    return tf.distribute.get_replica_context().all_reduce("MEAN", x) if num_replicas() > 1 else x


def of_all_replicas(values):
    """A tuple of what `values` are on each replica, the same on all of them, to be logged by a step.

    Keras logs the mean of what replicas return, unless it is one and the same tensor. Nothing is copied.

    Args:
        values: Nest of tensors, and `None`, of this replica.
    """

    def collect(strategy, values):
        def of(number):
            def pick(value):
                local = strategy.experimental_local_results(value)  # one, of what is the same on all replicas
                return None if value is None else local[min(number, len(local) - 1)]

            return tf.nest.map_structure(pick, values)

        return tuple(of(number) for number in range(strategy.num_replicas_in_sync))

    return tf.distribute.get_replica_context().merge_call(collect, args=(values,))


def not_finite_on_all_replicas(gradients, norm):
    """Gradients one of which isn't finite where the norm over all replicas isn't.

    Keras' `LossScaleOptimizer` asks the first replica alone whether the gradients of all are finite.
    """
    place = next(i for i, gradient in enumerate(gradients) if isinstance(gradient, tf.Tensor))
    spoilt = tf.where(tf.math.is_finite(norm), gradients[place], float("nan"))
    return [*gradients[:place], spoilt, *gradients[place + 1 :]]


def assign_on_each_replica(variables, values):
    """Assign to variables; under `tf.distribute`, to the copy of each replica the value that this replica has.

    Else an assignment within a step would sum the values of a metric over the replicas, or take their mean.

    Args:
        variables: List of Keras variables.
        values: List of tensors.
    """
    if num_replicas() == 1:
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        return

    def update(strategy, variables, values):
        for variable, value in zip(variables, values, strict=True):
            strategy.extended.update(variable, lambda copy, value: copy.assign(value), (value,), group=False)

    held = [variable.value for variable in variables]
    tf.distribute.get_replica_context().merge_call(update, args=(held, values))


def import_tensorflow():
    """Import TensorFlow for reading data; on other backends without its GPUs, whose memory it would take.

    Raises:
        ImportError: if it isn't installed.
    """
    try:
        import tensorflow
    except ImportError as error:
        raise ImportError("This needs TensorFlow, whatever the backend: pip install 'keras_umd[tensorflow]'") from error
    if not tf:
        # RuntimeError: the user has initialised TensorFlow's devices already, and decided so.
        with contextlib.suppress(RuntimeError):
            tensorflow.config.set_visible_devices([], "GPU")
    return tensorflow
