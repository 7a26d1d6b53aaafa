"""Convolutions over the grid of patches, of any number of axes."""

import itertools
import math

import keras
import numpy as np
from keras import ops

from keras_umd.layers.embeddings import checked_grid
from keras_umd.layers.rotary import grid_positions
from keras_umd.layers.symbolic import BaseLayer
from keras_umd.utils.checks import check_integers, require

MAX_NEIGHBOURS = 10_000


@keras.saving.register_keras_serializable("keras_umd")
class GridConvolution(BaseLayer):
    """A grouped convolution over the patches of an image, LayerNorm, GELU, and a residual connection around them.

    A product over gathered neighbours, since grouped convolutions have no gradient on some devices and backends.

    Args:
        grid: Tuple of one to four integers, the patches along each space axis.
        kernel: Odd integer, the patches along each axis of the kernel. Outside of the grid there are zeros.
        groups: Integer, a divisor of the tokens' width.

    Call arguments:
        tokens: Float tensor of shape `(batch, num_patches, hidden_dim)`, in row-major order.

    Returns:
        Float tensor of the shape of `tokens`.
    """

    def __init__(self, grid, kernel=3, groups=16, **kwargs):
        super().__init__(**kwargs)
        self.grid = checked_grid(grid)
        check_integers(1, kernel=kernel, groups=groups)
        is_odd = kernel % 2 == 1 and kernel ** len(self.grid) <= MAX_NEIGHBOURS
        require(is_odd, f"`kernel` must be odd, and have at most {MAX_NEIGHBOURS} places.", kernel=kernel)
        self.kernel = int(kernel)
        self.groups = int(groups)

    def build(self, tokens_shape):
        width, places = tokens_shape[-1], self.kernel ** len(self.grid)
        require(width % self.groups == 0, "`groups` must divide the width.", groups=self.groups, hidden_dim=width)
        size = width // self.groups
        limit = math.sqrt(3.0 / (places * size))
        self.weight = self.add_weight(
            shape=(places, self.groups, size, size),
            initializer=keras.initializers.RandomUniform(-limit, limit),
            name="kernel",
        )
        self.bias = self.add_weight(shape=(width,), initializer="zeros", name="bias")
        self.norm = keras.layers.LayerNormalization(
            epsilon=1e-6, center=False, scale=False, dtype=self.dtype_policy, name="norm"
        )
        self.norm.build(tokens_shape)
        self.neighbours = _neighbours(self.grid, self.kernel)  # (num_patches, places)

    def call(self, tokens):
        number, width = tokens.shape[1:]
        padded = ops.concatenate([tokens, ops.zeros_like(tokens[:, :1])], axis=1)
        near = ops.take(padded, ops.convert_to_tensor(self.neighbours), axis=1)  # (batch, num_patches, places, width)
        near = ops.reshape(near, (-1, number, near.shape[2], self.groups, width // self.groups))
        mixed = ops.einsum("bnkgc,kgcd->bngd", near, ops.convert_to_tensor(self.weight))
        mixed = ops.reshape(mixed, (-1, number, width)) + self.bias
        return tokens + keras.activations.gelu(self.norm(mixed), approximate=True)

    def products(self, hidden_dim):
        """FLOPs of its matrix product for an image."""
        return 2 * math.prod(self.grid) * self.kernel ** len(self.grid) * hidden_dim * (hidden_dim // self.groups)


def _neighbours(grid, kernel):
    """The indices of the patches around each patch, int32 `(num_patches, places)`; `num_patches` for those outside."""
    offsets = np.array(list(itertools.product(range(-(kernel // 2), kernel // 2 + 1), repeat=len(grid))))
    near = grid_positions(grid)[:, None] + offsets  # (num_patches, places, axes)
    is_inside = ((near >= 0) & (near < np.array(grid))).all(axis=-1)
    clipped = np.clip(near, 0, np.array(grid) - 1)
    index = np.ravel_multi_index(tuple(np.moveaxis(clipped, -1, 0)), grid)
    return np.where(is_inside, index, math.prod(grid)).astype("int32")
