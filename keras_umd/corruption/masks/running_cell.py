"""A cell of patches that runs from frame to frame."""

import math

import keras
import numpy as np
from keras import ops

from keras_umd.corruption.masks.mask import Mask

CELL = 4  # patches of a cell, 2 x 2, or 4 in a row where there is one axis


@keras.saving.register_keras_serializable("keras_umd")
class RunningCell(Mask):
    """Half of the patches, evenly spread: two of each cell of 2 x 2 (VideoMAE V2; Wang et al., 2023, section 3.2).

    Which two turns by one place from frame to frame, and begins anywhere. Meant for `View.decoded`, for which patches
    training decodes; as a mask, it hides the other ones last.

    Example:

    >>> View("clean", mask=Shared(Random(0.9)), decoded_ratio=0.5, decoded=RunningCell())

    Args:
        ratio: Float in [0, 1). Share of the patches to mask; as `decoded`, the view's `decoded_ratio` counts.
    """

    def __init__(self, ratio=0.5):
        super().__init__(ratio)

    def num_draws(self, grid):
        return math.prod(grid) + 1

    def scores(self, draws, grid, hints=None):
        num_patches = math.prod(grid)
        phase = ops.floor(draws[:, num_patches:] * CELL)  # (n, 1)
        place = (ops.convert_to_tensor(_places(tuple(grid))) - phase) % CELL
        return draws[:, :num_patches] + ops.cast(place >= CELL // 2, "float32")


def _places(grid):
    """The place of each patch in its cell, less its frame: float32 `(num_patches,)`."""
    index = np.unravel_index(np.arange(math.prod(grid)), grid)
    place = index[-1] % CELL if len(grid) == 1 else 2 * (index[-2] % 2) + index[-1] % 2
    frame = sum(index[:-2]) if len(grid) > 2 else 0
    return (place - frame).astype("float32")
