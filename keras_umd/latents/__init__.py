"""Autoencoders, between images and the latents of a latent model, and caches of latents.

Latents here have two space axes, as the images of `keras_umd.data`.
"""

from keras_umd.latents.autoencoder import Autoencoder, StableDiffusionAutoencoder
from keras_umd.latents.cache import cache_latents
from keras_umd.latents.reader import from_latents

__all__ = ["Autoencoder", "StableDiffusionAutoencoder", "cache_latents", "from_latents"]
