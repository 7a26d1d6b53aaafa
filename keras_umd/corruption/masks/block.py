"""Masks of rectangles."""

import math

import keras
import numpy as np
from keras import ops

from keras_umd.corruption.masks.mask import Mask, coordinates
from keras_umd.utils.checks import check_integers, is_pair, require

MAX_ATTEMPTS = 1000


@keras.saving.register_keras_serializable("keras_umd")
class Block(Mask):
    """Masks rectangles of patches, one after the other, until enough are masked (Bao et al., "BEiT", 2022).

    Each attempt draws an area between `min_patches` and what is left to mask, the ratio of its sides and its place. It
    counts if it fits into the grid and masks at least one new patch and no more than are left. A fixed number of
    attempts keeps shapes and programs static; what they leave over is filled up with random patches, so that the
    number of masked patches is exact. In a grid with more axes than two, blocks are boxes, in one with one axis spans.

    Example:

    >>> corruption = Corruption(views=[View("clean", mask=masks.Block(0.4))])
    >>> picture = keras_umd.plots.masks(masks.Block(0.4), grid=(14, 14))

    Args:
        ratio: Float in [0, 1). Share of the patches to mask. The paper masks 75 of 196.
        min_patches: Integer, at least 1. The least area of an attempt.
        aspect: Pair of positive, rising floats, the range of the ratio of a rectangle's sides.
        attempts: Integer from 0, which is `Random`, to 1000.
    """

    def __init__(self, ratio=0.4, min_patches=16, aspect=(0.3, 1 / 0.3), attempts=40):
        super().__init__(ratio)
        check_integers(1, min_patches=min_patches)
        check_integers(0, MAX_ATTEMPTS, attempts=attempts)
        require(is_pair(aspect, 1e-3, 1e3), "`aspect` must be a pair of rising numbers in [1e-3, 1e3].", aspect=aspect)
        self.min_patches = min_patches
        self.aspect = tuple(map(float, aspect))
        self.attempts = attempts

    def num_draws(self, grid):
        # Of an attempt: the area, the ratio of each other axis to the last, and the place on each axis.
        return math.prod(grid) + self.attempts * 2 * len(grid)

    def scores(self, draws, grid, hints=None):
        num_patches, axes = math.prod(grid), len(grid)
        fill = draws[:, :num_patches]
        if not self.attempts:
            return fill
        of_attempts = ops.reshape(draws[:, num_patches:], (-1, self.attempts, 2 * axes))
        areas, ratios, places = of_attempts[..., 0], of_attempts[..., 1:axes], of_attempts[..., axes:]
        stretch = _stretch(ratios, areas, self.aspect)  # (n, attempts, axes)
        num_masked = num_patches - self.num_visible(grid)

        def attempt(index, covered):  # (n, num_patches), more for what was covered earlier, 0 for what is not
            left = num_masked - ops.sum(ops.cast(covered > 0, "float32"), axis=1, keepdims=True)
            area = self.min_patches + ops.take(areas, index, axis=1)[:, None] * (left - self.min_patches)
            sides = ops.round(ops.power(ops.maximum(area, 0.0), 1 / axes) * ops.take(stretch, index, axis=1))
            inside, fits = _box(sides, ops.take(places, index, axis=1), grid)
            new = ops.logical_and(inside, covered == 0)
            number = ops.sum(ops.cast(new, "float32"), axis=1, keepdims=True)
            counts = ops.logical_and(fits, ops.logical_and(number > 0, number <= left))
            rank = ops.cast(self.attempts - index, "float32")
            return ops.where(ops.logical_and(new, counts), rank, covered)

        # Patches without a block keep the numbers as they are: a sum would round them, and make ties.
        return fill + ops.fori_loop(0, self.attempts, attempt, ops.zeros_like(fill))


def _stretch(draws, areas, aspect):
    """The sides of boxes with volume 1, `(n, attempts, axes)`: the ratios are uniform in their logarithm."""
    low, high = np.log(aspect).astype("float32")
    logs = low + draws * (high - low)
    logs = ops.concatenate([logs, ops.zeros_like(areas)[..., None]], axis=-1)  # the last axis is what others relate to
    return ops.exp(logs - ops.mean(logs, axis=-1, keepdims=True))


def _box(sides, places, grid):
    """Which patches lie in a box, `(n, num_patches)`, and whether it fits into the grid, `(n, 1)`."""
    room = ops.convert_to_tensor(np.asarray(grid, "float32")) - sides  # (n, axes)
    start = ops.floor(places * (room + 1))
    at = ops.convert_to_tensor(coordinates(grid))  # (num_patches, axes)
    inside = ops.logical_and(at >= start[:, None], at < (start + sides)[:, None])
    return ops.all(inside, axis=-1), ops.all(room >= 0, axis=-1, keepdims=True)
