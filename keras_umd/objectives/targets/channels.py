"""Hidden channels as targets."""

import keras

from keras_umd.corruption.changes.channels import checked_channels, components
from keras_umd.layers.patches import patchify
from keras_umd.objectives.targets.target import Target
from keras_umd.utils.checks import check_integers, require


@keras.saving.register_keras_serializable("keras_umd")
class Channels(Target):
    """The channels that `changes.HideChannels` hides, pixel by pixel (Zhang et al., "Split-Brain Autoencoders", 2017).

    Example:

    >>> objective = Objective([Reconstruction("grey", targets.Channels((1, 2), basis="opponent"))])   # its two colours

    Args:
        hidden: Tuple of different integers from 0, the channels.
        channels: Integer, those of the images.
        basis: As of `changes.HideChannels`.
    """

    def __init__(self, hidden, channels=3, basis=None):
        check_integers(1, channels=channels)
        self.hidden = checked_channels(hidden, basis)
        self.channels = int(channels)
        self.basis = basis
        self.name = f"channels_{'_'.join(map(str, self.hidden))}"

    def num_values(self, patch_dim):
        return patch_dim // self.channels * len(self.hidden)

    def __call__(self, view, patch_size, teacher=None):
        require(
            view["x0"].shape[-1] == self.channels,
            "`channels` must be those of the images.",
            f"channels={self.channels} for images of shape {tuple(view['x0'].shape)}",
        )
        return patchify(components(view["x0"], self.hidden, self.basis), patch_size)
