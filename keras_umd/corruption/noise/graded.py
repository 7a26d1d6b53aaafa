"""Gaussian noise whose level differs from patch to patch."""

import math

import keras
import numpy as np
from keras import ops

from keras_umd.corruption.noise.gaussian import Gaussian
from keras_umd.corruption.noise.noise import Noise
from keras_umd.utils.checks import is_list, is_number, require


@keras.saving.register_keras_serializable("keras_umd")
class Graded(Noise):
    """Gaussian noise whose level differs from patch to patch, in a few groups: a gate between masks and noise.

    The visible patches of an image, in the order of their mask's scores, are parted into groups of fixed sizes. Group k
    gets the level `factors[k] * t` of the image's own timestep t; behind the last group come the masked patches, of
    which nothing is seen. So a mask is the upper end of the noise, as the UMD paper's future work has it, and its
    methods are profiles of one gate:

        MAE      factors (0,), masked .75             DiT     factors (1,), nothing masked
        MaskDiT  factors (1,), masked .5              UMD     a view as MAE's and one as MaskDiT's
        between  factors (0, .5, 1), which are clean, less noisy and noisy patches of one image

    The network is told t as ever, and each token how its level differs: the difference of both conditions is added to
    it. So patches at t are seen as in `generate`, whose levels don't differ. Errors of noise and of velocities leave
    out patches without noise; weightings need one level for each image, and are refused.

    Example:

    >>> View("noisy", noise=Graded(factors=(0.0, 1.0), shares=(0.25, 0.75)), mask=Random(0.375))

    Args:
        factors: Tuple of floats in [0, 1], one for each group, at least one. Timesteps that are integers are rounded
            up.
        shares: Tuple of positive floats that add up to 1, the groups' shares of the visible patches. Defaults to equal
            ones.
        levels: As of `Gaussian`.
    """

    is_graded = True

    def __init__(self, factors=(0.0, 1.0), shares=None, levels=None):
        super().__init__(levels)
        is_tuple = is_list(factors) and len(factors) > 0
        require(
            is_tuple and all(is_number(factor) and 0 <= factor <= 1 for factor in factors),
            "`factors` must be a tuple of numbers in [0, 1], at least one.",
            factors=factors,
        )
        is_given = is_list(shares) and len(shares) == len(factors) and all(map(is_number, shares))
        require(
            shares is None or (is_given and min(shares) > 0 and abs(sum(shares) - 1) <= 1e-6),
            "`shares` must be a tuple of positive numbers that add up to 1, one for each of `factors`.",
            shares=shares,
        )
        self.factors = tuple(map(float, factors))
        self.shares = None if shares is None else tuple(map(float, shares))

    def for_finetuning(self):
        return Gaussian(self.levels)

    def groups(self, num_visible):
        """The group of each visible patch by its rank, an int32 array `(num_visible,)`."""
        shares = self.shares or (1 / len(self.factors),) * len(self.factors)
        ends = np.round(np.cumsum(shares)[:-1] * num_visible)
        return np.searchsorted(ends, np.arange(num_visible), side="right").astype("int32")

    def __call__(self, x0, noise, timesteps, schedule):
        return schedule.add_noise(x0, noise, timesteps)  # of images whose patches all have the level of their image

    def timesteps(self, timesteps):
        """The timestep of each group, `(n, groups)`, of images' timesteps `(n,)`."""
        factors = np.asarray(self.factors, "float32")
        of_groups = ops.cast(timesteps, "float32")[:, None] * factors
        if "int" in keras.backend.standardize_dtype(timesteps.dtype):
            return ops.cast(ops.ceil(of_groups - 1e-3), timesteps.dtype)
        return ops.where(of_groups > 0, ops.maximum(of_groups, 1.0), 0.0)  # no level lies between 0 and 1

    def by_patch(self, x0, noise, timesteps, schedule, ranks, num_visible, patch_size):
        """The tensors of a noisy view, by name, as of `Corruption.corrupt`.

        Beside `images` and `level` those are the groups' timesteps `levels` `(n, groups)`; `level_index`, the group of
        each visible patch in the order of ranks where some are masked, else of each patch; and `still`
        `(n, num_patches)`, bool, where no noise is.

        Args:
            x0, noise, timesteps, schedule: As of a call.
            ranks: Int tensor `(n, num_patches)`, the rank of each patch by its score.
            num_visible: Integer.
            patch_size: Tuple of integers.
        """
        of_groups, number = self.timesteps(timesteps), ranks.shape[1]
        table = self.groups(num_visible)
        # Masked patches are not seen; for what reads them they have the level of the last group.
        table = np.concatenate([table, np.full(number - num_visible, len(self.factors) - 1, "int32")])
        index = ops.take(ops.convert_to_tensor(table), ranks, axis=0)  # (n, num_patches)
        flat = schedule.level(ops.reshape(of_groups, (-1,)), 1)
        level = {}
        for name, values in flat.items():
            of_patches = ops.take_along_axis(ops.reshape(values, (-1, len(self.factors))), index, axis=1)
            level[name] = of_pixels(of_patches, x0.shape[1:-1], patch_size)
        seen = ops.broadcast_to(ops.convert_to_tensor(table[:num_visible]), (ops.shape(ranks)[0], num_visible))
        return {
            "images": level["signal"] * x0 + level["sigma"] * noise,
            "level": level,
            "levels": of_groups,
            "level_index": index if num_visible == number else seen,
            "still": ops.take_along_axis(of_groups, index, axis=1) == 0,
        }


def of_pixels(of_patches, space, patch_size):
    """Values of patches `(n, num_patches)` as values of their pixels, `(n, *space, 1)`."""
    grid = tuple(length // size for length, size in zip(space, patch_size, strict=True))
    require(math.prod(grid) == of_patches.shape[1], "Each patch needs a value.", f"{of_patches.shape[1]} of {grid}")
    x = ops.reshape(of_patches, (-1, *grid))
    for axis, size in enumerate(patch_size, start=1):
        x = ops.repeat(x, size, axis=axis)
    return x[..., None]
