"""Values that are sharded over several devices."""

import keras

from keras_umd.backend.frameworks import jax, tf


def gathered(values, variables):
    """All-gather the `values` of `variables` along the axis of the batch; gradients are sharded again.

    So weights move to the devices of the images. Left to itself, XLA also moves activations to the shards of a weight:
    within a scan over blocks forty times as many bytes.
    """
    distribution = keras.distribution.distribution()
    if distribution is None:
        return values
    layouts = map(distribution.get_variable_layout, variables)
    return [_gathered(value, layout, distribution) for value, layout in zip(values, layouts, strict=True)]


def _gathered(value, layout, distribution):
    if distribution.batch_dim_name not in layout.axes:
        return value
    axes = [None if axis == distribution.batch_dim_name else axis for axis in layout.axes]
    whole = keras.distribution.TensorLayout(axes, distribution.device_mesh)
    gather = jax.custom_vjp(lambda x: keras.distribution.distribute_tensor(x, whole))
    gather.defvjp(
        lambda x: (gather(x), None),
        lambda _, gradient: (keras.distribution.distribute_tensor(gradient, layout),),
    )
    return gather(value)


def replica_rows(draw, batch_size):
    """`draw(batch_size)`, a tensor of random numbers, different ones on each replica of `tf.distribute`.

    `tf.distribute` gives all replicas the same seed. Each draws for the global batch and slices its own rows, so that
    the result equals a single device's.
    """
    num_replicas = tf.distribute.get_strategy().num_replicas_in_sync if tf else 1
    if num_replicas == 1 or tf.distribute.in_cross_replica_context():
        return draw(batch_size)
    drawn = draw(num_replicas * batch_size)
    rows = keras.ops.reshape(drawn, (num_replicas, batch_size, *drawn.shape[1:]))
    return rows[tf.distribute.get_replica_context().replica_id_in_sync_group]


def shard_batch(x):
    """`x` `(batch, ...)` sharded over the devices of Keras' distribution, if there is one and it divides the batch."""
    distribution = keras.distribution.distribution()
    if distribution is None:
        return x
    mesh = distribution.device_mesh
    if x.shape[0] % mesh.shape[mesh.axis_names.index(distribution.batch_dim_name)]:
        return x
    return keras.distribution.distribute_tensor(x, distribution.get_data_layout(x.shape))
