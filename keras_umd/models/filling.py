"""Images with missing parts, filled in; and what a model doesn't expect in images. They are methods of `UMD`."""

import math

import keras
import numpy as np
from keras import ops

from keras_umd.backend.processes import to_numpy
from keras_umd.layers.masking import split_at
from keras_umd.layers.patches import patchify
from keras_umd.models.reconstruction import pixel_target, predict_pixels, shown_noise
from keras_umd.sampling.denoiser import predict
from keras_umd.utils.checks import check_finite, check_integers, check_numbers, check_tensors, is_list, require
from keras_umd.utils.images import to_uint8
from keras_umd.utils.seeds import seed_generator

STEPS = 16  # numbers of visible patches that get a program each, at most


def impute(model, images, missing=None, weights="average", seed=None):
    """Fill in what is missing of images: the model sees only patches of which nothing is missing.

    Up to a sixteenth of the patches that are known is left out, at random, so that few programs serve all images.

    Example:

    >>> damaged = images[:4].astype("float32") / 127.5 - 1
    >>> damaged[:, 2:4, 2:4] = np.nan
    >>> model.impute(damaged, seed=0).shape
    (4, 8, 8, 1)

    Args:
        images: uint8 or float array `(batch, *image_shape)`; float images lie in `value_range`.
        missing: Bool array `(batch or 1, *space, 1 or channels)`, `True` where missing. `None` is for float images that
            are NaN there.
        weights: As of `weight_values`.
        seed: Integer, `keras.random.SeedGenerator` or `None`, for the patches that are left out, and for noise where
            the decoder sees some, as in `reconstruct`.

    Returns:
        NumPy array of the shape and type of `images`, equal to them where nothing is missing.

    Raises:
        ValueError: if an image has no patch of which all is known, and for a model that predicts no pixels or only
            normalised ones, whose brightness nobody knows where they are missing.
    """
    images = np.asarray(ops.convert_to_numpy(images) if hasattr(images, "shape") else images)
    require(
        images.ndim == len(model.image_shape) + 1 and images.dtype.kind in "uf",
        "`images` must be uint8 or float of shape (batch, *image_shape).",
        f"images of shape {images.shape} and type {images.dtype}",
    )
    missing = _checked_missing(missing, images)
    target = pixel_target(model)
    require(
        not getattr(target, "normalize", False),
        "Normalised pixels have no brightness of their own to fill in; train a model on X0() or "
        "Pixels(normalize=False).",
        f"a model with the losses {model.objective.loss_names}",
    )
    middle = 128 if images.dtype == "uint8" else np.mean(model.value_range or (0.0,))
    x0 = to_numpy(model.prepare_images(np.where(missing, middle, images).astype(images.dtype)))
    hidden = _hidden_patches(np.broadcast_to(missing, images.shape), model)
    seed = seed_generator(seed)
    scores = to_numpy(keras.random.uniform(hidden.shape, dtype="float32", seed=seed)) + hidden
    shown = [to_numpy(noise) for noise in shown_noise(model, x0.shape, seed)]
    counts = _visible_counts(hidden)
    filled = np.zeros(images.shape, "float32")
    for count in np.unique(counts[counts < model.num_patches]):  # of the others nothing is missing
        rows = np.flatnonzero(counts == count)
        own = [noise[rows] for noise in shown]
        filled[rows] = _predicted(model, target, x0[rows], scores[rows], int(count), weights, *own)[0]
    check_finite(filled, "predictions")
    if images.dtype == "uint8":
        filled = to_uint8(filled, model.value_range)
    elif not model.is_latent:
        filled = np.clip(filled, *model.value_range)
    return np.where(missing, filled, images).astype(images.dtype)


