"""Fine-tuning for classification, as MAE does it."""

import math

import keras

from keras_umd.training.masked_branch import MaskedBranch
from keras_umd.training.optimizers import LayerwiseAdamW, cosine_with_warmup, layer_rates
from keras_umd.training.recipe import Recipe
from keras_umd.utils.checks import check_numbers, check_positive_integers, require

SOURCE = "MAE (2111.06377), appendix A.2, and the settings for ViT-B of its code"


def classification(
    model,
    num_images,
    num_classes,
    *,
    image_shape=None,
    value_range="auto",
    pooling="mean",
    weights="average",
    batch_size=1024,
    epochs=100,
    base_learning_rate=5e-4,
    layer_decay=0.65,
    weight_decay=0.05,
    drop_path=0.1,
    label_smoothing=0.1,
    masked_branch=0.0,
):
    """Fine-tune the encoder of a UMD as a classifier: a rate for each layer, stochastic depth, smoothed labels.

    The recipe's `model` is a Keras model of its own, with a copy of the encoder, that returns logits. Images that are
    blended or cut into each other belong to it: `MixedBatches` makes them.

    Example:

    >>> recipe = recipes.classification(model, num_images=len(images), num_classes=3, batch_size=8)
    >>> recipe.model.compile(recipe.optimizer, recipe.loss, metrics=["accuracy"])
    >>> mixed = recipes.MixedBatches((images, labels), 3, batch_size=recipe.batch_size)
    >>> recipe.model.fit(mixed, epochs=1)                         # recipe.epochs of them
    >>> recipe.model.predict(images).shape
    (24, 3)

    Args:
        model: `UMD`. It stays as it is.
        num_images: Integer, the images of an epoch.
        num_classes: Integer.
        image_shape: Tuple `(*space, channels)`. Another size than the model's interpolates the positions.
        value_range: Pair of floats, the range of the images that it gets, or `None` for latents. Defaults to (0, 255),
            also for uint8 images, which a Keras model casts to floats; for latents to `None`.
        pooling: As of `UMD.feature_extractor`. MAE's code takes the mean of the patches' tokens.
        weights: As of `UMD.feature_extractor`.
        batch_size: Integer, the images of one update.
        epochs: Integer. 100 for B, 50 for L and H.
        base_learning_rate: Float, the peak at batch size 256, of a cosine with 5 epochs (at most a tenth of all) of
            warm-up. 5e-4 for B, 1e-3 for L and H.
        layer_decay: Float in (0, 1], the factor of the rate from block to block, downwards. 0.65 for B, 0.75 for L, H.
        weight_decay: Float of at least 0, of all matrices but tokens and positions.
        drop_path: Float in [0, 1), see `UMD.feature_extractor`. 0.1 for B, 0.2 for L, 0.3 for H.
        label_smoothing: Float in [0, 1).
        masked_branch: Float in [0, 1). Above 0, `recipes.MaskedBranch`: in training, images are seen a second time
            without so many of their patches, 0.5 in the paper, for about half the cost more.

    Returns:
        `Recipe` with `model`, `optimizer` and `loss`.
    """
    require(hasattr(model, "feature_extractor"), "`model` must be a keras_umd.UMD.", model=model)
    check_positive_integers(num_images=num_images, num_classes=num_classes, batch_size=batch_size, epochs=epochs)
    check_numbers("(0, 1000]", base_learning_rate=base_learning_rate)
    check_numbers("(0, 1]", layer_decay=layer_decay)
    check_numbers("[0, 1000]", weight_decay=weight_decay)
    check_numbers("[0, 1)", drop_path=drop_path, label_smoothing=label_smoothing, masked_branch=masked_branch)
    require(pooling is not None, "`pooling` must give one vector for each image.", pooling=pooling)
    value_range = _value_range(model, value_range)
    encoder = model.feature_extractor(
        image_shape, pooling=pooling, weights=weights, value_range=value_range, drop_path=drop_path
    )
    steps_per_epoch = math.ceil(int(num_images) / int(batch_size))
    total_steps = max(2, int(epochs) * steps_per_epoch)
    schedule = cosine_with_warmup(
        base_learning_rate * int(batch_size) / 256,
        total_steps=total_steps,
        warmup_steps=int(min(5, epochs / 10) * steps_per_epoch),
    )
    optimizer = LayerwiseAdamW(
        schedule,
        rates=layer_rates(encoder.encoder.num_layers, layer_decay),
        weight_decay=weight_decay,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-8,
    )
    return Recipe(
        "classification",
        optimizer,
        int(batch_size),
        int(epochs),
        total_steps,
        settings={"layer_decay": layer_decay, "drop_path": drop_path, "pooling": pooling},
        source=SOURCE,
        model=_classifier(encoder, int(num_classes), masked_branch),
        loss=keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=label_smoothing, dtype="float32"),
    )


def _value_range(model, value_range):
    if isinstance(value_range, str) and value_range == "auto":
        return None if model.is_latent else (0.0, 255.0)
    return value_range


def _classifier(encoder, num_classes, masked_branch):
    if masked_branch:
        return MaskedBranch(encoder, num_classes, masked_branch, name="classifier")
    inputs = keras.Input(encoder.image_shape, dtype="float32", name="images")
    # Tiny, as MAE's: the features get no random gradient in the first steps.
    small = keras.initializers.TruncatedNormal(stddev=2e-5)
    head = keras.layers.Dense(num_classes, kernel_initializer=small, dtype="float32", name="classifier")
    return keras.Model(inputs, head(encoder(inputs)), name="classifier")
