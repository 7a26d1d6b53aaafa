"""Attention, by the best kernel of backend and device (docs/devices.md has the table)."""

import contextlib
import functools

import keras
from keras import ops

from keras_umd.backend.flash import cudnn_attention, splash_attention
from keras_umd.backend.frameworks import jax, tf, torch
from keras_umd.backend.report import platform as _platform

SWITCHED_OFF = "keras.config.disable_flash_attention() was called"


def attention(query, key, value, lengths=None):
    """Scaled dot-product attention, over all tokens or within segments of them, by the best kernel of the device.

    Segments are for rows of several images, which share every other layer of a network: tokens attend to those of their
    own image, as if each image were a row alone.

    `keras.config.disable_flash_attention()`, before a model is used, takes plain matrix products instead of a kernel.

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
    if min(lengths, default=0) < 1 or not sum(lengths) == query.shape[1] == key.shape[1]:
        raise ValueError(
            "`lengths` must be positive and sum up to the number of tokens, with a query for each of them. "
            f"Received: lengths={lengths}, queries={query.shape[1]}, tokens={key.shape[1]}"
        )
    if jax and _kernel_of(query)[0] == "splash":
        return _on_tpu(query, key, value, tuple(lengths))
    ends = [sum(lengths[: i + 1]) for i in range(len(lengths) - 1)]
    segments = zip(*(ops.split(x, ends, axis=1) for x in (query, key, value)), strict=True)
    return ops.concatenate([_attend(*segment) for segment in segments], axis=1)


def attention_kernel(platform=None, head_dim=64, dtype="bfloat16"):
    """Which kernel `attention` takes, and why: for reports, and to know what a setting costs.

    Args:
        platform: `"cpu"`, `"gpu"` or `"tpu"`. Defaults to the one that computes. JAX refuses the kernels of devices
            that it doesn't see, with `platform="gpu"` on a machine without one, for example.
        head_dim: Integer.
        dtype: String, the type of queries, keys and values.

    Returns:
        Pair of strings: one of `"cudnn"`, `"splash"`, `"xla"` (JAX), `"sdpa"` (PyTorch), `"products"`, `"recomputed"`;
        and the reason, for users to read.
    """
    platform = platform or _platform()
    is_off = keras.config.is_flash_attention_enabled() is False
    if torch and is_off:
        return "products", SWITCHED_OFF
    if torch:
        return "sdpa", "PyTorch's own: on GPUs flash attention in 16 bits, otherwise memory-efficient attention"
    if tf and platform == "cpu":
        return "products", "two matrix products, whose attention matrix is kept for the backward pass"
    if tf:
        return "recomputed", "TensorFlow has no kernel; the backward pass computes the attention matrix once more"
    if platform == "cpu":
        return "products", "two matrix products, the fastest on CPUs"
    if platform not in JAX_KERNELS:
        return "xla", f"there is no kernel for {platform}"
    name, kernel, description = JAX_KERNELS[platform]
    refusal = SWITCHED_OFF if is_off else _refusal(kernel, head_dim, dtype)
    return (name, description) if refusal is None else ("xla", refusal)


def _kernel_of(query):
    return attention_kernel(head_dim=query.shape[-1], dtype=keras.backend.standardize_dtype(query.dtype))


def _attend(query, key, value):
    if torch:
        return _on_pytorch(query, key, value)
    if tf:
        return (_products if _platform() == "cpu" else tf.recompute_grad(_products))(query, key, value)
    name, _ = _kernel_of(query)
    return {"products": _on_cpu, "splash": _on_tpu, "cudnn": cudnn_attention, "xla": _by_xla}[name](query, key, value)


def _on_pytorch(query, key, value):
    is_off = keras.config.is_flash_attention_enabled() is False
    plain = torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH)
    with plain if is_off else contextlib.nullcontext():
        mixed = torch.nn.functional.scaled_dot_product_attention(*(x.transpose(1, 2) for x in (query, key, value)))
    return mixed.transpose(1, 2)


def _products(query, key, value):
    """On TensorFlow; with the numbers of `ops.dot_product_attention`, whose einsums take 1.2 to 1.5 times as long."""
    query, key, value = (tf.transpose(x, (0, 2, 1, 3)) for x in (query, key, value))
    logits = tf.cast(tf.matmul(query, key, transpose_b=True), "float32")
    weights = tf.nn.softmax(logits * (1.0 / tf.sqrt(tf.cast(query.shape[-1], "float32"))))
    return tf.transpose(tf.matmul(tf.cast(weights, value.dtype), value), (0, 2, 1, 3))


# JAX


def _on_tpu(query, key, value, lengths=None):
    return _in_float32(functools.partial(splash_attention, lengths=lengths), query, key, value)


def _by_xla(query, key, value):
    attend = functools.partial(jax.nn.dot_product_attention, implementation="xla")
    return attend(query, key, value) if _platform() == "gpu" else _in_float32(attend, query, key, value)


def _on_cpu(query, key, value):
    return _in_float32(_jax_products, query, key, value)


def _in_float32(function, query, key, value):
    """Float16 as float32: JAX asks for float16 products with float32 sums, which only GPUs have."""
    dtype = query.dtype
    if dtype == "float16":
        query, key, value = (ops.cast(x, "float32") for x in (query, key, value))
    return ops.cast(function(query, key, value), dtype)


def _jax_products(query, key, value):
    """The sum of the weights is divided by at the end, on `head_dim` numbers a query instead of one for each token.

    With its gradient it takes 0.65 of the CPU time of `jax.nn.dot_product_attention` (257 tokens, 6 heads of 64).
    """
    query = query * query.shape[-1] ** -0.5
    logits = jax.numpy.einsum("bqhd,bkhd->bhqk", query, key, preferred_element_type="float32")
    weights = jax.numpy.exp(logits - jax.lax.stop_gradient(jax.numpy.max(logits, axis=-1, keepdims=True)))
    mixed = jax.numpy.einsum("bhqk,bkhd->bhqd", weights.astype(value.dtype), value, preferred_element_type="float32")
    return jax.numpy.transpose(mixed / jax.numpy.sum(weights, axis=-1, keepdims=True), (0, 2, 1, 3))


@functools.cache
def _refusal(kernel, head_dim, dtype):
    """Why JAX can't take a kernel, or its gradient, in its own words; `None` if it can.

    Asked before: some errors come when a gradient is taken, long after `attention` has returned.
    """
    if not hasattr(jax, "shard_map"):
        return "JAX before 0.6 has no jax.shard_map"
    row = jax.ShapeDtypeStruct((1, 7, 1, head_dim), dtype)
    gradient = jax.grad(lambda *row: jax.numpy.sum(kernel(*row)), (0, 1, 2))
    try:
        jax.eval_shape(gradient, row, row, row)
    except Exception as error:  # JAX raises many kinds, and versions differ
        return str(error) or type(error).__name__
    return None


JAX_KERNELS = {
    "gpu": ("cudnn", cudnn_attention, "cuDNN's flash attention, in 16 bits"),
    "tpu": ("splash", _on_tpu, "splash attention, rows padded to a multiple of 128 tokens"),
}
