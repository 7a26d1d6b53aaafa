"""Masks along axes."""

import math

import keras
import numpy as np
from keras import ops

from keras_umd.corruption.masks.mask import Mask
from keras_umd.layers.masking import check_mask_ratio, num_visible, ranks
from keras_umd.layers.rotary import grid_positions
from keras_umd.utils.checks import is_list, require


@keras.saving.register_keras_serializable("keras_umd")
class Product(Mask):
    """Masks random rows and random columns: a patch is visible where all of its axes are.

    For spectrograms, spans of time and bands of frequency (Huang et al., "Masked Autoencoders that Listen", 2022, where
    it is the mask of the fine-tuning). The visible patches form a grid.

    Example:

    >>> corruption = Corruption(views=[View("clean", mask=masks.Product((0.3, 0.3)))])
    >>> picture = keras_umd.plots.masks(masks.Product((0.3, 0.3)), grid=(14, 14))

    Args:
        ratios: Tuple of floats in [0, 1), the share of the places along each space axis that is masked.
    """

    def __init__(self, ratios=(0.3, 0.3)):
        require(
            is_list(ratios) and len(ratios), "`ratios` must be a tuple of numbers, one for each axis.", ratios=ratios
        )
        for ratio in ratios:
            check_mask_ratio(ratio, "ratios")
        self.ratios = tuple(map(float, ratios))
        super().__init__(1 - math.prod(1 - ratio for ratio in self.ratios))

    def _visible_along(self, grid):
        """The visible places along each axis, a tuple."""
        require(
            len(grid) == len(self.ratios),
            "`ratios` must have a number for each space axis.",
            f"ratios={self.ratios} for a grid of {tuple(grid)} patches",
        )
        return tuple(map(num_visible, grid, self.ratios))

    def num_visible(self, grid):
        return math.prod(self._visible_along(grid))

    def num_draws(self, grid):
        return math.prod(grid) + sum(grid)

    def scores(self, draws, grid, hints=None):
        start, at = math.prod(grid), grid_positions(tuple(grid))
        scores = draws[:, :start]
        for axis, (size, visible) in enumerate(zip(grid, self._visible_along(grid), strict=True)):
            is_hidden = ops.cast(ranks(draws[:, start : start + size]) >= visible, "float32")
            scores = scores + ops.take(is_hidden, np.ascontiguousarray(at[:, axis]), axis=1)
            start += size
        return scores
