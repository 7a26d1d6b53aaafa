"""Gaussian noise on masked patches alone, which only the decoder sees."""

import keras
from keras import ops

from keras_umd.corruption.noise.gaussian import Gaussian
from keras_umd.utils.checks import require


@keras.saving.register_keras_serializable("keras_umd")
class OfMasked(Gaussian):
    """Gaussian noise on masked patches: the encoder sees clean visible ones, the decoder noisy masked ones (DiffMAE).

    Where a masked autoencoder's decoder has a mask token, it has the mask token plus an embedding of the noisy patch:

        encoder   visible patches of x_0, timestep 0, no label
        decoder   mask token + embedding(patches of x_t = signal * x_0 + sigma * noise), timestep t, the image's label

    So the loss is one of masked patches, at any level of noise; at the highest it is MAE's. Features are of clean
    images. Such a view teaches the encoder nothing of noise: a model that has no other noisy view can't generate.
    The view needs a mask, and the model its usual decoder, `decoders.Cross` or `decoders.CrossSelf`.

    Example:

    >>> view = View("noisy", noise=noise.OfMasked(levels.LogitNormal()), mask=masks.Random(0.75))

    Args:
        levels: As of `Gaussian`, but for `Adaptive`, which learns from visible patches.

    Reference:
        Wei et al., "Diffusion Models as Masked Autoencoders", 2023.
    """

    is_of_masked = True

    def __init__(self, levels=None):
        super().__init__(levels)
        require(
            not self.levels.is_learned,
            "levels.Adaptive learns from visible patches, which have no noise here; take another law.",
            levels=self.levels,
        )

    def for_finetuning(self):
        return Gaussian(self.levels)

    def for_decoder(self, tensors):
        """The tensors of a view whose encoder sees clean images, and whose decoder noisy ones.

        Args:
            tensors: Dictionary of the tensors of a view with `Gaussian` noise.

        Returns:
            The same with the clean `images` and `timesteps` of 0; with `noisy_images` `(n, *image_shape)` and
            `noisy_timesteps` `(n,)`.
        """
        shown = {"noisy_images": tensors["images"], "noisy_timesteps": tensors["timesteps"]}
        return {**tensors, "images": tensors["x0"], "timesteps": ops.zeros_like(tensors["timesteps"]), **shown}
