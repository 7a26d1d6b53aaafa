"""Masks of one image that hide different parts."""

import math

import keras
from keras import ops

from keras_umd.corruption.masks.mask import check_chooses
from keras_umd.corruption.masks.of_mask import OfMask
from keras_umd.corruption.masks.random import Random
from keras_umd.layers.masking import ranks
from keras_umd.utils.checks import check_integers


@keras.saving.register_keras_serializable("keras_umd")
class Disjoint(OfMask):
    """One of several masks of an image that together hide all of it as evenly as they can (Ma et al., "DMJD", 2023).

    Views without a `share` see the same images and the same random numbers: their masks hide, one after the other,
    successive parts of one order of the patches. With K views and M of N patches masked in each, every patch is masked
    floor(K M / N) times or once more.

    Example:

    >>> views = [View(name, mask=Disjoint(Random(0.6), part)) for part, name in enumerate(("first", "second"))]

    Args:
        mask: `Mask`, whose scores are the order of the patches. Defaults to `Random()`.
        part: Integer from 0, the place of this one among the masks; 0 is `mask` itself.
    """

    def __init__(self, mask=None, part=0):
        super().__init__(Random() if mask is None else mask)
        check_chooses(self.mask, reads=True, missing=True)
        check_integers(0, 1000, part=part)
        self.part = part

    @property
    def is_unordered(self):
        return self.mask.is_unordered

    @property
    def hides_gaps(self):
        return self.mask.hides_gaps

    @property
    def knows_missing(self):
        return self.mask.knows_missing

    def missing(self, hints):
        return self.mask.missing(hints)

    def scores(self, draws, grid, hints=None):
        scores = super().scores(draws, grid, hints)
        if not self.part:
            return scores
        number, missing = math.prod(grid), self.missing(hints)
        places = ops.cast((ranks(scores) + self.part * (number - self.num_visible(grid))) % number, "float32")
        # What is missing stays behind all others, or the next part would show it.
        return places if missing is None else places + number * ops.cast(missing, "float32")
