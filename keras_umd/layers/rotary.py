"""Rotary positions along any number of axes: pure functions, without weights."""

import math

import numpy as np
from keras import ops

from keras_umd.utils.checks import require


def grid_positions(grid):
    """The place of each patch along each axis, an int32 array `(num_patches, axes)`, in row-major order."""
    return np.stack(np.unravel_index(np.arange(math.prod(grid)), grid), axis=-1).astype("int32")


def take_positions(positions, indices=None):
    """Of positions `(num_patches, axes)`, those of the patches `indices` `(batch, n)`: `(batch, n, axes)`; else all."""
    positions = ops.convert_to_tensor(positions)
    return positions[None] if indices is None else ops.take(positions, indices, axis=0)


def check_rotation(head_dim, num_axes):
    """Raise a ValueError where a head has no pair of numbers for each axis."""
    require(
        head_dim % 2 == 0 and head_dim >= 2 * num_axes,
        f"With `rope`, the width of a head must be even and at least {2 * num_axes}: each space axis turns pairs of "
        "its numbers. Take fewer heads, or a larger width.",
        f"heads of width {head_dim}",
    )


def rotation(positions, num_tokens, head_dim, theta):
    """Cosines and sines of the angles of tokens (Su et al., 2021), the pairs of a head shared out among the axes.

    Pair i of the p of an axis turns by `position * theta^(-i / p)`. Pairs that are left over, and tokens in front that
    have no position, don't turn.

    Args:
        positions: Int tensor of shape `(batch or 1, n, axes)`, the places of the last n tokens. They may be any, also
            negative: what attention sees is their differences. Integers, since Keras would round floats to bfloat16.
        num_tokens: Integer, at least n.
        head_dim: Integer.
        theta: Float.

    Returns:
        Two float32 tensors of shape `(batch or 1, num_tokens, 1, head_dim / 2)`.
    """
    number, num_axes = positions.shape[1:]
    check_rotation(head_dim, num_axes)
    pairs = head_dim // 2 // num_axes
    frequencies = (theta ** (-np.arange(pairs) / pairs)).astype("float32")
    angles = ops.cast(positions, "float32")[..., None] * frequencies  # (batch, n, axes, pairs)
    angles = ops.reshape(angles, (-1, number, num_axes * pairs))
    padding = (0, 0), (num_tokens - number, 0), (0, head_dim // 2 - num_axes * pairs)
    angles = ops.pad(angles, padding)[:, :, None]
    return ops.cos(angles), ops.sin(angles)


def rotate(x, cosines, sines):
    """Turn pairs of numbers in the heads of `x` `(batch, n, heads, head_dim)`: i and i + head_dim / 2 are a pair."""
    first, second = ops.split(ops.cast(x, "float32"), 2, axis=-1)
    turned = [first * cosines - second * sines, second * cosines + first * sines]
    return ops.cast(ops.concatenate(turned, axis=-1), x.dtype)
