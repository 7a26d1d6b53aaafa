"""Pixels as targets."""

import keras
from keras import ops

from keras_umd.layers.patches import patchify
from keras_umd.objectives.targets.target import Target
from keras_umd.utils.checks import check_bools, check_numbers


@keras.saving.register_keras_serializable("keras_umd")
class Pixels(Target):
    """The pixels of the clean image, by default normalised within each patch (MAE, section 4).

    Args:
        normalize: Bool. Whether to subtract each patch's mean and divide by its standard deviation. Without it the
            target is that of `X0`, through a head of its own.
        epsilon: Float, added to the variance.
    """

    name = "pixels"
    is_pixels = True

    def __init__(self, normalize=True, epsilon=1e-6):
        check_bools(normalize=normalize)
        check_numbers("[0, 1e6]", epsilon=epsilon)
        self.normalize = normalize
        self.epsilon = epsilon

    def __call__(self, view, patch_size, teacher=None):
        patches = patchify(view["x0"], patch_size)
        if not self.normalize:
            return patches
        mean, deviation = self._moments(patches)
        return (patches - mean) / deviation

    def as_pixels(self, prediction, patches):
        # A normalised prediction has no brightness and contrast of its own: as in MAE, the true patch lends them.
        if not self.normalize:
            return prediction
        mean, deviation = self._moments(patches)
        return prediction * deviation + mean

    def _moments(self, patches):
        mean = ops.mean(patches, axis=-1, keepdims=True)
        return mean, ops.sqrt(ops.var(patches, axis=-1, keepdims=True) + self.epsilon)
