"""Fixed positions: sines and cosines of a patch's place along each axis."""

import numpy as np

from keras_umd.utils.checks import require


def sincos_table(grid, dim):
    """A vector for each place in a grid of patches, made of sines and cosines (MAE and DiT).

    Each axis has an equal part of the vector, the last axis the first one: `sin(k w_i)`, then `cos(k w_i)`, of the
    place k along it, with the frequencies `w_i = 10000^(-i / n)` for i from 0 to n - 1.

    Args:
        grid: Tuple of integers, the number of patches along each space axis.
        dim: Integer, a multiple of twice the number of axes.

    Returns:
        Float32 array `(prod(grid), dim)`, in row-major order.
    """
    require(
        dim % (2 * len(grid)) == 0,
        f"Positions of sines and cosines need a width that is a multiple of {2 * len(grid)}, twice the space axes.",
        width=dim,
    )
    frequencies = 10_000.0 ** -np.linspace(0, 1, dim // (2 * len(grid)), endpoint=False)
    parts = []
    for places in reversed(np.meshgrid(*map(np.arange, grid), indexing="ij")):
        angles = places.reshape(-1, 1) * frequencies
        parts += [np.sin(angles), np.cos(angles)]
    return np.concatenate(parts, axis=1).astype("float32")
