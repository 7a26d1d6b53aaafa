"""Masks that come with the data."""

import math

import keras
from keras import ops

from keras_umd.corruption.masks.mask import check_chooses
from keras_umd.corruption.masks.of_mask import OfMask
from keras_umd.corruption.masks.random import Random
from keras_umd.layers.masking import ranks
from keras_umd.utils.checks import check_instances, require

GAPS = "gaps"  # the hint that `Corruption.corrupt` makes of NaN in images


@keras.saving.register_keras_serializable("keras_umd")
class Given(OfMask):
    """Masks what is missing of an image, and other patches up to its ratio as another mask does.

    By default, what is missing is NaN in float images: dead pixels, clouds, a sensor's border. A patch with such a
    value is masked, and its error never counts. The ratio should be as large as the largest share of patches that an
    image lacks; of one that lacks more, some patches are seen, in which what is missing is 0. All views must mask so.

    Example:

    >>> Corruption(views=[View("clean", mask=Given(Random(0.75)))])

    Args:
        mask: `Mask`, with the ratio. Defaults to `Random()`.
        hint: String, the entry of `hints` of `Corruption.corrupt` and `UMD.make_views` that is read instead,
            `(n, num_patches)`: bool, `True` where a patch is missing; or float, a score by which patches stay visible,
            the lowest first, NaN where one is missing. `None` for NaN in the images.
    """

    knows_missing = True

    def __init__(self, mask=None, hint=None):
        super().__init__(Random() if mask is None else mask)
        check_chooses(self.mask, reads=True)
        require(self.ratio > 0, "`mask` must hide a share of the patches, as what is missing has to be.", mask=mask)
        check_instances(str, "the name of a hint, a string", optional=True, hint=hint)
        self.hint = hint

    @property
    def hides_gaps(self):
        return self.hint is None

    def missing(self, hints):
        hint = self._read(hints)
        return ops.isnan(hint) if _is_score(hint) else ops.cast(hint, "bool")

    def scores(self, draws, grid, hints=None):
        hint, is_missing = self._read(hints), self.missing(hints)
        scores = ops.where(is_missing, 0.0, hint) if _is_score(hint) else self.mask.scores(draws, grid, hints)
        return ops.cast(ranks(scores), "float32") + math.prod(grid) * ops.cast(is_missing, "float32")

    def _read(self, hints):
        name = GAPS if self.hint is None else self.hint
        require(
            hints is not None and name in hints,
            f"The mask reads {'NaN in images' if self.hint is None else f'the hint {self.hint!r}'}, which isn't there.",
            f"hints={sorted(hints or {})}",
        )
        return ops.convert_to_tensor(hints[name])


def _is_score(hint):
    return "float" in keras.backend.standardize_dtype(hint.dtype)
