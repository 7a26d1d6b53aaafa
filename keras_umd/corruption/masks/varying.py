"""Masks whose ratio is drawn for each image."""

import math

import keras
from keras import ops

from keras_umd.corruption.masks.mask import check_chooses
from keras_umd.corruption.masks.of_mask import OfMask
from keras_umd.corruption.masks.random import Random
from keras_umd.corruption.ratios import Ratios, TruncatedNormal
from keras_umd.utils.checks import check_instances, require


@keras.saving.register_keras_serializable("keras_umd")
class Varying(OfMask):
    """A mask whose ratio is drawn for each image, from a law (Li et al., "MAGE", 2023).

    The encoder gets as many tokens as the other mask leaves at its own ratio, so that shapes are static. Of those, the
    ones that a higher ratio hides are replaced by a learned mask token. They are predicted with the masked patches, by
    `Reconstruction(..., where="unseen")`. At least one patch stays visible.

    Example:

    >>> View("clean", mask=Varying(Random(0.5), ratios.TruncatedNormal(0.55, 0.25, 0.5, 1.0)))

    Args:
        mask: `Mask`, with the least ratio. Defaults to `Random(0.5)`.
        law: `Ratios`, from `keras_umd.corruption.ratios`; ratios below the mask's hide no more than it. Defaults to
            MAGE's.
    """

    hides_tokens = True
    hides_nothing = False  # nor where the other mask leaves all patches, of which the law hides some

    def __init__(self, mask=None, law=None):
        mask, law = Random(0.5) if mask is None else mask, TruncatedNormal() if law is None else law
        super().__init__(mask)
        check_instances(Ratios, "a law, as ratios.Uniform(0.5, 0.75),", law=law)
        check_chooses(mask, reads=True)
        require(law.high > mask.ratio, "`law` must reach above the ratio of `mask`.", mask=mask, law=law)
        self.law = law

    @property
    def is_unordered(self):
        return self.mask.is_unordered

    def num_draws(self, grid):
        return super().num_draws(grid) + 1

    def scores(self, draws, grid, hints=None):
        return self.mask.scores(draws[:, : self.mask.num_draws(grid)], grid, hints)

    def hidden(self, draws, grid):
        # Visible patches come by rising score: the last of them are the next that a mask would hide.
        kept = ops.round(math.prod(grid) * (1.0 - self.law(draws[:, -1:])))
        return ops.arange(self.num_visible(grid), dtype="float32") >= ops.maximum(kept, 1.0)
