"""The interface of a mask."""

import functools
import math

from keras_umd.layers.masking import check_mask_ratio, num_visible, split_at
from keras_umd.layers.rotary import grid_positions
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

    is_unordered = False  # whether masked patches come in random order, so that the first ones are a random subset
    hides_gaps = False  # whether images may have NaN where something is missing, which the mask then hides
    knows_missing = False  # whether it knows of patches that are missing, by whatever way, as `missing` tells
    hides_tokens = False  # whether some of the patches that go to the encoder are hidden there, behind its mask token
    reads: tuple[str, ...] = ()  # the names of the hints that it wants of a model's teacher or of terms

    def __init__(self, ratio=0.75):
        check_mask_ratio(ratio, "ratio")
        self.ratio = ratio

    @property
    def hides_nothing(self):
        """Whether a view with it is as one without a mask."""
        return not self.ratio

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


def check_chooses(mask, *, reads=False, missing=False):
    """Raise a ValueError for a mask that does more than to choose patches: one made of it would lose the rest.

    Args:
        mask: `Mask`.
        reads, missing: Bools. Whether it may read hints of a model, and know of missing patches.
    """
    tells_missing = mask.knows_missing or mask.hides_gaps
    require(
        not mask.hides_tokens and (reads or not mask.reads) and (missing or not tells_missing),
        "`mask` must choose patches and do nothing else: masks that hide tokens or what is missing, as InPlace(), "
        "Varying() and Given(), go around others, and those that read hints of a model, as Attention(), choose "
        "patches one by one.",
        mask=mask,
    )


@functools.cache
def coordinates(grid):
    """`grid_positions` as float32, kept for each grid."""
    return grid_positions(grid).astype("float32")
