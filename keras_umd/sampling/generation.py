"""From noise to images with a model: new ones, completed ones and cleaned ones. They are the methods of `UMD`."""

import keras
import numpy as np
from keras import ops

from keras_umd.backend import shard_batch
from keras_umd.backend.processes import progress_bar, to_numpy
from keras_umd.sampling.checks import check_generation, check_mask, check_weak_model, prepare_noise
from keras_umd.sampling.denoiser import predict
from keras_umd.sampling.image_noise import noise_key
from keras_umd.sampling.program import SamplingProgram
from keras_umd.sampling.settings import settings_of, takes_settings
from keras_umd.utils.checks import check_finite, check_integers, check_numbers, check_tensors, require
from keras_umd.utils.images import to_uint8
from keras_umd.utils.seeds import seed_generator


@takes_settings
def generate(model, labels=None, num_images=None, **options):
    """Generate images from noise.

    The image with index k of a seed is the same, up to rounding, whatever the batch, the devices and the backend.

    Example:

    >>> model.generate([0, 1, 2], num_steps=5, sampler="dpmpp_2m", guidance=2.0, seed=0).shape
    (3, 8, 8, 1)

    Args:
        labels: Int array `(num_images,)`, or `None` for images without a label.
        num_images: Integer. Required without `labels` and `initial_noise`.
        num_steps: Integer from 1 to T. Calls of the network for each image. Defaults to 250, or to what explicit
            timesteps of the sampler need.
        sampler: Object from `keras_umd.samplers`, or `"ddim"`, `"dpmpp_2m"` or `"heun"`, or a number in [0, 1], the
            eta of DDIM: 0 is deterministic, 1 ancestral sampling, the paper's choice. Defaults to 1.
        guidance: Float of at least 0, the scale: 1, the default, is no guidance and costs half as much as any other
            value; the paper's figures use 4. Or an object from `keras_umd.guidance`, to guide at some noise levels
            only, or away from another model. It acts on the predicted noise (Eq. 3), from which x_0 follows.
        initial_noise: Float array `(num_images, *image_shape)` from N(0, 1), to start from.
        seed: Integer, `keras.random.SeedGenerator` or `None`, for everything that is drawn.
        predict_from: `"eps"`, `"v"` or `"x0"`, the head to read, by default the first of these that was trained, or
            `"both"`: by the v that eps and x_0 give together (Salimans and Ho, 2022), mostly x_0 where there is much
            noise and eps where there is little. The paper's ablation finds x_0 better after fine-tuning;
            `benchmarks/sampling_quality.py` finds eps nearer to the data, x_0 nearer to the labels. In pre-training
            with two heads and masks, x_0 of visible patches isn't trained. Where a schedule leaves no signal, eps
            can't be read.
        weights: `"average"`, `"raw"` or a decay, as of `weight_values`.
        image_indices: Int array `(num_images,)`, the places of the images in the seed's sequence. Defaults to 0, 1,
            2 and so on.
        batch_size: Integer, images at a time. Defaults to all. `generate_to` keeps none of them in memory.
        verbose: Bool, or `"auto"` for Keras' own setting. Whether to show a bar, which moves with each batch.
        jit_compile: `"auto"`, or `True` for XLA on TensorFlow and `torch.compile` on PyTorch. JAX always compiles.
        dtype: `"uint8"`, or `"float32"` for images in the model's `value_range` that aren't rounded, of models that
            were trained on floats of more than 256 levels.

    Returns:
        NumPy array `(num_images, *image_shape)`: images of `dtype`, or float32 latents where `value_range` is
        `None` and no `autoencoder` decodes them.
    """
    settings = settings_of("generate", options)
    return np.concatenate(
        [as_images(model, samples, settings.dtype) for samples in _batches(model, labels, num_images, settings)]
    )


@takes_settings
def trajectory(model, labels=None, num_images=None, num_frames=8, **options):
    """The states of `generate` on its way from noise to images, for `keras_umd.plots.strips`.

    Example:

    >>> model.trajectory([0, 1, 2], num_frames=4, num_steps=6, seed=0).shape
    (4, 3, 8, 8, 1)

    Args:
        labels, num_images: As of `generate`.
        num_frames: Integer from 2 to the number of steps + 1. The first frame is noise, the last the image.
        **options: As of `generate`.

    Returns:
        NumPy array `(num_frames, num_images, *image_shape)`, as of `generate`.
    """
    check_integers(2, num_frames=num_frames)
    settings = settings_of("trajectory", options)
    batches = _batches(model, labels, num_images, settings, num_frames=int(num_frames))
    return np.concatenate([as_images(model, samples, settings.dtype) for samples in batches], axis=1)


