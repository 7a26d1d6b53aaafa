"""Autoencoders: their base class, and Stable Diffusion's."""

import os

import keras
import numpy as np
from keras import ops

from keras_umd.backend import compile_function, import_tensorflow, shard_batch
from keras_umd.utils.checks import (
    check_finite,
    check_instances,
    check_numbers,
    check_positive_integers,
    check_tensors,
    is_list,
    is_size,
    require,
)
from keras_umd.utils.fingerprint import fingerprint
from keras_umd.utils.images import check_images, scale_images, to_uint8
from keras_umd.utils.seeds import seed_generator

# One over the standard deviation of Stable Diffusion's latents (Rombach et al., appendix G).
STABLE_DIFFUSION_SCALE = 0.18215
# As in latent diffusion's code: keeps exp(log-variance) away from infinity and 0.
LOG_VARIANCE_RANGE = (-30.0, 20.0)
VALUE_RANGE = (-1.0, 1.0)


class Autoencoder:
    """A KL autoencoder: images to a normal distribution over latents, and latents back to images.

    It is no Keras layer, so that a model to which it is attached (`model.autoencoder = autoencoder`) neither trains nor
    saves it. Its networks compute in the precision that they were made for.

    Example:

    >>> encoder = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(8, 4, strides=4)])  # mean, log-variance
    >>> decoder = keras.Sequential([keras.Input((2, 2, 4)), keras.layers.Conv2DTranspose(3, 4, strides=4)])
    >>> autoencoder = latents.Autoencoder(encoder, decoder, name="mine", scale=1.0, downsampling=4)
    >>> mean, std = autoencoder.encode(np.zeros((24, 8, 8, 3), "uint8"))
    >>> autoencoder.decode(autoencoder.sample(mean, std, seed=0)).shape
    (24, 8, 8, 3)

    Args:
        encoder: Keras model, float images in [-1, 1] to mean and log-variance, concatenated along the channels.
        decoder: Keras model, unscaled latents to images in [-1, 1].
        name: String, part of the fingerprint.
        scale: Finite float above 0. `encode` multiplies with it, `decode` divides by it.
        downsampling: Integer, pixels of the image to one of the latents, along each axis.
        latent_channels: Integer.

    Reference:
        Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models", 2022.
    """

    def __init__(self, encoder, decoder, *, name, scale=STABLE_DIFFUSION_SCALE, downsampling=8, latent_channels=4):
        check_instances(keras.Model, "a Keras model", encoder=encoder, decoder=decoder)
        check_instances(str, "a string", name=name)
        check_numbers("(0, inf)", scale=scale)
        check_positive_integers(downsampling=downsampling, latent_channels=latent_channels)
        self.encoder = encoder
        self.decoder = decoder
        self.name = name
        self.scale = float(scale)
        self.downsampling = int(downsampling)
        self.latent_channels = int(latent_channels)
        self._compiled_encode = compile_function(self._encode, encoder.variables)
        self._compiled_decode = compile_function(self._decode, decoder.variables)

    def __repr__(self):
        sizes = f"scale={self.scale}, downsampling={self.downsampling}, latent_channels={self.latent_channels}"
        return f"<{type(self).__name__}: name={self.name!r}, {sizes}>"

    def encode(self, images, batch_size=32):
        """The distributions of the latents of images.

        Args:
            images: uint8 or float array `(num_images, height, width, 3)`; float images lie in [-1, 1].
            batch_size: Integer, images at a time. All calls with at least as many images share one program.

        Returns:
            Tuple `(mean, std)` of float32 tensors `(num_images, height / downsampling, width / downsampling,
            latent_channels)`, both multiplied by `scale`.
        """
        check_positive_integers(batch_size=batch_size)
        check_tensors(None, images=images)
        images = np.asarray(ops.convert_to_numpy(images))
        require(
            images.ndim != 4 or images.shape[-1] == 3,
            "`images` must have 3 channels, last.",
            f"images of shape {images.shape}",
        )
        check_images(images, (None, None, 3), VALUE_RANGE)
        expected = self.latent_shape(images.shape[1:3])
        parts = _in_batches(self._compiled_encode, self.encoder, images, batch_size)
        mean, std = (ops.concatenate(values, axis=0) for values in zip(*parts, strict=True))
        require(
            tuple(mean.shape[1:]) == expected,
            f"The encoder must make latents of shape {expected} of images of shape {tuple(images.shape[1:])}; see "
            "`downsampling` and `latent_channels`.",
            f"latents of shape {tuple(mean.shape[1:])}",
        )
        return mean, std

    def sample(self, mean, std, seed=None):
        """Draw latents from the distributions that `encode` returns.

        Args:
            mean, std: Float arrays of the same shape.
            seed: Integer, `keras.random.SeedGenerator` or `None`.

        Returns:
            Float32 tensor of their shape.
        """
        check_tensors(None, types=("float",), mean=mean, std=std)
        mean, std = (ops.convert_to_tensor(x, dtype="float32") for x in (mean, std))
        require(
            mean.shape == std.shape,
            "`mean` and `std` must have the same shape.",
            f"mean of shape {tuple(mean.shape)}, std of shape {tuple(std.shape)}",
        )
        return mean + std * keras.random.normal(mean.shape, dtype="float32", seed=seed_generator(seed))

    def decode(self, latents, batch_size=8):
        """Images of latents.

        Args:
            latents: Float array `(num_images, height, width, latent_channels)`, as `encode` scales them.
            batch_size: Integer, latents at a time: 64 images of 256x256 pixels at once would need tens of gigabytes.
                All calls with at least as many latents share one program.

        Returns:
            NumPy array of uint8 images `(num_images, height * downsampling, width * downsampling, 3)`.
        """
        check_positive_integers(batch_size=batch_size)
        check_tensors(None, latents=latents)
        latents = np.asarray(ops.convert_to_numpy(latents))
        is_float = "float" in keras.backend.standardize_dtype(latents.dtype)
        require(
            latents.ndim == 4 and latents.shape[-1] == self.latent_channels and is_float,
            f"`latents` must be floats of shape (num_images, height, width, {self.latent_channels}).",
            f"latents of shape {latents.shape} and type {latents.dtype}",
        )
        latents = latents.astype("float32")
        require(np.all(np.isfinite(latents)), "`latents` must be finite.", "latents with NaN or infinite values")
        parts = _in_batches(self._compiled_decode, self.decoder, latents, batch_size)
        return np.concatenate([to_uint8(ops.convert_to_numpy(images), VALUE_RANGE) for (images,) in parts])

    def latent_shape(self, image_size):
        """The shape `(height, width, channels)` of the latents of one image.

        Args:
            image_size: Integer or pair `(height, width)`, divisible by `downsampling`.
        """
        sizes = tuple(image_size) if is_list(image_size) else (image_size,) * 2
        require(
            len(sizes) == 2 and all(is_size(size) and size % self.downsampling == 0 for size in sizes),
            f"Height and width of images must be positive multiples of {self.downsampling}; resize or crop the images.",
            f"image_size={image_size}",
        )
        return (*(int(size) // self.downsampling for size in sizes), self.latent_channels)

    def image_shape(self, latent_shape):
        """The shape `(height, width, 3)` of the image of latents of `latent_shape` `(height, width, channels)`."""
        is_shape = is_list(latent_shape) and len(latent_shape) == 3 and all(map(is_size, latent_shape))
        require(is_shape, "`latent_shape` must be (height, width, channels).", latent_shape=latent_shape)
        return latent_shape[0] * self.downsampling, latent_shape[1] * self.downsampling, 3

    def fingerprint(self):
        """A string that differs for every name, scale and set of weights; caches and samples store it."""
        settings = np.frombuffer(f"{self.name} {self.scale}".encode(), "uint8")
        return fingerprint([settings, *self.encoder.weights, *self.decoder.weights])

    def _encode(self, images):
        moments = self.encoder(scale_images(images, VALUE_RANGE), training=False)
        mean, log_variance = ops.split(ops.cast(moments, "float32"), 2, axis=-1)
        return self.scale * mean, self.scale * ops.exp(0.5 * ops.clip(log_variance, *LOG_VARIANCE_RANGE))

    def _decode(self, latents):
        return (ops.cast(self.decoder(latents / self.scale, training=False), "float32"),)


class StableDiffusionAutoencoder(Autoencoder):
    """The autoencoder of Stable Diffusion 1 from keras-cv: 8 times smaller, 4 channels, 84 million weights.

    It computes in float32, whatever the global policy.

    Example:

    >>> autoencoder = latents.StableDiffusionAutoencoder()                                              # doctest: +SKIP
    >>> latents.cache_latents("latents", dataset, autoencoder)                                          # doctest: +SKIP

    Args:
        weights: `"stable_diffusion"`, which keras-cv downloads once (335 MB); a pair of paths `(encoder, decoder)` of
            weight files for keras-cv's `ImageEncoder` and `Decoder`; or `None` for random weights, for tests.
    """

    def __init__(self, weights="stable_diffusion"):
        is_given = weights is not None and weights != "stable_diffusion"
        paths = tuple(map(os.fspath, weights)) if isinstance(weights, (tuple, list)) else ()
        require(
            not is_given or (len(paths) == 2 and all(p.endswith(".h5") and os.path.exists(p) for p in paths)),
            "`weights` must be 'stable_diffusion', None or a pair of paths (encoder, decoder) of existing .h5 files.",
            f"weights={weights!r}",
        )
        stable_diffusion = _import_stable_diffusion()
        policy = keras.config.dtype_policy()
        keras.config.set_dtype_policy("float32")  # the global policy is meant for the trained model
        try:
            download_weights = weights == "stable_diffusion"
            image_encoder = stable_diffusion.ImageEncoder(download_weights=download_weights)
            image_decoder = stable_diffusion.Decoder(256, 256, download_weights=download_weights)
            if is_given:
                image_encoder.load_weights(paths[0])
                image_decoder.load_weights(paths[1])
            # Without the last layer, which drops the log-variance and multiplies with the scale.
            encoder = keras.Sequential([keras.Input((None, None, 3)), *image_encoder.layers[:-1]])
            # Without the first layer, which divides by the scale, and for images of any size.
            decoder = keras.Sequential([keras.Input((None, None, 4)), *image_decoder.layers[1:]])
        finally:
            keras.config.set_dtype_policy(policy)
        super().__init__(encoder, decoder, name="stable_diffusion")


def _import_stable_diffusion():
    try:
        import_tensorflow()  # first, or keras-cv's import would let TensorFlow take the GPU
        from keras_cv.models import stable_diffusion
    except ImportError as error:
        raise ImportError(
            "Stable Diffusion's autoencoder comes from keras-cv, which needs TensorFlow on every backend: "
            "pip install 'keras_umd[latents]' tensorflow"
        ) from error
    return stable_diffusion


def _in_batches(function, model, x, batch_size):
    """Yields the results of a compiled function, tuples of tensors, batch by batch of a NumPy array.

    The last batch is padded to the size of the others: one program serves all.
    """
    require(len(x), "There must be at least one image.", f"an array of shape {x.shape}")
    batch_size = min(batch_size, len(x))
    values = [variable.value for variable in model.variables]
    for start in range(0, len(x), batch_size):
        rows = x[np.arange(start, start + batch_size) % len(x)]
        outputs = function(values, shard_batch(ops.convert_to_tensor(rows)))
        yield tuple(check_finite(output[: len(x) - start], "outputs") for output in outputs)
