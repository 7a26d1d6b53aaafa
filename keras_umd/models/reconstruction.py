"""Masked images, filled in again."""

import math

import keras
import numpy as np
from keras import ops

from keras_umd.backend.processes import to_numpy
from keras_umd.layers.masking import check_mask_ratio, restore, split_by_score
from keras_umd.layers.patches import patchify, unpatchify
from keras_umd.utils.checks import check_finite, require
from keras_umd.utils.images import to_uint8
from keras_umd.utils.seeds import seed_generator


def reconstruct(model, images, mask_ratio=0.75, weights="average", seed=None):
    """Mask clean images and fill the masked patches in again, as the masked autoencoder does.

    A decoder that was trained to see noise of masked patches (`noise.OfMasked`) gets noise alone, of the highest level,
    and the prediction is that of one step. It knows as little of masked patches as a masked autoencoder, and so has its
    blur: detail would need many steps.

    Example:

    >>> result = model.reconstruct(images, mask_ratio=0.5, seed=0)
    >>> result["reconstruction"].shape, result["mask"].mean()
    ((24, 8, 8, 1), np.float64(0.5))

    Args:
        images: uint8 or float array `(batch, *image_shape)`; float images lie in `value_range`.
        mask_ratio: Float in [0, 1). Share of the patches to mask.
        weights: As of `weight_values`.
        seed: Integer, `keras.random.SeedGenerator` or `None`, for the mask, and for noise where the decoder sees some.

    Returns:
        Dictionary of NumPy arrays: `masked`, the images with masked patches in the middle of the value range;
        `reconstruction`, with the predicted patches in their place and the visible ones as they were, both of the
        type of `images`; `mask` `(batch, *space, 1)`, bool, `True` where masked.
    """
    check_mask_ratio(mask_ratio)
    images = images if hasattr(images, "shape") else np.asarray(images)
    x0 = model.prepare_images(images)
    seed = seed_generator(seed)
    mask_noise = keras.random.uniform((x0.shape[0], model.num_patches), dtype="float32", seed=seed)
    target, shown = pixel_target(model), shown_noise(model, x0.shape, seed)

    def fill_in(model, x0, mask_noise, *shown):
        return predict_pixels(model, target, x0, *split_by_score(mask_noise, mask_ratio), *shown)

    values = model.weight_values(weights)
    prediction, mask = model.programs.run(
        ("reconstruct", mask_ratio), fill_in, [model], x0, mask_noise, *shown, values=values
    )
    images, prediction = ops.convert_to_numpy(images), check_finite(to_numpy(prediction), "predictions")
    mask = to_numpy(mask).astype(bool)
    grey = 0.0
    if images.dtype == "uint8":
        prediction, grey = to_uint8(prediction, model.value_range), 128
    elif not model.is_latent:
        prediction, grey = np.clip(prediction, *model.value_range), np.mean(model.value_range)
    return {
        "masked": np.where(mask, grey, images).astype(images.dtype),
        "reconstruction": np.where(mask, prediction, images).astype(images.dtype),
        "mask": mask,
    }


def predict_pixels(model, target, x0, visible, masked, shown=None):
    """Predict the pixels of clean images from their visible patches.

    Args:
        model: `UMD`.
        target: `Target`, as of `pixel_target`.
        x0: Float32 tensor `(batch, *image_shape)`.
        visible, masked: Int32 tensors `(batch, visible)` and `(batch, masked)`, indices of patches.
        shown: Float32 tensor of the shape of `x0`, noise that the decoder sees of masked patches, or `None`.

    Returns:
        Two tensors: the pixels of all patches, float32 `(batch, *image_shape)`; and int32 `(batch, *space, 1)`, 1 where
        the patches are masked.
    """
    view = {"images": x0, "timesteps": ops.zeros((1,), "int32"), "visible": visible, "masked": masked}
    if shown is not None:
        timesteps = ops.full((1,), model.corruption.num_timesteps, "int32")
        view.update(noisy_images=shown, noisy_timesteps=timesteps)
    prediction = restore(model.predict_view(view, {target.name: "all"})[target.name], visible, masked)
    pixels = target.as_pixels(ops.cast(prediction, "float32"), patchify(x0, model.patch_size))
    is_masked = ops.concatenate([ops.zeros_like(visible), ops.ones_like(masked)], axis=1)[:, :, None]
    mask = restore(ops.tile(is_masked, (1, 1, math.prod(model.patch_size))), visible, masked)
    return tuple(unpatchify(patches, model.patch_size, model.grid) for patches in (pixels, mask))


def pixel_target(model):
    """The first target of the objective that is a picture, one of clean images before others: those are given here."""
    return _pixels_of_view(model)[1]


def shown_noise(model, shape, seed):
    """What the decoder sees of masked patches where nothing is known of them.

    Args:
        model: `UMD`.
        shape: Tuple, that of the images.
        seed: `keras.random.SeedGenerator`.

    Returns:
        A tuple of one float32 tensor of that shape, noise of the highest level; `()` for models whose decoder was
        trained to fill in without noise.
    """
    view, _ = _pixels_of_view(model)
    if not view.shows_noise:
        return ()
    noise = keras.random.normal(tuple(shape), dtype="float32", seed=seed)
    schedule = model.corruption.noise_schedule
    return (schedule.add_noise(ops.zeros_like(noise), noise, ops.full((1,), schedule.num_timesteps, "int32")),)


def _pixels_of_view(model):
    """The view and the target of which `pixel_target` tells."""
    views = {view.name: view for view in model.corruption.views}
    terms = sorted(model.objective.terms, key=lambda term: views[term.view].is_noisy)
    found = [(views[term.view], target) for term in terms for target in term.heads().values() if target.is_pixels]
    require(
        found,
        "The model has learned to predict no pixels, so it can't reconstruct images.",
        f"a model with the losses {model.objective.loss_names}",
    )
    return found[0]
