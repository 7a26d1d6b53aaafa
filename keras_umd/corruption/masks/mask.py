"""The interface of a mask."""

import functools
import math

import numpy as np

from keras_umd.layers.masking import check_mask_ratio, num_visible, split_at
from keras_umd.utils.checks import require
from keras_umd.utils.configurable import Configurable


class Mask(Configurable):
    """Which patches of an image stay visible: those with the lowest scores.

    A mask is a function from uniform random numbers to a score for each patch. One argsort and a cut at a Python
    integer follow, so that shapes are static whatever the mask, on every backend and in compiled programs.

    Example:

    >>> @keras.saving.register_keras_serializable("mine")
    ... class LeftToRight(Mask):
    ...     def scores(self, draws, grid, hints=None):
    ...         column = np.arange(math.prod(grid)) % grid[-1]
    ...         return draws + column.astype("float32")

    Args:
        ratio: Float in [0, 1). Share of the patches to mask.
    """

    # Whether masked patches come in random order, so that the first ones are a random subset.
    is_unordered = False
    # Whether images may have NaN where something is missing, which the mask then hides.
    hides_gaps = False
    # Whether some of the patches that go to the encoder are hidden there, behind its mask token.
    hides_tokens = False

    # The names of the hints that it wants of a model's teacher or of terms.
    reads: tuple[str, ...] = ()

    def __init__(self, ratio=0.75):
        check_mask_ratio(ratio, "ratio")
        self.ratio = ratio

    def num_draws(self, grid):
        """The uniform numbers that `scores` wants for an image with this grid of patches."""
        return math.prod(grid)

    def scores(self, draws, grid, hints=None):
        """Scores of all patches; those with the lowest stay visible. A pure function.

        Args:
            draws: Float32 tensor of shape `(n, num_draws(grid))`, uniform in [0, 1).
            grid: Tuple of integers, the patches along each space axis.
            hints: Dictionary of tensors about the images, or `None`.

        Returns:
            Float32 tensor of shape `(n, num_patches)`, in row-major order.
        """
        raise NotImplementedError(f"{type(self).__name__} must define scores(draws, grid, hints=None).")

    def missing(self, hints):
        """Which patches are missing and never count, bool `(n, num_patches)`, or `None` if the mask knows of none."""
        return

    def hidden(self, draws, grid):
        """Which of the visible patches are hidden in the encoder, bool `(n, visible)`; where `hides_tokens`."""
        raise NotImplementedError

    def num_visible(self, grid):
        """The number of patches that stay visible.

        Raises:
            ValueError: if none does.
        """
        return num_visible(math.prod(grid), self.ratio)

    def __call__(self, draws, grid, hints=None):
        """The indices of the visible patches `(n, visible)` and of the masked ones `(n, masked)`, int32."""
        scores = self.scores(draws, grid, hints)
        shape = tuple(scores.shape)
        require(  # of fewer scores, the patches without one would be neither visible nor masked
            len(shape) == 2 and shape[1] in (None, math.prod(grid)),
            f"`scores` of {type(self).__name__} must give a score for each patch, (n, {math.prod(grid)}).",
            f"scores of shape {shape}",
        )
        return split_at(scores, self.num_visible(grid))


@functools.cache
def coordinates(grid):
    """The place of each patch of a grid along its axes, a float32 array `(num_patches, axes)`, in row-major order."""
    return np.stack(np.unravel_index(np.arange(math.prod(grid)), grid), axis=-1).astype("float32")
