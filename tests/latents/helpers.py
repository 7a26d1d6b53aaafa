"""An autoencoder so small that NumPy can follow it: each latent pixel sees two by two pixels."""

import keras
import numpy as np

from keras_umd.latents import Autoencoder


def tiny_autoencoder(latent_channels=1, name="tiny", scale=0.5, seed=0, **arguments):
    """Random weights, large enough that the images it decodes are not grey."""
    encoder = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(2 * latent_channels, 2, strides=2)])
    decoder = keras.Sequential(
        [keras.Input((None, None, latent_channels)), keras.layers.Conv2DTranspose(3, 2, strides=2)]
    )
    rng = np.random.default_rng(seed)
    for model in (encoder, decoder):
        model.set_weights([0.3 * rng.normal(size=weight.shape) for weight in model.get_weights()])
    arguments = {"downsampling": 2, "latent_channels": latent_channels, **arguments}
    return Autoencoder(encoder, decoder, name=name, scale=scale, **arguments)


def decoded_by_hand(autoencoder, latents):
    """uint8 images from the weights of `tiny_autoencoder`, in NumPy: no two latents write the same pixel."""
    kernel, bias = autoencoder.decoder.get_weights()  # (2, 2, 3, latent_channels)
    blocks = np.einsum("bhwk,yxck->bhywxc", latents / autoencoder.scale, kernel) + bias
    batch, height, _, width, _, _ = blocks.shape
    images = blocks.reshape(batch, 2 * height, 2 * width, 3)
    return np.clip(np.round((images + 1) * 127.5), 0, 255).astype("uint8")


def assert_same_images(actual, expected):
    """uint8 images, equal up to the rounding of values between two grey levels."""
    assert actual.dtype == np.uint8
    assert actual.shape == expected.shape
    difference = np.abs(actual.astype(int) - expected)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.01
