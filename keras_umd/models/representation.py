"""What a model sees in images: its features, and the encoder alone to embed in other models."""

import keras
from keras import ops

from keras_umd.models.feature_extractor import FeatureExtractor
from keras_umd.utils.checks import check_timesteps
from keras_umd.utils.seeds import seed_generator


class Representation:
    """The methods of `UMD` that give features."""

    def encode(self, images, timesteps=0, labels=None, weights="average", seed=None):
        """The representation of images: the class token of the encoder, nothing masked (section 5).

        The whole batch is encoded at once; `predict` goes through a data set in batches.

        Args:
            images: uint8 or float array `(batch, height, width, channels)`; float images lie in `value_range`.
            timesteps: Integer in [0, T]. Above 0 the images are noised to it first; the paper probes models that never
                saw clean images at 50.
            labels: Int array `(batch,)`, or `None` for the null label.
            weights: `"average"`, `"raw"` or a decay, as of `weight_values`.
            seed: Integer, `keras.random.SeedGenerator` or `None`, for the noise.

        Returns:
            Float tensor of shape `(batch, hidden_dim)`.
        """
        check_timesteps(timesteps, self.corruption.num_timesteps)
        inputs = {"images": self.prepare_images(images), "timesteps": ops.full((1,), int(timesteps), dtype="int32")}
        if labels is not None:
            inputs["labels"] = self.prepare_labels(labels)
            if inputs["labels"].shape[0] != inputs["images"].shape[0]:
                raise ValueError(
                    f"There must be one label for each of the {inputs['images'].shape[0]} images. "
                    f"Received: {inputs['labels'].shape[0]} labels"
                )
        if timesteps:
            shape = ops.shape(inputs["images"])
            inputs["noise"] = keras.random.normal(shape, dtype="float32", seed=seed_generator(seed))
        return self._run(("encode",), type(self)._encode, inputs, values=self.weight_values(weights))

    def _encode(self, inputs):
        images = inputs["images"]
        if "noise" in inputs:
            images = self.corruption.noise_schedule.add_noise(images, inputs["noise"], inputs["timesteps"])
        return self._representation(images, inputs["timesteps"], inputs.get("labels"))

    def feature_extractor(self, image_shape=None, pooling="cls", layer=None, timesteps=0, weights="average", seed=None):
        """The encoder, with a copy of its weights, as a Keras model to embed in others.

        Args:
            image_shape: Tuple `(height, width, channels)`. Another size than the model's interpolates the position
                embeddings bicubically.
            pooling: `"cls"`, `"mean"`, `"cls+mean"` or `None`, see `FeatureExtractor`.
            layer: Integer in [1, num_layers], the block after which to take the features, or a list of them. Defaults
                to the last.
            timesteps: Integer in [0, T]. Above 0 the images are noised to it first, as of `encode`.
            weights: `"average"`, `"raw"` or a decay, as of `weight_values`.
            seed: Integer, `keras.random.SeedGenerator` or `None`, for the noise.

        Returns:
            `FeatureExtractor`.
        """
        image_shape = self.image_shape if image_shape is None else tuple(image_shape)
        if len(image_shape) != 3 or image_shape[-1] != self.image_shape[-1]:
            raise ValueError(
                f"`image_shape` must be (height, width, {self.image_shape[-1]}), with the model's channels. "
                f"Received: image_shape={image_shape}"
            )
        schedule = self.corruption.noise_schedule
        extractor = FeatureExtractor(
            image_shape=image_shape,
            patch_size=self.patch_size,
            hidden_dim=self.hidden_dim,
            num_layers=self.encoder.num_layers,
            num_heads=self.encoder.num_heads,
            num_cls_tokens=self.encoder.num_cls_tokens,
            conditioning=self.conditioning,
            num_classes=self.num_classes,
            value_range=self.value_range,
            pooling=pooling,
            layer=layer,
            timesteps=timesteps,
            schedule=schedule.name,
            num_timesteps=schedule.num_timesteps,
            seed=seed,
            dtype=self.dtype_policy,
        )
        extractor.copy_weights(self, weights)
        return extractor
