"""Features of images, and the encoder alone to embed in other models."""

import keras
from keras import ops

from keras_umd.models.feature_extractor import FeatureExtractor
from keras_umd.utils.checks import check_finite, check_timesteps
from keras_umd.utils.seeds import seed_generator


def encode(model, images, timesteps=0, labels=None, weights="average", seed=None):
    """The representations of images; see `UMD.encode`."""
    check_timesteps(timesteps, model.corruption.num_timesteps)
    inputs = {"images": model.prepare_images(images), "timesteps": ops.full((1,), int(timesteps), dtype="int32")}
    if labels is not None:
        inputs["labels"] = model.prepare_labels(labels)
        if inputs["labels"].shape[0] != inputs["images"].shape[0]:
            raise ValueError(
                f"There must be one label for each of the {inputs['images'].shape[0]} images. "
                f"Received: {inputs['labels'].shape[0]} labels"
            )
    if timesteps:
        shape = ops.shape(inputs["images"])
        inputs["noise"] = keras.random.normal(shape, dtype="float32", seed=seed_generator(seed))

    def encode(model, inputs):
        images, timesteps = inputs["images"], inputs["timesteps"]
        if "noise" in inputs:
            images = model.corruption.noise_schedule.add_noise(images, inputs["noise"], timesteps)
        return model.encoder(images, condition=model.condition(timesteps, inputs.get("labels")))[0]

    features = model.programs.run(("encode",), encode, [model], inputs, values=model.weight_values(weights))
    return check_finite(features, "features")


def feature_extractor(model, image_shape=None, weights="average", value_range=None, **options):
    """The encoder, with a copy of its weights, as a Keras model of its own; see `UMD.feature_extractor`."""
    image_shape = model.image_shape if image_shape is None else tuple(image_shape)
    if len(image_shape) != len(model.image_shape) or image_shape[-1] != model.image_shape[-1]:
        raise ValueError(
            f"`image_shape` must have as many axes as the model's {model.image_shape}, and its channels. "
            f"Received: image_shape={image_shape}"
        )
    if value_range is not None and model.is_latent:
        raise ValueError(
            f"A model of latents has no range to which they could be scaled. Received: value_range={value_range}"
        )
    extractor = FeatureExtractor(
        image_shape=image_shape,
        patch_size=model.patch_size,
        hidden_dim=model.hidden_dim,
        num_layers=model.encoder.num_layers,
        num_heads=model.encoder.num_heads,
        num_cls_tokens=model.encoder.num_cls_tokens,
        conditioning=model.conditioning,
        num_classes=model.num_classes,
        value_range=model.value_range if value_range is None else value_range,
        model_range=None if value_range is None else model.value_range,
        schedule=model.corruption.noise_schedule,
        dtype=model.dtype_policy,
        **options,
    )
    extractor.copy_weights(model, weights)
    return extractor
