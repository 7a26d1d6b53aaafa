"""Gradients outside of Keras' training step."""

import keras

from keras_umd.backend.frameworks import jax, tf


def value_and_gradients(function, variables):
    """The value of `function()`, a scalar that depends on `variables`, and its gradients.

    Returns:
        The value, and a list with a tensor for each variable, or `None` where the value doesn't depend on it.
    """
    if jax:

        def with_values(values):
            with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
                return function()

        # Compiled: op by op, each operation of the backward pass would be a program of its own.
        return jax.jit(jax.value_and_grad(with_values))([variable.value for variable in variables])
    if tf:
        with tf.GradientTape() as tape:
            value = function()
        return value, tape.gradient(value, [variable.value for variable in variables])
    value = function()
    values = [variable.value for variable in variables]
    for tensor in values:
        tensor.grad = None
    value.backward()
    gradients = [tensor.grad for tensor in values]
    for tensor in values:
        tensor.grad = None
    return value.detach(), gradients
