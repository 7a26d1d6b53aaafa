"""From noise to images with a model: new ones, completed ones and cleaned ones. `UMD` has methods of these names."""

import keras
import numpy as np
from keras import ops

from keras_umd.backend import shard_batch
from keras_umd.backend.processes import progress_bar, to_numpy
from keras_umd.sampling.checks import check_generation, check_mask, check_weak_model, prepare_noise
from keras_umd.sampling.denoiser import predict
from keras_umd.sampling.image_noise import noise_key
from keras_umd.sampling.program import SamplingProgram
from keras_umd.sampling.settings import Settings
from keras_umd.utils.checks import check_finite
from keras_umd.utils.images import to_uint8
from keras_umd.utils.seeds import seed_generator


def generate(model, labels=None, num_images=None, **options):
    """Images from noise; arguments as of `UMD.generate`."""
    return np.concatenate(
        [as_images(model, samples) for samples in _batches(model, labels, num_images, Settings(**options))]
    )


def trajectory(model, labels=None, num_images=None, num_frames=8, **options):
    """The states of `generate` on its way; arguments as of `UMD.trajectory`."""
    if not isinstance(num_frames, (int, np.integer)):
        raise ValueError(f"`num_frames` must be an integer. Received: num_frames={num_frames}")
    batches = _batches(model, labels, num_images, Settings(**options), num_frames=int(num_frames))
    return np.concatenate([as_images(model, samples) for samples in batches], axis=1)


def inpaint(model, images, mask, labels=None, **options):
    """The masked part of images, to fit what is around it; arguments as of `UMD.inpaint`."""
    images = images if hasattr(images, "shape") else np.asarray(images)
    known = model.prepare_images(images)
    mask = check_mask(mask, known.shape)
    batches = _batches(model, labels, known.shape[0], Settings(**options), extra={"known": known, "mask": mask})
    samples = np.concatenate(list(batches))
    images = ops.convert_to_numpy(images)
    if images.dtype == "uint8":
        samples = to_uint8(samples, model.value_range)
    completed = np.where(mask, samples, images).astype(images.dtype)
    return completed if model.autoencoder is None else as_images(model, completed)


def denoise(model, images, timestep, labels=None, **options):
    """Noisy images without their noise; arguments as of `UMD.denoise`."""
    T = model.corruption.num_timesteps
    if not np.ndim(timestep) == 0 or not 1 <= timestep <= T:
        raise ValueError(f"`timestep` must be a number from 1 to {T}. Received: timestep={timestep}")
    batches = _batches(model, labels, None, Settings(**options, initial_noise=images), start=float(timestep))
    return np.concatenate([as_images(model, samples) for samples in batches])


def estimate(model, x_t, timesteps, labels=None):
    """The network's estimates of x_0 and noise; arguments as of `UMD.estimate`."""
    condition = model.condition(timesteps, labels)
    return predict(model, x_t, model.decoder.pixel_predictions, condition, condition)


def as_images(model, samples):
    """Float samples `(..., *image_shape)` as `generate` returns them: uint8 images, or undecoded latents."""
    if not model.is_latent:
        return to_uint8(samples, model.value_range)
    if model.autoencoder is None:
        return samples
    outer = samples.shape[: samples.ndim - len(model.image_shape)]
    return model.autoencoder.decode(samples.reshape(-1, *model.image_shape)).reshape(*outer, *model.generated_shape)


def _batches(model, labels, num_images, settings, start=None, extra=None, num_frames=None):
    """Float arrays, the samples of one batch after the other: `(batch, *image_shape)`, with frames before it if any.

    All batches have one size, and so one program: the last is filled up with images that aren't kept.
    """
    labels = model.prepare_labels(labels)
    noise = prepare_noise(settings.initial_noise, model.image_shape)
    num_images = check_generation(labels, num_images, noise, settings.image_indices)
    prediction = model.prediction(settings.predict_from)
    rows = settings.rows(model.corruption.noise_schedule, start, prediction.needs_signal)
    models = _models(model, settings, rows, labels)
    values = sum((weak_model.weight_values() for weak_model in models[1:]), model.weight_values(settings.weights))
    shared = {"rows": rows, "key": noise_key(seed_generator(settings.seed))}
    each = {
        "image_indices": np.arange(num_images) if settings.image_indices is None else settings.image_indices,
        "labels": None if labels is None else ops.convert_to_numpy(labels),
        "x_t": noise,
        **(extra or {}),
    }
    each = {name: x if hasattr(x, "shape") else np.asarray(x) for name, x in each.items() if x is not None}
    program = SamplingProgram(settings, rows["is_guided"].any(), rows["is_guided"].all(), num_frames)
    batch_size = min(settings.batch_size or num_images, num_images)
    progress = progress_bar(num_images, settings.verbose)
    for first in range(0, num_images, batch_size):
        indices = np.arange(first, first + batch_size) % num_images
        inputs = {**shared, **_batch_inputs(each, indices, model.num_classes)}
        inputs = keras.tree.map_structure(_as_tensor, inputs)
        for name in {"image_indices", "label_rows", "x_t", "known"} & set(inputs):
            inputs[name] = shard_batch(inputs[name])
        samples = to_numpy(
            model.programs.run(
                program.key(inputs), program, models, inputs, values=values, jit_compile=settings.jit_compile
            )
        )
        kept = min(num_images - first, batch_size)
        progress(first + kept)
        yield check_finite(samples[:kept] if num_frames is None else samples[:, :kept], "samples")


def _models(model, settings, rows, labels):
    """The models that sampling calls: itself, and the other one that it is guided away from, if any."""
    if not rows["is_guided"].any():
        return [model]
    weak_model = model if settings.guidance.weak_model is None else settings.guidance.weak_model
    check_weak_model(model, weak_model, labels, settings.guidance)
    weak_model.prediction(settings.predict_from)  # raises where it has learned no such one
    return [model] if weak_model is model else [model, weak_model]


def _batch_inputs(each, indices, num_classes):
    """The inputs of some of all images; labels as those that occur and which of them each image has."""
    inputs = {name: x if x.shape[0] == 1 else _take(x, indices) for name, x in each.items()}
    if "labels" not in inputs:
        return {**inputs, "labels": np.array([num_classes or 0])}
    inputs["labels"], inputs["label_rows"] = _distinct(inputs["labels"], num_classes)
    return inputs


def _take(x, indices):
    if isinstance(x, np.ndarray):
        return x[indices]
    whole = np.array_equal(indices, np.arange(x.shape[0]))  # it stays on the devices where it is
    return x if whole else ops.take(x, indices, axis=0)


def _distinct(labels, num_classes):
    """Unique labels, padded to `min(batch, num_classes) + 1` (a static shape), and the row of each image's label.

    The last row is the null label, also where nothing is guided, so that shapes don't depend on the labels.
    """
    distinct, rows = np.unique(labels, return_inverse=True)
    table = np.full(min(len(labels), num_classes) + 1, num_classes)
    table[: len(distinct)] = distinct
    return table, rows


def _as_tensor(x):
    dtype = keras.backend.standardize_dtype(x.dtype) if hasattr(x, "dtype") else "float32"
    return ops.convert_to_tensor(x, dtype="int32" if "int" in dtype else "bool" if dtype == "bool" else "float32")