def anomaly_map(model, images, num_masks=4, timestep=None, weights="average", seed=None):
    """How wrong the model is about each pixel: high where an image isn't as those that it was trained on.

    The sum of two squared errors, averaged over channels. That of masked reconstruction: each mask shows another
    part of the patches, and a pixel's error is the mean over the masks that hide it. And, of models that were trained
    on noisy images, that of removing noise at one level.

    Models of normalised pixels see shapes alone: as in `reconstruct`, the true patch lends brightness and contrast, so
    that a patch that is only too bright has no error there.

    Example:

    >>> model.anomaly_map(images[:4], seed=0).shape
    (4, 8, 8)

    Args:
        images: uint8 or float array `(batch, *image_shape)`; float images lie in `value_range`.
        num_masks: Integer, at least 2. Masks of an image; each shows one part of so many, 1/4 being MAE's share.
        timestep: Number from 0 to T, the noise level; 0 leaves noise out. Defaults to a quarter of T, and to 0 for
            models that were trained on clean images alone.
        weights: As of `weight_values`.
        seed: Integer, `keras.random.SeedGenerator` or `None`, for masks and noise.

    Returns:
        Float32 array `(batch, *space)`.
    """
    check_integers(2, model.num_patches, num_masks=num_masks)
    total = model.corruption.num_timesteps
    check_numbers(f"[0, {total}]", optional=True, timestep=timestep)
    knows_noise = any(view.is_noisy for view in model.corruption.views)
    timestep = (total / 4 if knows_noise else 0) if timestep is None else timestep
    require(knows_noise or not timestep, "The model has learned nothing of noise; set timestep=0.", timestep=timestep)
    seed = seed_generator(seed)
    x0 = to_numpy(model.prepare_images(images))
    draws = to_numpy(keras.random.uniform((len(x0), model.num_patches), dtype="float32", seed=seed))
    ranks, visible = np.argsort(np.argsort(draws, axis=1), axis=1), model.num_patches // num_masks
    errors, counts, target = np.zeros(x0.shape, "float32"), np.zeros(x0.shape, "float32"), pixel_target(model)
    shown = shown_noise(model, x0.shape, seed)
    for index in range(num_masks):
        # The next part comes first, those before it last.
        scores = ((ranks - index * visible) % model.num_patches).astype("float32")
        predicted, hidden = _predicted(model, target, x0, scores, visible, weights, *shown)
        errors += hidden * np.square(predicted - x0)
        counts += hidden
    errors = errors / counts
    if timestep:
        errors = errors + _denoising_errors(model, x0, float(timestep), weights, seed)
    return check_finite(np.mean(errors, axis=-1).astype("float32"), "predictions")


def _checked_missing(missing, images):
    """A bool array that broadcasts to the images."""
    if missing is None:
        is_float = images.dtype.kind == "f"
        require(is_float, "`missing` must say what is missing: only floats can be NaN.", missing=missing)
        return np.isnan(images)
    if not is_list(missing):
        check_tensors(None, missing=missing)
    missing = np.asarray(ops.convert_to_numpy(missing) if hasattr(missing, "shape") else missing)
    shapes = {(batch, *images.shape[1:-1], last) for batch in (1, len(images)) for last in (1, images.shape[-1])}
    require(
        missing.dtype == bool and missing.shape in shapes,
        "`missing` must be bool, True where something is missing, of shape (batch or 1, *space, 1 or channels).",
        f"missing of shape {missing.shape} and type {missing.dtype} for images of shape {images.shape}",
    )
    return missing


def _hidden_patches(missing, model):
    """The patches of which something is missing, `(batch, num_patches)`, bool."""
    return np.any(to_numpy(patchify(ops.convert_to_tensor(missing.astype("float32")), model.patch_size)) > 0, axis=-1)


def _visible_counts(hidden):
    """How many patches of each image to show, `(batch,)`: a few different numbers, at most those that are known."""
    known = np.sum(~hidden, axis=1)
    require(
        np.all(known > 0),
        "`images` must have a patch each of which nothing is `missing`.",
        f"images with {known.tolist()} of {hidden.shape[1]} patches known",
    )
    step = math.ceil(hidden.shape[1] / STEPS)
    return np.maximum(known // step * step, 1)


def _predicted(model, target, x0, scores, visible, weights, *shown):
    """Predicted pixels, float32 of the images' shape, and where they were hidden: bool `(batch, *space, 1)`."""

    def fill_in(model, x0, scores, *shown):
        return predict_pixels(model, target, x0, *split_at(scores, visible), *shown)

    values = model.weight_values(weights)
    tensors = [ops.convert_to_tensor(x) for x in (x0, scores.astype("float32"), *shown)]
    pixels, mask = model.programs.run(("fill in", visible), fill_in, [model], *tensors, values=values)
    return to_numpy(pixels), to_numpy(mask).astype(bool)


def _denoising_errors(model, x0, timestep, weights, seed):
    """The squared errors of x_0 as noisy images tell it."""
    prediction = model.prediction()
    noise = keras.random.normal(x0.shape, dtype="float32", seed=seed)

    def errors(model, x0, noise, timesteps):
        schedule = model.corruption.noise_schedule
        x_t = schedule.add_noise(x0, noise, timesteps)
        condition = model.condition(timesteps)
        outputs = predict(model, x_t, prediction.names, condition, condition)
        outputs = {name: ops.cast(output, "float32") for name, output in outputs.items()}
        estimate, _ = prediction.estimate(outputs, x_t, schedule.level(timesteps, len(x0.shape)))
        return ops.square(estimate - x0)

    timesteps = ops.full((len(x0),), timestep, "float32")
    values = model.weight_values(weights)
    return to_numpy(
        model.programs.run(
            ("denoising errors",), errors, [model], ops.convert_to_tensor(x0), noise, timesteps, values=values
        )
    )
