"""Autoencoders, between images and the latents that a latent model works on, and latents that are computed once."""

from keras_umd.latents.autoencoder import Autoencoder, StableDiffusionAutoencoder
from keras_umd.latents.cache import cache_latents
from keras_umd.latents.reader import from_latents
