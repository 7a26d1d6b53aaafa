"""Where tokens look."""

import math

from keras import ops

from keras_umd.backend.kernels import project
from keras_umd.layers.modulations import modulation_of
from keras_umd.layers.rotary import rotate, rotation


def attention_of_first(block, tokens, number, condition=None, positions=None):
    """How much the first tokens look at each token in a block, the mean over these tokens and the heads.

    Args:
        block: `TransformerBlock`.
        tokens: Float tensor of shape `(batch, n, hidden_dim)`, what goes into the block.
        number: Integer, how many of the first tokens look.
        condition, positions: As of `TransformerBlock`.

    Returns:
        Float32 tensor of shape `(batch, n)`, whose rows add up to 1.
    """
    shifts = ()
    if block.conditioning == "adaln_zero":
        shifts = ops.split(modulation_of(block, condition)[:, None], 6, axis=-1)[:2]
    normalized, attention = block.attention_norm(tokens, *shifts), block.attention
    width = tokens.shape[-1] // block.num_heads
    query = _heads(project(attention.query, normalized[:, :number]), width)
    key = _heads(project(attention.key, normalized), width)  # (batch, n, heads, head_dim)
    if block.block.qk_norm:
        query, key = attention.query_norm(query), attention.key_norm(key)
    if block.block.rope:  # the first tokens are no patches, and aren't rotated
        key = rotate(key, *rotation(positions, key.shape[1], width, block.block.rope_theta))
    logits = ops.cast(ops.einsum("bqhd,bkhd->bhqk", query, key), "float32") / math.sqrt(width)
    return ops.mean(ops.softmax(logits, axis=-1), axis=(1, 2))


def _heads(x, width):
    return ops.reshape(x, (-1, x.shape[1], x.shape[-1] // width, width))
