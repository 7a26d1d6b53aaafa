"""Masks that keep squares."""

import math

import keras
import numpy as np
from keras import ops

from keras_umd.corruption.masks.mask import Mask, coordinates
from keras_umd.utils.checks import check_bools, check_integers, check_numbers

MAX_SIZE = 1000  # patches: no grid is as long


@keras.saving.register_keras_serializable("keras_umd")
class InverseBlock(Mask):
    """Keeps squares of patches visible and masks what is around them (Baevski et al., "data2vec 2.0", 2023).

    As many squares as cover the visible share and `adjust` are placed anywhere; where they overlap, random patches
    are added, and where they cover too much, random ones dropped.

    Example:

    >>> corruption = Corruption(views=[View("clean", mask=masks.InverseBlock(0.8))])
    >>> picture = keras_umd.plots.masks(masks.InverseBlock(0.8), grid=(14, 14))

    Args:
        ratio: Float in [0, 1). Share of the patches to mask.
        size: Integer, at least 1. Patches along each side of a square.
        adjust: Float in [-1, 1]. Share of the patches that is added to the visible share before squares are counted.
        wrap: Bool. Whether squares that reach over the border go on at the other side. Without it they are cut, as in
            the paper, and patches near the border are visible less often.
    """

    def __init__(self, ratio=0.8, size=3, adjust=0.07, wrap=False):
        super().__init__(ratio)
        check_integers(1, MAX_SIZE, size=size)
        check_numbers("[-1, 1]", adjust=adjust)
        check_bools(wrap=wrap)
        self.size = size
        self.adjust = adjust
        self.wrap = wrap

    def _num_squares(self, grid):
        """The number of squares in a grid of patches."""
        return max(0, int(math.prod(grid) * (1 - self.ratio + self.adjust) / self.size ** len(grid)))

    def num_draws(self, grid):
        return math.prod(grid) + self._num_squares(grid) * len(grid)

    def scores(self, draws, grid, hints=None):
        num_patches, number = math.prod(grid), self._num_squares(grid)
        fill = draws[:, :num_patches]
        if not number:
            return fill
        sizes = np.asarray(grid, "float32")
        centers = ops.floor(ops.reshape(draws[:, num_patches:], (-1, number, 1, len(grid))) * sizes)
        at = ops.convert_to_tensor(coordinates(grid)) + float(self.size // 2) - centers  # (n, squares, patches, axes)
        at = at - ops.floor(at / sizes) * sizes if self.wrap else at
        covered = ops.any(ops.all(ops.logical_and(at >= 0, at < self.size), axis=-1), axis=1)
        return fill + ops.cast(ops.logical_not(covered), "float32")
