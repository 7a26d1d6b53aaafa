"""Pixels that count more near the border of a hole."""

import math

import keras
from keras import ops

from keras_umd.layers.patches import as_tuple, patch_grid, patchify
from keras_umd.objectives.targets.target import Target
from keras_umd.utils.checks import check_integers, check_numbers


@keras.saving.register_keras_serializable("keras_umd")
class Bordered(Target):
    """The pixels of the clean image, of which those next to visible ones count more (Pathak et al., 2016, section 3.2).

    So that what is filled in fits its surroundings. The error is the weighted mean of a patch, so that patches all
    count the same where no border runs.

    Example:

    >>> corruption = Corruption(views=[View("clean", mask=masks.Center(0.25))])
    >>> objective = Objective([Reconstruction("clean", targets.Bordered(width=2))])

    Args:
        width: Integer of at least 0, the pixels from a visible one, also diagonally, that belong to the border. The
            paper has 4 of 128; 0 is `X0` through a head of its own.
        weight: Positive float, how much more these count.
    """

    name = "bordered"
    is_pixels = True

    def __init__(self, width=4, weight=10.0):
        check_integers(0, 10_000, width=width)
        check_numbers("(0, 1e6]", weight=weight)
        self.width = width
        self.weight = weight

    def __call__(self, view, patch_size, teacher=None):
        x0 = view["x0"]
        patches = patchify(x0, patch_size)
        if "visible" not in view or not self.width:
            return ops.concatenate([patches, ops.ones_like(patches)], axis=-1)
        sizes = as_tuple(patch_size, len(x0.shape) - 2)
        near = _near_visible(view["visible"], patch_grid(x0.shape[1:], sizes), sizes, self.width)
        weights = 1.0 + (self.weight - 1.0) * ops.broadcast_to(near, ops.shape(x0))
        return ops.concatenate([patches, patchify(weights, patch_size)], axis=-1)  # (n, num_patches, 2 * patch_dim)

    def errors(self, prediction, target):
        values, weights = ops.split(ops.cast(target, "float32"), 2, axis=-1)
        squares = ops.square(ops.cast(prediction, "float32") - values)
        return ops.sum(squares * weights, axis=-1) / ops.sum(weights, axis=-1)

    def as_pixels(self, prediction, patches):
        return prediction


def _near_visible(visible, grid, sizes, width):
    """Which pixels are at most `width` away from a visible one, `(n, *space, 1)`, float32."""
    is_visible = ops.any(visible[:, :, None] == ops.arange(math.prod(grid), dtype="int32"), axis=1)
    x = ops.cast(ops.reshape(is_visible, (-1, *grid)), "float32")
    for axis, size in enumerate(sizes, start=1):
        x = ops.repeat(x, size, axis=axis)
        length, padding = x.shape[axis], [(0, 0)] * len(x.shape)
        padding[axis] = (width + 1, width)
        sums = ops.cumsum(ops.pad(x, padding), axis=axis)  # the visible pixels in a window are a difference of two
        before, behind = (ops.take(sums, ops.arange(start, start + length), axis=axis) for start in (0, 2 * width + 1))
        x = ops.cast(behind - before > 0.5, "float32")
    return x[..., None]
