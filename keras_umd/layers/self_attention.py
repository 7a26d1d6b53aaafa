"""Multi-head self-attention."""

import keras
from keras import ops

from keras_umd.backend.attention import attention
from keras_umd.backend.kernels import project
from keras_umd.layers import segments
from keras_umd.layers.block import as_block
from keras_umd.layers.dense import Dense
from keras_umd.layers.norms import RMSNorm
from keras_umd.layers.rotary import rotate, rotation
from keras_umd.layers.symbolic import BaseLayer
from keras_umd.utils.checks import check_positive_integers, require


@keras.saving.register_keras_serializable("keras_umd")
class SelfAttention(BaseLayer):
    """Multi-head self-attention over all tokens, without mask or dropout.

    Three plain `Dense` projections, not `keras.layers.MultiHeadAttention`: its `EinsumDense` takes 1.7 times as long on
    TensorFlow (equal on JAX and PyTorch), and `enable_lora` and `quantize` work here too.

    Example:

    >>> layers.SelfAttention(num_heads=2)(np.ones((4, 5, 32), "float32")).shape
    (4, 5, 32)

    Args:
        num_heads: Integer, a divisor of the tokens' width.
        block: `Block`, whose `qk_norm`, `rope` and `value_residual` are read. Defaults to none of them.

    Call arguments:
        tokens: Float tensor of shape `(batch, n, hidden_dim)`.
        num_outputs: Integer, how many tokens at the end are wanted; the others are only attended to. Defaults to all.
        lengths, with a tuple as `num_outputs`: As of `TransformerBlock`.
        positions: Int tensor of shape `(batch or 1, m, axes)`, the places of the last m tokens, which `rope` needs.
        first_value: Float tensor `(batch, m, heads, head_dim)`, the values of the last m tokens in the first block, for
            `value_residual`; tokens before them have joined since, and keep their own.
        return_value: Bool. Whether to return the values, too.

    Returns:
        Float tensor of shape `(batch, num_outputs or n, hidden_dim)`; with `return_value` a pair of it and of the
        values `(batch, n, heads, head_dim)`.
    """

    def __init__(self, num_heads, block=None, **kwargs):
        super().__init__(**kwargs)
        check_positive_integers(num_heads=num_heads)
        self.num_heads = int(num_heads)
        self.block = as_block(block)

    def build(self, tokens_shape):
        self._build_projections(tokens_shape, tokens_shape)

    def _build_projections(self, tokens_shape, context_shape):
        hidden_dim = tokens_shape[-1]
        require(
            hidden_dim % self.num_heads == 0,
            "The width of the tokens must be divisible by the number of heads.",
            hidden_dim=hidden_dim,
            num_heads=self.num_heads,
        )
        for name in ("query", "key", "value", "output_projection"):
            projection = Dense(hidden_dim, dtype=self.dtype_policy, name=name)
            projection.build(context_shape if name in ("key", "value") else tokens_shape)
            setattr(self, name, projection)
        if self.block.qk_norm:
            self.query_norm = RMSNorm(dtype=self.dtype_policy, name="query_norm")
            self.key_norm = RMSNorm(dtype=self.dtype_policy, name="key_norm")
            for norm in (self.query_norm, self.key_norm):
                norm.build((hidden_dim // self.num_heads,))
        if self.block.value_residual:
            self.value_mix = self.add_weight(shape=(), initializer=keras.initializers.Constant(0.5), name="value_mix")

    def call(self, tokens, num_outputs=None, positions=None, first_value=None, return_value=False, lengths=None):
        last = segments.last(tokens, num_outputs, lengths)
        query = self._heads(project(self.query, last))  # (batch, num_outputs, heads, head_dim)
        key = self._heads(project(self.key, tokens))  # (batch, n, heads, head_dim)
        value = self._heads(project(self.value, tokens))
        if self.block.qk_norm:
            query, key = self.query_norm(query), self.key_norm(key)
        if self.block.rope:
            query, key = self._rotated(query, key, positions)
        if first_value is not None:
            value = self._mixed(value, first_value)
        mixed = ops.reshape(_attended(query, key, value, num_outputs, lengths), (-1, query.shape[1], tokens.shape[-1]))
        mixed = project(self.output_projection, mixed)  # (batch, num_outputs, hidden_dim)
        return (mixed, value) if return_value else mixed

    def _rotated(self, query, key, positions):
        require(positions is not None, "Attention with `rope` needs the `positions` of the tokens.", "None")
        cosines, sines = rotation(positions, key.shape[1], key.shape[-1], self.block.rope_theta)
        queries = query.shape[1]
        return rotate(query, cosines[:, -queries:], sines[:, -queries:]), rotate(key, cosines, sines)

    def _mixed(self, value, first_value):
        """`a v_1 + (1 - a) v` (Zhou et al., 2024) for the tokens that were there in the first block."""
        joined = value.shape[1] - first_value.shape[1]
        share = ops.cast(self.value_mix, value.dtype)
        mixed = share * first_value + (1 - share) * value[:, joined:]
        return ops.concatenate([value[:, :joined], mixed], axis=1) if joined else mixed

    def _heads(self, x):
        return ops.reshape(x, (-1, x.shape[1], self.num_heads, x.shape[-1] // self.num_heads))


def _attended(query, key, value, num_outputs, lengths):
    """Attention in rows of several images, whose queries may be fewer than their keys, or in rows of one."""
    if lengths is None or num_outputs is None:
        return attention(query, key, value, lengths)
    parts = segments.split(query, num_outputs), segments.split(key, lengths), segments.split(value, lengths)
    return ops.concatenate([attention(*part) for part in zip(*parts, strict=True)], axis=1)
