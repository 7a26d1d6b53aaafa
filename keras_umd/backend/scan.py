"""Equal layers, one after the other, as one compiled loop over their stacked weights."""

import keras

from keras_umd.backend.frameworks import jax


def can_scan():
    """Whether the backend has a loop that is compiled once and differentiated: only JAX."""
    return bool(jax)


def scan_layers(call, layers, x, inputs=None, remat=False):
    """Run equal layers one after the other as one `jax.lax.scan`; on JAX only.

    Args:
        call: callable `(layer, x, inputs) -> x`, which calls one layer; the result has the shape and type of `x`.
        layers: non-empty list of built Keras layers with variables of the same shapes in the same order.
        x: Tensor, the input of the first layer.
        inputs: (Nested) tensors with a leading axis of `len(layers)`, what differs from layer to layer, or `None`.
        remat: Bool. Keep only each layer's input for the backward pass, and run the layer once more there.

    Returns:
        The output of the last layer.
    """
    first = layers[0]
    weights = [
        jax.numpy.stack([v.value for v in same]) for same in zip(*(layer.variables for layer in layers), strict=True)
    ]

    def step(x, of_layer):
        values, given = of_layer
        with keras.StatelessScope(state_mapping=list(zip(first.variables, values, strict=True))):
            return call(first, x, given), None

    if remat:
        step = jax.checkpoint(step, prevent_cse=False)  # a loop's body can't be merged with that of another
    return jax.lax.scan(step, x, (weights, inputs))[0]
