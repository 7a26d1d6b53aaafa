"""Values that several devices share, on JAX."""

import keras


def gathered(values, variables):
    """`values`, those of `variables`, each whole on every device over which the batch is spread; gradients go back cut.

    So images and activations stay where they are, and weights come to them. Left to itself, XLA also moves activations
    to where a weight's columns are: within a scan over blocks forty times as many bytes.
    """
    if keras.distribution.distribution() is None:
        return values
    return [_gathered(value, variable) for value, variable in zip(values, variables, strict=True)]


def _gathered(value, variable):
    distribution = keras.distribution.distribution()
    layout = distribution.get_variable_layout(variable)
    if distribution.batch_dim_name not in layout.axes:
        return value
    axes = [None if axis == distribution.batch_dim_name else axis for axis in layout.axes]
    whole = keras.distribution.TensorLayout(axes, distribution.device_mesh)

    import jax

    gather = jax.custom_vjp(lambda x: keras.distribution.distribute_tensor(x, whole))
    gather.defvjp(
        lambda x: (gather(x), None),
        lambda _, gradient: (keras.distribution.distribute_tensor(gradient, layout),),
    )
    return gather(value)
