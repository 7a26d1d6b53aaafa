"""Masks from filtered noise."""

import math

import keras
import numpy as np
from keras import ops

from keras_umd.corruption.masks.mask import Mask
from keras_umd.utils.checks import as_numbers, check_one_of, require

# Standard deviations of the Gaussian filters, in patches. The paper doesn't give its own; "green" keeps a band of
# frequencies between two of them.
COLORS = {"red": (1.0,), "blue": (1.0,), "green": (0.5, 2.0), "purple": (0.5, 2.0)}
# Under it a filter changes nothing in float32, and what it takes from white noise is 0 everywhere: no mask at all.
MIN_STD = 0.2
MAX_STD = 1000.0  # patches: no grid is as long, and the filter is computed out to four of them


@keras.saving.register_keras_serializable("keras_umd")
class ColorNoise(Mask):
    """Masks the patches where filtered noise is strongest (Hinojosa et al., "ColorMAE", 2024, section 3).

    The filter decides what masked regions look like: `"red"` noise, low frequencies, gives large regions; `"blue"`,
    high ones, spreads masked patches evenly; `"green"`, a band in between, gives clusters of even size, evenly spread;
    `"purple"` is what green leaves out. It works on any number of space axes, which wrap around.

    Example:

    >>> corruption = Corruption(views=[View("clean", mask=masks.ColorNoise("green", 0.75))])
    >>> picture = keras_umd.plots.masks(masks.ColorNoise("green", 0.75), grid=(14, 14))

    Args:
        color: `"red"`, `"blue"`, `"green"` or `"purple"`.
        ratio: Float in [0, 1). Share of the patches to mask.
        std: Tuple of one positive float, or of two rising ones for green and purple: standard deviations of the
            Gaussian filters, in patches; the one of blue noise and the wider one of green at least 0.2, or nothing
            would be left. Defaults to 1, and to 0.5 and 2.
    """

    def __init__(self, color="green", ratio=0.75, std=None):
        super().__init__(ratio)
        check_one_of(tuple(COLORS), color=color)
        std = COLORS[color] if std is None else tuple(np.atleast_1d(as_numbers(std=std)).ravel().tolist())
        require(
            len(std) == len(COLORS[color]) and min(std) > 0 and max(std) <= MAX_STD and list(std) == sorted(set(std)),
            f"`std` of {color} noise must be {len(COLORS[color])} positive, rising numbers.",
            std=std,
        )
        require(
            color not in ("blue", "green") or std[-1] >= MIN_STD,
            f"`std` of {color} noise must reach {MIN_STD}: narrower filters leave nothing of it.",
            std=std,
        )
        self.color = color
        self.std = std

    def scores(self, draws, grid, hints=None):
        # Normal numbers by the inverse of their distribution; its ends are infinite.
        white = ops.reshape(ops.erfinv(ops.clip(2.0 * draws - 1.0, -1 + 1e-6, 1 - 1e-6)), (-1, *grid))
        smooth = [self._blurred(white, grid, std) for std in self.std]
        band = smooth[0] if len(smooth) == 1 else smooth[0] - smooth[1]
        filtered = band if self.color in ("red", "green") else white - band
        return ops.reshape(filtered, (-1, math.prod(grid)))  # the lowest stay visible

    @staticmethod
    def _blurred(x, grid, std):
        for axis, size in enumerate(grid, start=1):
            x = ops.moveaxis(
                ops.tensordot(x, ops.convert_to_tensor(_blur_matrix(size, std)), axes=((axis,), (1,))), -1, axis
            )
        return x


def _blur_matrix(size, std):
    """A Gaussian filter along an axis that wraps around, as a matrix `(size, size)` whose rows add up to 1."""
    reach = math.ceil(4 * std)
    offsets = np.arange(-reach, reach + 1)
    kernel = np.exp(-(offsets**2) / (2 * std**2))
    matrix = np.zeros((size, size))
    for row in range(size):
        np.add.at(matrix[row], (row + offsets) % size, kernel / kernel.sum())
    return matrix.astype("float32")
