"""Checks of what `generate` and its relatives are given."""

import numpy as np
from keras import ops

from keras_umd.utils.checks import (
    as_integers,
    as_numbers,
    check_integers,
    check_positive_integers,
    check_tensors,
    is_list,
    require,
)

MAX_NOISE = 1e6  # no level of a schedule gets near it; images of more would be one color


def check_generation(labels, num_images, initial_noise, image_indices):
    """Check what sampling is told about the number of images, and return it.

    `labels` and `initial_noise` are prepared, or `None`.
    """
    check_integers(1, optional=True, num_images=num_images)
    if image_indices is not None:
        as_integers(0, image_indices=image_indices)
    given = {"labels": labels, "image_indices": image_indices, "initial_noise": initial_noise}
    counts = {"num_images": num_images, **{name: None if x is None else len(x) for name, x in given.items()}}
    counts = {name: int(count) for name, count in counts.items() if count is not None}
    if set(counts) <= {"image_indices"} or len(set(counts.values())) != 1:
        raise ValueError(
            "`labels`, `num_images`, `initial_noise` and `image_indices` must agree on the number of images, and one "
            "of the first three must be given. "
            f"Received numbers: {counts}"
        )
    number = next(iter(counts.values()))
    check_positive_integers(num_images=number)  # not 0 of empty `labels`
    return number


def prepare_noise(noise, image_shape, name):
    """The noise or the noisy images that sampling starts from, checked and as a float32 tensor; `None` stays."""
    if noise is None:
        return None
    if hasattr(noise, "shape"):
        check_tensors(len(image_shape) + 1, types=("float",), **{name: noise})
    values = as_numbers(**{name: noise})
    largest = np.abs(values).max(initial=0)
    require(
        values.shape[1:] == image_shape and values.ndim and largest <= MAX_NOISE,
        f"`{name}`, the noise or the noisy images to start from, must be finite floats of shape (num_images, "
        f"{', '.join(map(str, image_shape))}), at most {MAX_NOISE:g}.",
        f"an array of shape {values.shape} with values up to {largest:g}",
    )
    return ops.convert_to_tensor(noise, dtype="float32")


def check_mask(mask, images_shape):
    """A mask of pixels as a bool array `(batch or 1, *space, 1)`."""
    if not is_list(mask):
        check_tensors(None, mask=mask)
    mask = np.asarray(ops.convert_to_numpy(mask) if hasattr(mask, "shape") else mask)
    batch, *space = images_shape[:-1]
    require(
        mask.dtype == bool and mask.shape in {(batch, *space, 1), (1, *space, 1)},
        f"`mask` must be bool, True where to generate, and of shape ({batch} or 1, {', '.join(map(str, space))}, 1).",
        f"mask of shape {mask.shape} and type {mask.dtype}",
    )
    return mask


def check_weak_model(model, weak, labels, guidance):
    """Check that `model`, with `labels` or without, can be guided away from `weak`, which may be itself."""
    if weak is model:
        require(
            model.num_classes is not None and labels is not None,
            "Guidance needs a model with classes (see `with_classes`) and `labels` to guide to, or a `weak_model`.",
            guidance=guidance,
            labels=labels,
            num_classes=model.num_classes,
        )
        return
    own, other = _images_and_noise(model), _images_and_noise(weak)
    has_levels = _same_levels(model.corruption.noise_schedule, weak.corruption.noise_schedule)
    require(
        own == other and has_levels and weak.num_classes in (None, model.num_classes),
        "A `weak_model` must have the images, the noise schedule and, if any, the classes of the model.",
        f"{other} and {weak.num_classes} classes beside {own} and {model.num_classes}",
    )


def _images_and_noise(model):
    schedule = model.corruption.noise_schedule
    name = getattr(schedule, "name", schedule)
    return {
        "image_shape": model.image_shape,
        "value_range": model.value_range,
        "schedule": (name, schedule.num_timesteps),
    }


def _same_levels(schedule, other):
    timesteps = np.linspace(1, schedule.num_timesteps, 9)
    own, others = schedule.levels(timesteps), other.levels(timesteps)
    return all(np.allclose(own[name], others[name]) for name in ("signal", "sigma"))


def check_autoencoder(autoencoder, image_shape, value_range):
    """Check that it, if not `None`, can decode what a model of `image_shape` and `value_range` makes."""
    if autoencoder is None:
        return
    require(
        value_range is None,
        "Only a model of latents, one with value_range=None, takes an `autoencoder`.",
        f"autoencoder={autoencoder!r} for a model with value_range={value_range}",
    )
    require(
        all(hasattr(autoencoder, name) for name in ("decode", "latent_channels", "image_shape", "fingerprint")),
        "`autoencoder` must be an object from keras_umd.latents.",
        autoencoder=autoencoder,
    )
    require(
        autoencoder.latent_channels == image_shape[-1],
        f"The `autoencoder` must have latents of {image_shape[-1]} channels, as the model.",
        f"an autoencoder of {autoencoder.latent_channels} channels",
    )
