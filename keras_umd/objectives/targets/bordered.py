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

    So that what is filled in fits its surroundings. The loss is the weighted mean over all hidden pixels of an image:
    weights are divided by their mean there.

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
        seen = _seen_pixels(view, patch_grid(x0.shape[1:], sizes), sizes)  # (n, *space)
        hidden = 1.0 - seen
        weights = 1.0 + (self.weight - 1.0) * _is_near(seen, self.width) * hidden
        space = tuple(range(1, len(seen.shape)))
        number = ops.maximum(ops.sum(hidden, axis=space, keepdims=True), 1.0)
        mean = ops.sum(weights * hidden, axis=space, keepdims=True) / number
        weights = weights / ops.where(mean > 0, mean, 1.0)  # where nothing is hidden, all weights are 1
        weights = ops.broadcast_to(weights[..., None], ops.shape(x0))
        return ops.concatenate([patches, patchify(weights, patch_size)], axis=-1)  # (n, num_patches, 2 * patch_dim)

    def errors(self, prediction, target):
        values, weights = ops.split(ops.cast(target, "float32"), 2, axis=-1)
        squares = ops.square(ops.cast(prediction, "float32") - values)
        return ops.mean(squares * weights, axis=-1)

    def as_pixels(self, prediction, patches):
        return prediction


def _seen_pixels(view, grid, sizes):
    """Which pixels the encoder sees, `(n, *space)`, float32."""
    is_seen = view["visible"][:, :, None] == ops.arange(math.prod(grid), dtype="int32")
    if "hidden" in view:  # behind a mask token
        is_seen = ops.logical_and(is_seen, ops.logical_not(view["hidden"])[:, :, None])
    x = ops.cast(ops.reshape(ops.any(is_seen, axis=1), (-1, *grid)), "float32")
    for axis, size in enumerate(sizes, start=1):
        x = ops.repeat(x, size, axis=axis)
    return x


def _is_near(seen, width):
    """Which pixels are at most `width` away from one that is seen, also diagonally: of the shape of `seen`."""
    x = seen
    for axis in range(1, len(x.shape)):
        length, padding = x.shape[axis], [(0, 0)] * len(x.shape)
        padding[axis] = (width + 1, width)
        sums = ops.cumsum(ops.pad(x, padding), axis=axis)  # the visible pixels in a window are a difference of two
        before, behind = (ops.take(sums, ops.arange(start, start + length), axis=axis) for start in (0, 2 * width + 1))
        x = ops.cast(behind - before > 0.5, "float32")
    return x
