"""The inner operations of a transformer beside attention, and the loop over its blocks, in the fastest form of backend
and device."""

import contextlib
import functools

import keras
from keras import ops

from keras_umd.backend.frameworks import jax, torch


def layer_norm(x, gamma, beta, epsilon):
    """LayerNorm over the last axis, computed in float32.

    Args:
        x: Float tensor of shape `(..., dim)`.
        gamma, beta: Float32 tensors of a shape that broadcasts to that of `x`: scale and offset.
        epsilon: Float.

    Returns:
        Float32 tensor of the shape of `x`.
    """
    x = ops.cast(x, "float32")
    if jax:
        return _jax_standardize()(x, epsilon) * gamma + beta
    if torch and gamma.ndim == 1:
        return torch.nn.functional.layer_norm(x, x.shape[-1:], gamma, beta, epsilon)
    if torch:
        return torch.addcmul(beta, torch.nn.functional.layer_norm(x, x.shape[-1:], eps=epsilon), gamma)
    return ops.layer_normalization(x, epsilon=epsilon) * gamma + beta


@functools.cache
def _jax_standardize():
    """`(x - mean) / deviation` with its derivative written out.

    XLA's own derivative is a sum of four terms, which it computes anew in each of the blocks before: on the CPU they
    took a quarter of the step.
    """

    def parts(x, epsilon):
        centered = x - jax.numpy.mean(x, axis=-1, keepdims=True)
        scale = jax.lax.rsqrt(jax.numpy.mean(centered * centered, axis=-1, keepdims=True) + epsilon)
        return centered * scale, scale

    @functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
    def standardize(x, epsilon):
        return parts(x, epsilon)[0]

    @standardize.defjvp
    def derivative(epsilon, primals, tangents):
        standardized, scale = parts(primals[0], epsilon)
        change = scale * tangents[0]
        along = jax.numpy.mean(standardized * change, axis=-1, keepdims=True)
        return standardized, change - jax.numpy.mean(change, axis=-1, keepdims=True) - standardized * along

    return standardize


def project(dense, tokens):
    """`dense(tokens)` for a `Dense` layer and tokens of shape `(batch, n, dim)`.

    On the CPU, XLA transposes a batch of matrices by copying before it computes the gradient of the kernel, a single
    matrix for nothing. Elsewhere, joining the axes could itself be a copy.
    """
    if jax_platform() != "cpu":
        return dense(tokens)
    rows = dense(ops.reshape(tokens, (-1, tokens.shape[-1])))
    return ops.reshape(rows, (-1, tokens.shape[1], rows.shape[-1]))


def jax_platform():
    """JAX' device, "cpu", "gpu" or "tpu"; `None` on the other backends."""
    return jax.default_backend() if jax else None


def full_precision():
    """A context in which JAX multiplies in float32; by default TPUs would round to bfloat16, GPUs to TF32."""
    return jax.default_matmul_precision("highest") if jax else contextlib.nullcontext()


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
