"""Masks behind which the encoder sees that something is missing."""

import math

import keras
from keras import ops

from keras_umd.corruption.masks.mask import check_chooses
from keras_umd.corruption.masks.of_mask import OfMask
from keras_umd.corruption.masks.random import Random


@keras.saving.register_keras_serializable("keras_umd")
class InPlace(OfMask):
    """Hides patches behind a mask token in the encoder, which gets a token for each patch (BEiT, SimMIM, MaskFeat).

    Nothing is left out, so a step costs what one of whole images does, and the decoder may be `decoders.Linear`. What
    is hidden is predicted by `Reconstruction(..., where="unseen")`.

    Example:

    >>> View("clean", mask=InPlace(Block(0.4)))

    Args:
        mask: `Mask`, which chooses the patches. Defaults to `Random(0.6)`, SimMIM's.
    """

    hides_tokens = True

    def __init__(self, mask=None):
        mask = Random(0.6) if mask is None else mask
        super().__init__(mask)
        check_chooses(mask, reads=True)

    def num_visible(self, grid):
        self.mask.num_visible(grid)
        return math.prod(grid)

    def hidden(self, draws, grid):
        # Patches come by rising score: those behind the ones that the mask leaves are hidden.
        is_hidden = ops.arange(math.prod(grid)) >= self.mask.num_visible(grid)
        return ops.broadcast_to(is_hidden, (ops.shape(draws)[0], math.prod(grid)))
