"""Attention, in the fastest form of backend and device."""

from keras import ops

from keras_umd.backend.frameworks import jax
from keras_umd.backend.kernels import jax_platform


def attention(query, key, value, lengths=None):
    """Scaled dot-product attention, over all tokens or within segments of them, through the best kernel of the device.

    Segments are for rows of several images, which share every other layer of a network: tokens attend to those of their
    own image, as if each image were a row alone.

    Args:
        query: Float tensor of shape `(batch, queries, heads, head_dim)`.
        key, value: Float tensors of shape `(batch, tokens, heads, head_dim)`.
        lengths: Tuple of positive Python integers, the lengths of the segments in the order of the tokens, in every row
            alike. They sum up to `tokens`, and `queries` equals `tokens`. `None`, the default, or a tuple of one: all
            tokens attend to all.

    Returns:
        Float tensor of the shape and type of `query`.

    Raises:
        ValueError: if the segments don't cover the tokens.
    """
    if lengths is None or len(lengths) == 1:
        return _attend(query, key, value)
    if not sum(lengths) == query.shape[1] == key.shape[1]:
        raise ValueError(
            "`lengths` must sum up to the number of tokens, and there must be a query for each of them. "
            f"Received: lengths={lengths}, queries={query.shape[1]}, tokens={key.shape[1]}"
        )
    ends = [sum(lengths[: i + 1]) for i in range(len(lengths) - 1)]
    segments = zip(*(ops.split(x, ends, axis=1) for x in (query, key, value)), strict=True)
    return ops.concatenate([_attend(*segment) for segment in segments], axis=1)


def _attend(query, key, value):
    platform = jax_platform()
    dtype = query.dtype
    if platform in ("cpu", "tpu") and dtype == "float16":
        # JAX asks for float16 products with float32 sums, which only GPUs have.
        query, key, value = (ops.cast(x, "float32") for x in (query, key, value))
    if platform == "cpu":
        return ops.cast(_jax_attention_on_cpu(query, key, value), dtype)
    # On TPU, Keras' automatic choice is a splash kernel that is causal when no mask is given.
    mixed = ops.dot_product_attention(query, key, value, flash_attention=False if platform == "tpu" else None)
    return ops.cast(mixed, dtype)


def _jax_attention_on_cpu(query, key, value):
    """The sum of the weights is divided by at the end, on `head_dim` numbers a query instead of one for each token.

    With its gradient it takes 0.65 of the CPU time of `jax.nn.dot_product_attention` (257 tokens, 6 heads of 64).
    """
    query = query * query.shape[-1] ** -0.5
    logits = jax.numpy.einsum("bqhd,bkhd->bhqk", query, key, preferred_element_type="float32")
    weights = jax.numpy.exp(logits - jax.lax.stop_gradient(jax.numpy.max(logits, axis=-1, keepdims=True)))
    mixed = jax.numpy.einsum("bhqk,bkhd->bhqd", weights.astype(value.dtype), value, preferred_element_type="float32")
    return jax.numpy.transpose(mixed / jax.numpy.sum(weights, axis=-1, keepdims=True), (0, 2, 1, 3))
