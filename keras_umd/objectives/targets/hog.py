"""Histograms of oriented gradients as targets."""

import math

import keras
from keras import ops

from keras_umd.layers.patches import as_tuple, patchify
from keras_umd.objectives.targets.target import Target
from keras_umd.utils.checks import check_integers, check_one_of, require

EPSILON = 1e-5  # beside the norm of a histogram: where an image is flat, it is 0


@keras.saving.register_keras_serializable("keras_umd")
class HOG(Target):
    """Histograms of oriented gradients (Dalal and Triggs, 2005; as a target Wei et al., "MaskFeat", 2022, section 3.2).

    In each cell of pixels and each channel, the magnitudes of the gradients are averaged by their orientation, which
    has no sign, and the histogram is divided by its norm. So contrast and brightness don't count, only where edges run.
    For images with two space axes.

    Example:

    >>> objective = Objective([Reconstruction("clean", targets.HOG(cell=4))])

    Args:
        bins: Integer, at least 1. Orientations, equal parts of half a turn; no interpolation between them.
        cell: Integer. Pixels along each side of a cell, a divisor of the patch size.
        operator: `"sobel"`, which continues images as a mirror does, or `"central"`, differences of the neighbours that
            are 0 at the border, as in scikit-image.
    """

    name = "hog"

    def __init__(self, bins=9, cell=8, operator="sobel"):
        check_integers(1, 360, bins=bins)
        check_integers(1, 10_000, cell=cell)
        check_one_of(("sobel", "central"), operator=operator)
        self.bins = bins
        self.cell = cell
        self.operator = operator

    def num_values(self, patch_dim):
        is_right = patch_dim % self.cell**2 == 0
        message = "`cell` must be a divisor of the patch size."
        require(is_right, message, f"cell={self.cell} for patches of {patch_dim} numbers")
        return patch_dim // self.cell**2 * self.bins

    def __call__(self, view, patch_size, teacher=None):
        images = view["x0"]
        require(
            len(images.shape) == 4 and min(images.shape[1:3]) > 1,
            "HOG is for images with two space axes, of two pixels or more.",
            f"images of shape {tuple(images.shape)}",
        )
        sizes = as_tuple(patch_size, 2)
        require(
            all(size % self.cell == 0 for size in sizes),
            "`cell` must be a divisor of the patch size.",
            f"cell={self.cell} for patches of {sizes}",
        )
        along_rows, along_columns = (self._gradient(images, axis) for axis in (1, 2))
        magnitude = ops.sqrt(ops.square(along_rows) + ops.square(along_columns))
        angle = ops.arctan2(along_rows, along_columns) * (self.bins / math.pi)
        bins = ops.mod(ops.floor(angle), self.bins)  # half a turn is where it began
        # One pass for each bin: all of them at once would be nine times the images in memory.
        histograms = [self._cell_means(ops.where(bins == index, magnitude, 0.0)) for index in range(self.bins)]
        histograms = ops.stack(histograms, axis=-1)  # (n, rows, columns, channels, bins), of cells
        norm = ops.sqrt(ops.sum(ops.square(histograms), axis=-1, keepdims=True) + EPSILON**2)
        cells = ops.reshape(histograms / norm, (-1, *histograms.shape[1:3], images.shape[-1] * self.bins))
        return patchify(cells, tuple(size // self.cell for size in sizes))

    def _gradient(self, images, axis):
        if self.operator == "central":
            widths = [(0, 0)] * 4
            widths[axis] = (1, 1)
            return ops.pad(_difference(images, axis), widths)  # 0 at the border
        mirrored = ops.pad(images, [(0, 0), (1, 1), (1, 1), (0, 0)], mode="reflect")
        return _smoothed(_difference(mirrored, axis), 3 - axis)

    def _cell_means(self, x):
        _, height, width, channels = x.shape
        x = ops.reshape(x, (-1, height // self.cell, self.cell, width // self.cell, self.cell, channels))
        return ops.mean(x, axis=(2, 4))


def _part(x, axis, start, stop):
    return x[:, start : x.shape[1] + stop] if axis == 1 else x[:, :, start : x.shape[2] + stop]


def _difference(x, axis):
    return _part(x, axis, 2, 0) - _part(x, axis, 0, -2)


def _smoothed(x, axis):
    return _part(x, axis, 0, -2) + 2.0 * _part(x, axis, 1, -1) + _part(x, axis, 2, 0)