@takes_settings
def inpaint(model, images, mask, labels=None, **options):
    """Generate the masked part of images, to fit what is around it.

    In every step the predicted x_0 is replaced by the image where it is known (DDNM; Wang et al., 2022): the known
    pixels go their way from noise to image as forward diffusion would have it, beside those that are generated.

    Example:

    >>> mask = np.zeros((1, 8, 8, 1), bool)
    >>> mask[:, 4:] = True                                        # the lower half is generated
    >>> model.inpaint(images[:3], mask, labels=labels[:3], num_steps=5, seed=0).shape
    (3, 8, 8, 1)

    Args:
        images: uint8 or float array `(batch, *image_shape)`; float images lie in `value_range`. Latents
            for a latent model, whose `mask` has a value for each latent pixel.
        mask: Bool array `(batch or 1, *space, 1)`, `True` where to generate.
        labels: Int array `(batch,)`, or `None`.
        **options: As of `generate`; the type is that of `images`, whatever `dtype` says.

    Returns:
        NumPy array of the shape and type of `images`, equal to them outside of the mask; where an `autoencoder`
        is set, the uint8 images that it makes of this.
    """
    images = images if hasattr(images, "shape") else np.asarray(images)
    known = model.prepare_images(images)
    mask = check_mask(mask, known.shape)
    settings = settings_of("inpaint", options)
    batches = _batches(model, labels, known.shape[0], settings, extra={"known": known, "mask": mask})
    samples = np.concatenate(list(batches))
    images = ops.convert_to_numpy(images)
    if images.dtype == "uint8":
        samples = to_uint8(samples, model.value_range)
    completed = np.where(mask, samples, images).astype(images.dtype)
    return completed if model.autoencoder is None else as_images(model, completed)


@takes_settings
def denoise(model, images, timestep, labels=None, **options):
    """Remove the noise of noisy images.

    One step gives one guess at them all, blurred where the noise hides what was there (with much noise that of
    `predict_from="x0"` is the better one); more steps draw one of the possible images. A picture with noise of
    deviation s, in the model's range, belongs to `timestep = schedule.timesteps_at(-2 * np.log(s))` of the model's
    `schedule = corruption.noise_schedule`, and must be multiplied by `schedule.levels(timestep)["signal"]`.

    Example:

    >>> noisy = np.random.normal(size=(2, 8, 8, 1))
    >>> model.denoise(noisy, timestep=600, labels=[0, 1], num_steps=4).shape
    (2, 8, 8, 1)

    Args:
        images: Float array `(batch, *image_shape)`, x_t as `NoiseSchedule.add_noise` makes it. Its
            values may lie anywhere. They take the place of `initial_noise`.
        timestep: Number in [1, T], how much noise there is.
        labels: Int array `(batch,)`, or `None`.
        num_steps: Integer, at most `timestep`. Defaults to 1, or to what explicit timesteps of the sampler need.
        **options: As of `generate`.

    Returns:
        NumPy array as of `generate`.
    """
    check_numbers(f"[1, {model.corruption.num_timesteps}]", timestep=timestep)
    require(images is not None, "`images` must be noisy images.", images=images)
    settings = settings_of("denoise", options, initial_noise=images)
    batches = _batches(model, labels, None, settings, start=float(timestep))
    return np.concatenate([as_images(model, samples, settings.dtype) for samples in batches])


def estimate(model, x_t, timesteps, labels=None):
    """The network's predictions for noisy images, nothing masked.

    Example:

    >>> x_t = np.random.normal(size=(2, 8, 8, 1)).astype("float32")
    >>> sorted(model.estimate(ops.convert_to_tensor(x_t), ops.convert_to_tensor([600.0])))
    ['eps', 'x0']

    Args:
        x_t: Float tensor of shape `(batch, *image_shape)`.
        timesteps: Tensor of shape `(batch,)` or `(1,)`, values in `[0, T]`.
        labels: Int tensor of shape `(batch,)`, `num_classes` for the null label; `None` for the null label of all.

    Returns:
        Dictionary of float tensors of the shape of `x_t`, by name: `x0` and `eps` of the paper's model.
    """
    check_tensors(len(model.image_shape) + 1, types=("float",), x_t=x_t)
    check_tensors(1, timesteps=timesteps)
    if labels is not None:
        check_tensors(1, types=("int",), labels=labels)
    condition = model.condition(timesteps, labels)
    return predict(model, x_t, model.decoder.pixel_predictions, condition, condition)


def as_images(model, samples, dtype="uint8"):
    """Float samples `(..., *image_shape)` as `generate` returns them: images, or undecoded latents."""
    if not model.is_latent:
        return to_uint8(samples, model.value_range) if dtype == "uint8" else samples
    if model.autoencoder is None:
        return samples
    outer = samples.shape[: samples.ndim - len(model.image_shape)]
    return model.autoencoder.decode(samples.reshape(-1, *model.image_shape)).reshape(*outer, *model.generated_shape)


def _batches(model, labels, num_images, settings, start=None, extra=None, num_frames=None):
    """Float arrays, the samples of one batch after the other: `(batch, *image_shape)`, with frames before it if any.

    All batches have one size, and so one program: the last is filled up with images that aren't kept.
    """
    labels = model.prepare_labels(labels)
    noise = prepare_noise(settings.initial_noise, model.image_shape, "initial_noise" if start is None else "images")
    num_images = check_generation(labels, num_images, noise, settings.image_indices)
    needs_signal = model.prediction(settings.predict_from).needs_signal
    rows = settings.rows(model.corruption.noise_schedule, start, needs_signal)
    models = _models(model, settings, rows, labels)
    values = sum((weak_model.weight_values() for weak_model in models[1:]), model.weight_values(settings.weights))
    shared = {"rows": rows, "key": noise_key(seed_generator(settings.seed))}
    if start is None and "signal_slope" in rows:  # a variance-preserving path starts from noise of deviation 1
        shared["noise_scale"] = rows["sigma"][0]
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
