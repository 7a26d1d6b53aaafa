"""Pixels as targets."""

import math

import keras
import numpy as np
from keras import ops

from keras_umd.layers.patches import patchify
from keras_umd.objectives.targets.target import Target
from keras_umd.utils.checks import check_bools, check_integers, check_numbers, is_list, is_number, require

COLORS = 4  # channels of a picture or of latents; more are a spectrum or an embedding, whose shape tells something


@keras.saving.register_keras_serializable("keras_umd")
class Pixels(Target):
    """The pixels of the clean image, by default normalised within each patch (MAE, section 4).

    Example:

    >>> objective = Objective([Reconstruction("clean", targets.Pixels())])
    >>> sizes = {"hidden_dim": 32, "num_layers": 1, "num_heads": 2, "decoder_layers": 1}
    >>> model = UMD((8, 8, 1), 2, **sizes, corruption=Corruption.mae(), objective=objective)

    Args:
        normalize: Bool. Whether to subtract each patch's mean and divide by its standard deviation. Without it the
            target is that of `X0`, through a head of its own. Patches of a single pixel can't be normalised: of one
            channel nothing is left, of up to four no brightness. With more channels a model takes them.
        epsilon: Float, added to the variance.
        channels: Integer, the channels of the images, to normalise each channel of a patch by itself (VideoMAE, 2022):
            colours and bands then don't count, only what each of them shows. `None` for all of them together.
        unbiased: Bool. Whether the variance is the sum of squares divided by their number less one, as in MAE's code.
        standardized: Pair `(means, deviations)` of lists of numbers, one for each channel of the images. The pixels are
            first made `(pixel - mean) / deviation`: where a network was trained on images so prepared, each channel
            counts as it did there. `None` for the pixels as they are.
    """

    name = "pixels"
    is_pixels = True

    def __init__(self, normalize=True, epsilon=1e-6, channels=None, unbiased=False, standardized=None):
        check_bools(normalize=normalize, unbiased=unbiased)
        check_numbers("[0, 1e6]", epsilon=epsilon)
        check_integers(1, optional=True, channels=channels)
        require(normalize or channels is None, "`channels` are for normalize=True.", channels=channels)
        self.normalize = normalize
        self.epsilon = epsilon
        self.channels = channels
        require(normalize or not unbiased, "An `unbiased` variance is for normalize=True.", unbiased=unbiased)
        self.unbiased = bool(unbiased)
        self.standardized = None if standardized is None else _checked(standardized)

    def check_patches(self, patch_size, channels):
        is_alone = self.normalize and math.prod(patch_size) == 1
        require(
            not is_alone or (self.channels is None and channels > COLORS),
            "Patches of one pixel can't be normalised: nothing is left of a channel by itself, and no brightness of up "
            f"to {COLORS} together. Take Pixels(normalize=False) or a larger `patch_size`.",
            normalize=self.normalize,
            patch_size=tuple(patch_size),
            channels=channels if self.channels is None else self.channels,
        )

    def __call__(self, view, patch_size, teacher=None):
        patches = self._standardized(patchify(view["x0"], patch_size))
        if not self.normalize:
            return patches
        mean, deviation = self._moments(patches)
        return (patches - mean) / deviation

    def as_pixels(self, prediction, patches):
        # A normalised prediction has no brightness and contrast of its own: as in MAE, the true patch lends them.
        if self.normalize:
            mean, deviation = self._moments(self._standardized(patches))
            prediction = prediction * deviation + mean
        if self.standardized is None:
            return prediction
        means, deviations = self._tiled(prediction)
        return prediction * deviations + means

    def _standardized(self, patches):
        if self.standardized is None:
            return patches
        means, deviations = self._tiled(patches)
        return (patches - means) / deviations

    def _tiled(self, patches):
        """Means and deviations of all numbers of a patch, whose channels come last."""
        number, width = len(self.standardized[0]), patches.shape[-1]
        require(width % number == 0, "`standardized` must be of the images' channels.", standardized=self.standardized)
        return tuple(ops.convert_to_tensor(np.tile(x, width // number), "float32") for x in self.standardized)

    def _variance(self, values, axis):
        variance = ops.var(values, axis=axis, keepdims=self.channels is None)
        number = values.shape[axis]
        return variance * (number / max(number - 1, 1)) if self.unbiased else variance

    def _moments(self, patches):
        if self.channels is None:
            mean = ops.mean(patches, axis=-1, keepdims=True)
            return mean, ops.sqrt(self._variance(patches, -1) + self.epsilon)
        number, width = patches.shape[1:]
        require(width % self.channels == 0, "`channels` must be those of the images.", channels=self.channels)
        pixels = ops.reshape(patches, (-1, number, width // self.channels, self.channels))
        mean = ops.mean(pixels, axis=2)
        deviation = ops.sqrt(self._variance(pixels, 2) + self.epsilon)
        return tuple(ops.tile(x, (1, 1, width // self.channels)) for x in (mean, deviation))  # pixels, then channels

    def get_config(self):
        config = super().get_config()
        unset = {
            "channels": None,
            "unbiased": False,
            "standardized": None,
        }  # settings of before are described as before
        return {name: value for name, value in config.items() if name not in unset or value != unset[name]}


def _checked(standardized):
    """The means and deviations as a pair of tuples."""
    rule = "`standardized` must be a pair of lists, means and positive deviations, with a number for each channel."
    is_list_of_two = isinstance(standardized, (list, tuple)) and len(standardized) == 2
    require(is_list_of_two and all(map(is_list, standardized)), rule, standardized=standardized)
    means, deviations = (tuple(values) for values in standardized)
    is_right = len(means) == len(deviations) > 0 and all(map(is_number, (*means, *deviations)))
    require(is_right and min(deviations) > 0, rule, standardized=standardized)
    return tuple(map(float, means)), tuple(map(float, deviations))
