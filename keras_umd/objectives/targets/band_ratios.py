"""Normalised differences of channels as targets."""

import keras
import numpy as np
from keras import ops

from keras_umd.layers.patches import patchify
from keras_umd.objectives.targets.target import Target
from keras_umd.utils.checks import check_integers, check_numbers, is_between, is_list, require


@keras.saving.register_keras_serializable("keras_umd")
class BandRatios(Target):
    """Normalised differences of pairs of channels, (a - b) / (a + b), pixel by pixel: the indices of remote sensing.

    Of Sentinel-2's bands in their order, `((7, 3), (2, 7), (11, 7))` are those of vegetation (NDVI), water (NDWI) and
    buildings (NDBI) (Wang et al., "Feature Guided Masked Autoencoder", 2023).

    Example:

    >>> ndvi = targets.BandRatios(((7, 3),), channels=13)         # near infrared and red of Sentinel-2
    >>> objective = Objective([Reconstruction("clean", ndvi)])

    Args:
        pairs: Tuple of pairs of integers, the channels a and b.
        channels: Integer, those of the images.
        offset: Float that is added to the images first, so that 0 means no light: 1 where they lie in (-1, 1).
        epsilon: Float, added to the sum.
    """

    name = "band_ratios"

    def __init__(self, pairs, channels, offset=1.0, epsilon=1e-5):
        check_integers(2, channels=channels)
        check_numbers("[-1e6, 1e6]", offset=offset)
        check_numbers("[0, 1e6]", epsilon=epsilon)
        is_pairs = is_list(pairs) and len(pairs) > 0 and all(is_list(pair) and len(pair) == 2 for pair in pairs)
        require(
            is_pairs and all(is_between(band, 0, channels - 1) for pair in pairs for band in pair),
            f"`pairs` must be pairs of channels, integers from 0 to {channels - 1}.",
            pairs=pairs,
        )
        self.pairs = tuple((int(a), int(b)) for a, b in pairs)
        self.channels = channels
        self.offset = offset
        self.epsilon = epsilon

    def num_values(self, patch_dim):
        return patch_dim // self.channels * len(self.pairs)

    def __call__(self, view, patch_size, teacher=None):
        images = view["x0"]
        require(
            images.shape[-1] == self.channels,
            "`channels` must be those of the images.",
            f"channels={self.channels} for images of shape {tuple(images.shape)}",
        )
        first, second = (
            ops.take(images, np.array(bands, "int32"), axis=-1) + self.offset for bands in zip(*self.pairs, strict=True)
        )
        return patchify((first - second) / (first + second + self.epsilon), patch_size)
