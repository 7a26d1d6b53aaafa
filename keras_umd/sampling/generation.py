"""What a model does backwards: from noise to images, new ones, completed ones and cleaned ones."""

import keras
import numpy as np
from keras import ops

from keras_umd.backend import shard_batch
from keras_umd.backend.processes import to_numpy
from keras_umd.layers.patches import unpatchify
from keras_umd.sampling import samplers
from keras_umd.sampling.checks import (
    check_autoencoder,
    check_generation,
    check_guidance,
    check_mask,
    check_weak_model,
    prepare_noise,
)
from keras_umd.sampling.guidance import Constant
from keras_umd.sampling.image_noise import noise_key
from keras_umd.sampling.loop import SamplingLoop
from keras_umd.utils.images import to_uint8
from keras_umd.utils.seeds import seed_generator

PAPER_STEPS = 250


class Generation:
    """The methods of `UMD` that sample. Every one runs as one compiled loop, kept for calls of the same kind."""

    _autoencoder = None

    @property
    def autoencoder(self):
        """What turns the latents that `generate`, `trajectory`, `inpaint` and `denoise` return into images, or `None`.

        An object from `keras_umd.latents`, for a model with `value_range=None`. It isn't saved with the model.
        """
        return self._autoencoder

    @autoencoder.setter
    def autoencoder(self, autoencoder):
        check_autoencoder(autoencoder, self.image_shape, self.value_range)
        self._autoencoder = autoencoder

    @property
    def generated_shape(self):
        """The shape `(height, width, channels)` of what `generate` returns."""
        return self.image_shape if self.autoencoder is None else self.autoencoder.image_shape(self.image_shape)

    def generate(
        self,
        labels=None,
        num_images=None,
        num_steps=None,
        eta=1.0,
        guidance_scale=1.0,
        sampler=None,
        initial_noise=None,
        seed=None,
        guidance=None,
        predict_from="eps",
        weights="average",
        image_indices=None,
        jit_compile="auto",
    ):
        """Generate images from noise, with the averaged weights where the model keeps an average.

        The image with index i of a seed is the same, up to rounding, whatever the batch, the devices and the backend.

        Args:
            labels: Int array `(num_images,)`, or `None` for images without a label.
            num_images: Integer. Required without `labels` and `initial_noise`.
            num_steps: Integer from 1 to T. Calls of the network for each image. Defaults to 250, or to what explicit
                timesteps of the sampler need.
            eta: Float in [0, 1]. 0 is deterministic, 1 ancestral sampling, the paper's choice. Not with `sampler`.
            guidance_scale: Float of at least 0. 1 is no guidance and costs half as much as any other value; the paper's
                figures use 4. Not with `guidance`.
            sampler: Object from `keras_umd.samplers`, or `"ddim"`, `"dpmpp_2m"` or `"heun"`. Defaults to `DDIM(eta)`.
            initial_noise: Float array `(num_images, height, width, channels)` from N(0, 1), to start from.
            seed: Integer, `keras.random.SeedGenerator` or `None`, for everything that is drawn.
            guidance: Object from `keras_umd.guidance`, to guide at some noise levels only, or away from another model.
            predict_from: `"eps"` or `"x0"`, the head to read, or `"both"`: by the v that they give together (Salimans
                and Ho, 2022), mostly x_0 where there is much noise and eps where there is little. The paper's ablation
                finds x_0 better after fine-tuning; `benchmarks/sampling_quality.py` finds eps nearer to the data, x_0
                nearer to the labels. In pre-training with masks, x_0 of visible patches isn't trained.
            weights: `"average"`, `"raw"` or a decay, as of `weight_values`.
            image_indices: Int array `(num_images,)`, the places of the images in the seed's sequence. Defaults to 0, 1,
                2 and so on.
            jit_compile: `"auto"`, or `True` for XLA on TensorFlow and `torch.compile` on PyTorch. JAX always compiles.

        Returns:
            NumPy array `(num_images, height, width, channels)`: uint8 images, or float32 latents where `value_range` is
            `None` and no `autoencoder` decodes them.
        """
        samples = self._sample(
            labels,
            num_images,
            num_steps=num_steps,
            eta=eta,
            guidance_scale=guidance_scale,
            sampler=sampler,
            initial_noise=initial_noise,
            seed=seed,
            guidance=guidance,
            predict_from=predict_from,
            weights=weights,
            image_indices=image_indices,
            jit_compile=jit_compile,
        )
        return self._as_images(samples)

    def trajectory(self, labels=None, num_images=None, num_frames=8, **options):
        """How images come out of noise: the states of `generate` on its way, for `keras_umd.plots.strips`.

        Args:
            labels, num_images: As of `generate`.
            num_frames: Integer from 2 to the number of steps + 1. The first frame is noise, the last the image.
            **options: As of `generate`.

        Returns:
            NumPy array `(num_frames, num_images, height, width, channels)`, as of `generate`.
        """
        if not isinstance(num_frames, (int, np.integer)):
            raise ValueError(f"`num_frames` must be an integer. Received: num_frames={num_frames}")
        return self._as_images(self._sample(labels, num_images, {"num_frames": int(num_frames)}, **options))

    def inpaint(self, images, mask, labels=None, **options):
        """Generate the masked part of images, to fit what is around it.

        In every step the predicted x_0 is replaced by the image where it is known (DDNM; Wang et al., 2022): the known
        pixels go their way from noise to image as forward diffusion would have it, beside those that are generated.

        Args:
            images: uint8 or float array `(batch, height, width, channels)`; float images lie in `value_range`. Latents
                for a latent model, whose `mask` has a value for each latent pixel.
            mask: Bool array `(batch or 1, height, width, 1)`, `True` where to generate.
            labels: Int array `(batch,)`, or `None`.
            **options: As of `generate`.

        Returns:
            NumPy array of the shape and type of `images`, equal to them outside of the mask; where an `autoencoder`
            is set, the uint8 images that it makes of this.
        """
        images = images if hasattr(images, "shape") else np.asarray(images)
        known = self.prepare_images(images)
        mask = check_mask(mask, known.shape)
        samples = self._sample(labels, known.shape[0], {"known": known, "mask": mask}, **options)
        images = ops.convert_to_numpy(images)
        if images.dtype == "uint8":
            samples = to_uint8(samples, self.value_range)
        completed = np.where(mask, samples, images).astype(images.dtype)
        return completed if self.autoencoder is None else self._as_images(completed)

    def denoise(self, images, timestep, labels=None, num_steps=None, **options):
        """Remove the noise of noisy images.

        One step gives one guess at them all, blurred where the noise hides what was there (with much noise that of
        `predict_from="x0"` is the better one); more steps draw one of the possible images. A picture with noise of
        deviation s, in the model's range, belongs to `timestep = schedule.timesteps_at(-2 * np.log(s))` of the model's
        `schedule = corruption.noise_schedule`, and must be divided by `np.sqrt(1 + s**2)`.

        Args:
            images: Float array `(batch, height, width, channels)`, x_t as `NoiseSchedule.add_noise` makes it. Its
                values may lie anywhere.
            timestep: Number in [1, T], how much noise there is.
            labels: Int array `(batch,)`, or `None`.
            num_steps: Integer, at most `timestep`. Defaults to 1, or to what explicit timesteps of the sampler need.
            **options: As of `generate`.

        Returns:
            NumPy array as of `generate`.
        """
        T = self.corruption.num_timesteps
        if not np.ndim(timestep) == 0 or not 1 <= timestep <= T:
            raise ValueError(f"`timestep` must be a number from 1 to {T}. Received: timestep={timestep}")
        start = {"start": float(timestep)}
        samples = self._sample(labels, None, start, initial_noise=images, num_steps=num_steps, **options)
        return self._as_images(samples)

    def estimate(self, x_t, timesteps, labels=None):
        """What the network makes of noisy images: its estimates of x_0 and of the noise, nothing masked.

        Args:
            x_t: Float tensor of shape `(batch, height, width, channels)`.
            timesteps: Tensor of shape `(batch,)` or `(1,)`, values in `[0, T]`.
            labels: Int tensor of shape `(batch,)`, `num_classes` for the null label; `None` for the null label of all.

        Returns:
            Dictionary of float tensors of the shape of `x_t`, `x0` and `noise`.
        """
        return self._estimate(x_t, *[self.condition(timesteps, labels)] * 2)

    def _estimate(self, x_t, of_encoder=None, of_decoder=None):
        """Estimates from the conditions of encoder and decoder."""
        representation, tokens = self.encoder(x_t, condition=of_encoder)
        predictions = self.decoder(representation, tokens, condition=of_decoder)
        x0, noise = (unpatchify(predictions[name], self.patch_size, self.grid) for name in ("x0", "eps"))
        return {"x0": x0, "noise": noise}

    def _as_images(self, samples):
        if self.value_range is not None:
            return to_uint8(samples, self.value_range)
        if self.autoencoder is None:
            return samples
        frames = samples.shape[:-3]
        images = self.autoencoder.decode(samples.reshape(-1, *self.image_shape))
        return images.reshape(*frames, *self.generated_shape)

    def _sample(
        self,
        labels,
        num_images,
        internal=None,
        *,
        num_steps=None,
        eta=1.0,
        guidance_scale=1.0,
        sampler=None,
        initial_noise=None,
        seed=None,
        guidance=None,
        predict_from="eps",
        weights="average",
        image_indices=None,
        jit_compile="auto",
    ):
        """What all of them do: check, collect the inputs of the compiled loop, run it. Returns a float array.

        `internal` is what only some of them set: `start`, `known` and `mask`, `num_frames`.
        """
        for name, value, other in (("eta", eta, sampler), ("guidance_scale", guidance_scale, guidance)):
            if other is not None and value != 1:
                raise ValueError(
                    f"`{name}` is set by the object that was passed. Received: {name}={value} and {other!r}"
                )
        labels = self.prepare_labels(labels)
        initial_noise = prepare_noise(initial_noise, self.image_shape)
        num_images = check_generation(labels, num_images, initial_noise, image_indices)
        self._check_kind(predict_from, jit_compile)
        sampler = samplers.DDIM(eta) if sampler is None else samplers.get(sampler)
        guidance = Constant(guidance_scale) if guidance is None else guidance
        check_guidance(guidance)
        internal = internal or {}
        num_frames = internal.get("num_frames")
        plan = self._plan(sampler, num_steps, internal.get("start"), guidance)
        weak = None
        if plan["is_guided"].any():
            weak = self if guidance.weak_model is None else guidance.weak_model
            check_weak_model(self, weak, labels, guidance)
            weak._check_kind(predict_from, jit_compile)

        indices = np.arange(num_images) if image_indices is None else np.asarray(image_indices)
        inputs = {"plan": plan, "key": noise_key(seed_generator(seed)), "image_indices": indices.astype("int32")}
        inputs["labels"] = np.array([self.num_classes or 0])  # those that occur
        if labels is not None:
            inputs["labels"], inputs["label_rows"] = _distinct(ops.convert_to_numpy(labels), self.num_classes)
        optional = {"x_t": initial_noise, "known": internal.get("known"), "mask": internal.get("mask")}
        inputs.update({name: x for name, x in optional.items() if x is not None})
        inputs = keras.tree.map_structure(_as_tensor, inputs)
        for name in {"image_indices", "label_rows", "x_t", "known"} & set(inputs):
            inputs[name] = shard_batch(inputs[name])

        loop = SamplingLoop(self, weak, sampler, predict_from, plan["is_guided"].all(), num_frames, jit_compile)
        models, values = [self], self.weight_values(weights)
        if weak not in (None, self):
            models, values = [self, weak], values + weak.weight_values()
        key = (*loop.key(), num_images, len(plan["timestep"]), *sorted(inputs))
        samples = self.run_compiled(key, loop, inputs, models=models, values=values, jit_compile=jit_compile)
        return to_numpy(samples)

    def _plan(self, sampler, num_steps, start, guidance):
        """The sampler's plan, with the guidance of each call."""
        schedule = self.corruption.noise_schedule
        if num_steps is None and isinstance(sampler.timesteps, str):
            num_steps = min(PAPER_STEPS, schedule.num_timesteps) if start is None else 1
        plan = sampler.plan(num_steps, schedule, start)
        scales = guidance.scales(plan["timestep"], schedule).astype("float32")
        return {**plan, "guidance_scale": scales, "is_guided": scales != 1}

    def _check_kind(self, predict_from, jit_compile):
        noisy = [view.name for view in self.corruption.views if view.noise is not None]
        self.objective.prediction(predict_from, noisy)
        if jit_compile not in ("auto", True, False):
            raise ValueError(f"`jit_compile` must be 'auto' or a bool. Received: jit_compile={jit_compile!r}")


def _distinct(labels, num_classes):
    """The labels that occur, filled up to a number that the batch's size settles, and which of them each image has.

    The last is the null label, also where nothing is guided, so that shapes don't depend on the labels.
    """
    distinct, rows = np.unique(labels, return_inverse=True)
    table = np.full(min(len(labels), num_classes) + 1, num_classes)
    table[: len(distinct)] = distinct
    return table, rows


def _as_tensor(x):
    dtype = keras.backend.standardize_dtype(x.dtype) if hasattr(x, "dtype") else "float32"
    return ops.convert_to_tensor(x, dtype="int32" if "int" in dtype else "bool" if dtype == "bool" else "float32")
