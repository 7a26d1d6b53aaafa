"""Images whose masked patches are filled with something else."""

import itertools
import math

import keras
from keras import ops

from keras_umd.corruption.changes.change import Change
from keras_umd.corruption.masks.mask import Mask, check_chooses
from keras_umd.corruption.masks.random import Random
from keras_umd.corruption.noise.graded import of_pixels
from keras_umd.layers.masking import ranks
from keras_umd.layers.patches import patch_grid
from keras_umd.utils.checks import check_instances, is_number, require

FILLS = ("mean", "noise", "other", "zero")


@keras.saving.register_keras_serializable("keras_umd")
class Fill(Change):
    """Fills the patches that a mask hides with something else, instead of leaving them out.

    The encoder sees all patches, so that it need not be one that takes a part of them, and isn't told which are
    filled. `Reconstruction(..., where="changed")` counts these alone.

    Example:

    >>> View("clean", change=Fill(masks.Block(0.6), {"noise": 0.7, "other": 0.3}))       # GMML

    Args:
        mask: `Mask`, which patches. Defaults to `Random()`.
        fill: `"mean"`, the image's mean of each channel (Li et al., "A2MIM", 2023); `"noise"`, normal; `"other"`, the
            same patch of the image before it in its batch (Atito et al., "GMML is All you Need", 2022); `"zero"`; or a
            dictionary from some of these to their shares, which add up to 1, drawn for each patch.
    """

    marks = "changed"

    def __init__(self, mask=None, fill="mean"):
        mask = Random() if mask is None else mask
        check_instances(Mask, "a Mask, as Random(0.75),", mask=mask)
        check_chooses(mask)
        shares = {fill: 1.0} if isinstance(fill, str) else fill
        require(
            isinstance(shares, dict) and shares and set(shares) <= set(FILLS),
            f"`fill` must be one of {FILLS}, or a dictionary from some of them to their shares.",
            fill=fill,
        )
        require(
            all(is_number(share) and share >= 0 for share in shares.values()) and abs(sum(shares.values()) - 1) < 1e-6,
            "The shares of `fill` must be numbers of at least 0 that add up to 1.",
            fill=fill,
        )
        self.mask = mask
        self.fill = fill

    def num_draws(self, grid):
        return self.mask.num_draws(grid) + (math.prod(grid) if isinstance(self.fill, dict) else 0)

    def __call__(self, images, draws, patch_size, noise, hints=None):
        grid, space = patch_grid(images.shape[1:], patch_size), images.shape[1:-1]
        width = self.mask.num_draws(grid)
        scores = self.mask.scores(draws[:, :width], grid, hints)
        changed = ranks(scores) >= self.mask.num_visible(grid)  # (n, num_patches)
        fills = [self._filling(name, images, noise) for name in self._shares()]
        filling, bounds = fills[0], list(itertools.accumulate(self._shares().values()))
        for index, other in enumerate(fills[1:]):
            is_other = of_pixels(draws[:, width:] >= bounds[index], space, patch_size)
            filling = ops.where(is_other, other, filling)
        return {"images": ops.where(of_pixels(changed, space, patch_size), filling, images), "changed": changed}

    def _shares(self):
        return self.fill if isinstance(self.fill, dict) else {self.fill: 1.0}

    @staticmethod
    def _filling(name, images, noise):
        if name == "noise":
            return noise
        if name == "other":
            return ops.roll(images, 1, axis=0)
        if name == "zero":
            return ops.zeros_like(images)
        space = tuple(range(1, len(images.shape) - 1))
        return ops.broadcast_to(ops.mean(images, axis=space, keepdims=True), ops.shape(images))
