"""Pixels as targets."""

import keras
from keras import ops

from keras_umd.layers.patches import patchify
from keras_umd.objectives.targets.target import Target
from keras_umd.utils.checks import check_bools, check_integers, check_numbers, require


@keras.saving.register_keras_serializable("keras_umd")
class Pixels(Target):
    """The pixels of the clean image, by default normalised within each patch (MAE, section 4).

    Example:

    >>> objective = Objective([Reconstruction("clean", targets.Pixels())])
    >>> sizes = {"hidden_dim": 32, "num_layers": 1, "num_heads": 2, "decoder_layers": 1}
    >>> model = UMD((8, 8, 1), 2, **sizes, corruption=Corruption.mae(), objective=objective)

    Args:
        normalize: Bool. Whether to subtract each patch's mean and divide by its standard deviation. Without it the
            target is that of `X0`, through a head of its own.
        epsilon: Float, added to the variance.
        channels: Integer, the channels of the images, to normalise each channel of a patch by itself (VideoMAE, 2022):
            colours and bands then don't count, only what each of them shows. `None` for all of them together.
    """

    name = "pixels"
    is_pixels = True

    def __init__(self, normalize=True, epsilon=1e-6, channels=None):
        check_bools(normalize=normalize)
        check_numbers("[0, 1e6]", epsilon=epsilon)
        check_integers(1, optional=True, channels=channels)
        require(normalize or channels is None, "`channels` are for normalize=True.", channels=channels)
        self.normalize = normalize
        self.epsilon = epsilon
        self.channels = channels

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
        if self.channels is None:
            mean = ops.mean(patches, axis=-1, keepdims=True)
            return mean, ops.sqrt(ops.var(patches, axis=-1, keepdims=True) + self.epsilon)
        number, width = patches.shape[1:]
        require(width % self.channels == 0, "`channels` must be those of the images.", channels=self.channels)
        pixels = ops.reshape(patches, (-1, number, width // self.channels, self.channels))
        mean = ops.mean(pixels, axis=2)
        deviation = ops.sqrt(ops.var(pixels, axis=2) + self.epsilon)
        return tuple(ops.tile(x, (1, 1, width // self.channels)) for x in (mean, deviation))  # pixels, then channels

    def get_config(self):
        config = super().get_config()
        if self.channels is None:  # settings of before are described as before
            del config["channels"]
        return config
