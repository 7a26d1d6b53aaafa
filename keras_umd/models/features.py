"""Features of images, and the encoder alone to embed in other models."""

import keras
from keras import ops

from keras_umd.models.arguments import is_shape
from keras_umd.models.feature_extractor import FeatureExtractor
from keras_umd.models.inputs import check_pairs
from keras_umd.utils.checks import check_finite, check_timesteps, require
from keras_umd.utils.seeds import check_seed, seed_generator


def encode(model, images, timesteps=0, labels=None, weights="average", seed=None):
    """The representation of images: the class token of the encoder, nothing masked (section 5).

    The whole batch is encoded at once; `predict` goes through a data set in batches, with the raw weights.

    Example:

    >>> model.encode(images).shape
    (24, 32)

    Args:
        images: uint8 or float array `(batch, *image_shape)`; float images lie in `value_range`.
        timesteps: Integer in [0, T]. Above 0 the images are noised to it first; the paper probes models that never
            saw clean images at 50.
        labels: Int array `(batch,)`, or `None` for the null label.
        weights: `"average"`, `"raw"` or a decay, as of `weight_values`.
        seed: Integer, `keras.random.SeedGenerator` or `None`, for the noise.

    Returns:
        Float tensor of shape `(batch, hidden_dim)`.
    """
    check_timesteps(timesteps, model.corruption.num_timesteps)
    check_seed(seed)
    require(
        not isinstance(images, keras.KerasTensor),
        "`encode` takes arrays; a layer of another model is `model.feature_extractor()`.",
        images=images,
    )
    inputs = {"images": model.prepare_images(images), "timesteps": ops.full((1,), int(timesteps), dtype="int32")}
    if labels is not None:
        inputs["labels"] = model.prepare_labels(labels)
        check_pairs(inputs["images"], inputs["labels"])
    if timesteps:
        inputs["noise"] = keras.random.normal(ops.shape(inputs["images"]), dtype="float32", seed=seed_generator(seed))

    def encode(model, inputs):
        images, timesteps = inputs["images"], inputs["timesteps"]
        if "noise" in inputs:
            images = model.corruption.noise_schedule.add_noise(images, inputs["noise"], timesteps)
        return model.encoder(images, condition=model.condition(timesteps, inputs.get("labels")))[0]

    features = model.programs.run(("encode",), encode, [model], inputs, values=model.weight_values(weights))
    return check_finite(features, "features")


def feature_extractor(
    model,
    image_shape=None,
    pooling="cls",
    layer=None,
    timesteps=0,
    weights="average",
    seed=None,
    value_range=None,
    drop_path=0.0,
):
    """The encoder, with a copy of its weights, as a Keras model to embed in others.

    Example:

    >>> model.feature_extractor(pooling=None, layer=1).predict(images).shape
    (24, 16, 32)

    Args:
        image_shape: Tuple `(*space, channels)`. Another size than the model's interpolates the position embeddings
            bicubically.
        pooling: `"cls"`, `"mean"`, `"cls+mean"` or `None`, see `FeatureExtractor`.
        layer: Integer in [1, num_layers], the block after which to take the features, or a list of them. Defaults
            to the last.
        timesteps: Integer in [0, T]. Above 0 the images are noised to it first, as of `encode`.
        weights: `"average"`, `"raw"` or a decay, as of `weight_values`.
        seed: Integer, `keras.random.SeedGenerator` or `None`, for the noise.
        value_range: Pair of floats, the range of the float images that it will get, for example (0, 255): they are
            scaled inside. Defaults to the model's.
        drop_path: Float in [0, 1), the stochastic depth of a fine-tuning, see `FeatureExtractor`.

    Returns:
        `FeatureExtractor`.
    """
    image_shape = model.image_shape if image_shape is None else image_shape
    require(
        is_shape(image_shape),
        "`image_shape` must be positive integers (*space, channels), or None for the model's.",
        image_shape=image_shape,
    )
    require(
        len(image_shape) == len(model.image_shape) and image_shape[-1] == model.image_shape[-1],
        f"`image_shape` must have as many axes as the model's {model.image_shape}, and its channels.",
        image_shape=image_shape,
    )
    require(
        value_range is None or not model.is_latent,
        "A model of latents has no range to which they could be scaled.",
        value_range=value_range,
    )
    extractor = FeatureExtractor(
        image_shape=image_shape,
        patch_size=model.patch_size,
        hidden_dim=model.hidden_dim,
        num_layers=model.encoder.num_layers,
        num_heads=model.encoder.num_heads,
        num_cls_tokens=model.encoder.num_cls_tokens,
        block=model.block,
        conditioning=model.conditioning,
        num_classes=model.num_classes,
        value_range=model.value_range if value_range is None else value_range,
        model_range=None if value_range is None else model.value_range,
        schedule=model.corruption.noise_schedule,
        dtype=model.dtype_policy,
        pooling=pooling,
        layer=layer,
        timesteps=timesteps,
        seed=seed,
        drop_path=drop_path,
    )
    extractor.copy_weights(model, weights)
    return extractor
