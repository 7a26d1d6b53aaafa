"""Masks of cells of patches, and masks that axes share."""

import math

import keras
import numpy as np
from keras import ops

from keras_umd.corruption.masks.mask import Mask, check_chooses, coordinates
from keras_umd.corruption.masks.random import Random
from keras_umd.layers.masking import ranks
from keras_umd.layers.patches import as_tuple
from keras_umd.utils.checks import check_instances, check_integers, is_list, require


class _Cells(Mask):
    """A mask that decides for cells of patches, not for each patch."""

    def __init__(self, mask):
        mask = Random() if mask is None else mask
        check_instances(Mask, "a Mask, as Random(0.75),", mask=mask)
        check_chooses(mask)
        super().__init__(mask.ratio)
        self.mask = mask

    def _cells(self, grid):
        """The patches of a cell along each axis, a tuple."""
        raise NotImplementedError

    def _grid_of_cells(self, grid):
        """The cells along each axis, a tuple; a last one may be cut by the border."""
        return tuple(-(-size // unit) for size, unit in zip(grid, self._cells(grid), strict=True))

    def num_draws(self, grid):
        return math.prod(grid) + self.mask.num_draws(self._inner_grid(grid))

    def _inner_grid(self, grid):
        """The grid on which the other mask works."""
        return self._grid_of_cells(grid)

    def scores(self, draws, grid, hints=None):
        num_patches, cells = math.prod(grid), self._grid_of_cells(grid)
        scores = self.mask.scores(draws[:, num_patches:], self._inner_grid(grid), hints)
        # Ranks: two cells never mix. Where a cell is cut by the number of visible patches, its patches are chosen at
        # random.
        order = ops.cast(ranks(scores), "float32")
        cell_of = coordinates(tuple(grid)) // np.asarray(self._cells(grid), "float32")
        index = np.ravel_multi_index(tuple(cell_of.astype("int32").T), cells).astype("int32")
        return ops.take(order, index, axis=1) + draws[:, :num_patches]


@keras.saving.register_keras_serializable("keras_umd")
class Coarse(_Cells):
    """Masks whole cells of patches, as another mask chooses them: larger holes, with the same small patches.

    Pixio (Yang et al., "In Pursuit of Pixel Supervision for Visual Pre-training", 2025) masks cells of 4 x 4 patches at
    random. The number of visible patches is exact: if it is no multiple of a cell, one cell is visible in part.

    Example:

    >>> Coarse(Random(0.75), unit=4)

    Args:
        mask: `Mask` of the cells, with the ratio. Defaults to `Random()`.
        unit: Integer, or tuple of integers, one for each space axis. Patches of a cell along each axis; with 1 it is
            the mask itself.
    """

    def __init__(self, mask=None, unit=2):
        super().__init__(mask)
        is_given = unit is not None and not (is_list(unit) and len(unit) == 0)
        require(is_given, "`unit` must be a positive integer or a tuple of them.", unit=unit)
        for value in unit if is_list(unit) else [unit]:
            check_integers(1, 1000, unit=value)
        self.unit = tuple(map(int, unit)) if is_list(unit) else int(unit)

    def _cells(self, grid):
        require(
            not isinstance(self.unit, tuple) or len(self.unit) == len(grid),
            "`unit` must have a number for each space axis.",
            f"unit={self.unit} for a grid of {tuple(grid)} patches",
        )
        return tuple(min(unit, size) for unit, size in zip(as_tuple(self.unit, len(grid)), grid, strict=True))


@keras.saving.register_keras_serializable("keras_umd")
class Shared(_Cells):
    """The same mask all along some axes: the tubes of a video (Tong et al., "VideoMAE", 2022, section 3.3).

    Another mask works on the other axes. What is masked in one frame is masked in all, so that nothing can be copied
    from the frame before: as many patches stay visible as the other mask leaves of one frame, in each of them.

    Example:

    >>> Shared(Random(0.9), axes=0)      # of videos (frames, height, width, channels)

    Args:
        mask: `Mask` for the other axes, with the ratio. Defaults to `Random()`.
        axes: Integer or tuple of different integers from 0, the space axes that share it.
    """

    def __init__(self, mask=None, axes=0):
        super().__init__(mask)
        values = list(axes) if is_list(axes) else [axes]
        for value in values:
            check_integers(0, 3, axes=value)
        require(values and len(set(values)) == len(values), "`axes` must be different integers.", axes=axes)
        self.axes = tuple(map(int, values)) if is_list(axes) else int(axes)

    def num_visible(self, grid):
        # Of whole cells: of one that is visible in part, what is hidden could be copied from the frame before.
        inner = self._inner_grid(grid)
        return self.mask.num_visible(inner) * (math.prod(grid) // math.prod(inner))

    def _cells(self, grid):
        shared = self._checked_axes(grid)
        return tuple(size if axis in shared else 1 for axis, size in enumerate(grid))

    def _inner_grid(self, grid):
        """The grid without the axes that share the mask: the other mask need not know of them."""
        shared = self._checked_axes(grid)
        return tuple(size for axis, size in enumerate(grid) if axis not in shared)

    def _checked_axes(self, grid):
        axes = self.axes if isinstance(self.axes, tuple) else (self.axes,)
        require(
            max(axes) < len(grid) and len(axes) < len(grid),
            "`axes` must be space axes of the images, and leave one.",
            f"axes={self.axes} for a grid of {tuple(grid)} patches",
        )
        return axes
