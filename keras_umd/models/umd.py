"""UMD: one network, trained on both corruptions, used for features and for images."""

import keras
import numpy as np
from keras import ops

from keras_umd.backend.processes import to_numpy
from keras_umd.backend.programs import Programs
from keras_umd.corruption.corruption import Corruption
from keras_umd.distribution.layout import layout_map
from keras_umd.layers.masking import random_split, restore
from keras_umd.layers.patches import as_pair, patch_grid, unpatchify
from keras_umd.methods.presets import preset_config
from keras_umd.models.arguments import check_arguments, num_decoder_heads
from keras_umd.models.condition import ConditionEmbedding
from keras_umd.models.decoders.decoder import Decoder
from keras_umd.models.denoising_model import DenoisingModel
from keras_umd.models.encoder import Encoder
from keras_umd.models.representation import Representation
from keras_umd.objectives.objective import split_prediction
from keras_umd.sampling import files, generation
from keras_umd.sampling.checks import check_autoencoder
from keras_umd.sampling.settings import takes_settings
from keras_umd.utils.images import to_uint8
from keras_umd.utils.seeds import seed_generator


@keras.saving.register_keras_serializable("keras_umd")
class UMD(Representation, DenoisingModel):
    """Unified Masked Diffusion: a masked autoencoder and a masked diffusion transformer in one.

    `fit` trains it, on images alone or with labels. `model(images)` and `predict` give the representation; `generate`
    gives images, `reconstruct` fills in masked patches. The `corruption` makes it UMD, MAE, MaskDiT or DiT.

    Example:

    >>> model = UMD(image_shape=(8, 8, 1), patch_size=2, hidden_dim=64, num_layers=4, num_heads=4, decoder_layers=2)
    >>> model.compile("adamw")
    >>> model.fit(images, epochs=10)                        # uint8, (batch, 8, 8, 1)
    >>> model.encode(images).shape
    (batch, 64)

    Args:
        image_shape: Tuple `(height, width, channels)`, divisible by the patch size.
        patch_size: Integer or pair `(patch_height, patch_width)`.
        hidden_dim: Integer, even and divisible by `num_heads`. Width of the encoder and, by default, the decoder.
        num_layers: Integer. Blocks of the encoder.
        num_heads: Integer.
        decoder_layers: Integer. Blocks of the decoder.
        num_classes: Integer, or `None` for a model without labels.
        label_dropout: Float in [0, 1). Share of the labels dropped in training, for classifier-free guidance.
        num_cls_tokens: Integer, at least 1. The paper has 1, the authors' code 4, which start and stay equal.
        conditioning: `"adaln_zero"`, `"token"`, or `None` for a network that sees neither timestep nor label.
        corruption: `Corruption`. Defaults to the paper's UMD.
        value_range: Pair of floats. Float images must lie in it; uint8 images are scaled to it. `None` is for latents:
            no uint8, no range, and no clipping of x_0 in sampling.
        decoder_hidden_dim: Integer, a multiple of `hidden_dim // num_heads`. Width of the decoder, whose heads are as
            wide as the encoder's. Half the width takes three tenths off a training step; on the digits the
            representation is as good and the samples are worse (`benchmarks/cheaper_settings.py`).
        scan_blocks: Bool. On JAX, run equal blocks as one loop over their stacked weights, so that the program has one
            block of each kind, and `remat` is sure to save memory. Weights, results and files are the same; no effect
            on the other backends.
        remat: Bool. Keep only the input of each block for the backward pass and compute the rest there once more:
            less memory for a third more work in the blocks. Weights and results are the same.
        seed: Integer or `None`. Seeds noise, timesteps and masks of the training. Weights follow
            `keras.utils.set_random_seed`.

    Reference:
        Hansen-Estruch et al., "Unified Auto-Encoding with Masked Diffusion", 2024.
    """

    def __init__(
        self,
        image_shape=(64, 64, 3),
        patch_size=4,
        hidden_dim=768,
        num_layers=12,
        num_heads=12,
        decoder_layers=4,
        num_classes=None,
        label_dropout=0.1,
        num_cls_tokens=1,
        conditioning="adaln_zero",
        corruption=None,
        value_range=(-1.0, 1.0),
        decoder_hidden_dim=None,
        scan_blocks=False,
        remat=False,
        seed=None,
        **kwargs,
    ):
        corruption = Corruption.umd() if corruption is None else corruption
        sizes = {
            "hidden_dim": hidden_dim,
            "num_layers": num_layers,
            "num_heads": num_heads,
            "decoder_layers": decoder_layers,
            "num_classes": num_classes,
            "num_cls_tokens": num_cls_tokens,
        }
        check_arguments(image_shape, sizes, label_dropout, conditioning, corruption, value_range)
        decoder_heads = num_decoder_heads(decoder_hidden_dim, hidden_dim, num_heads)
        grid = patch_grid(image_shape, patch_size)
        corruption.check_num_patches(grid[0] * grid[1])
        super().__init__(
            corruption=corruption,
            image_shape=tuple(image_shape),
            patch_size=as_pair(patch_size),
            num_patches=grid[0] * grid[1],
            num_classes=num_classes,
            label_dropout=label_dropout,
            value_range=None if value_range is None else tuple(value_range),
            seed=seed,
            **kwargs,
        )
        self.grid = grid
        self.hidden_dim = hidden_dim
        self.conditioning = conditioning
        how = {"scan_blocks": scan_blocks, "remat": remat, "dtype": self.dtype_policy}
        self.condition_embedding = None
        if conditioning is not None:
            self.condition_embedding = ConditionEmbedding(
                hidden_dim, num_classes, conditioning, dtype=self.dtype_policy, name="condition_embedding"
            )
            self.condition_embedding.build((None,))
        self.encoder = Encoder(
            self.patch_size,
            hidden_dim,
            num_layers,
            num_heads,
            num_cls_tokens,
            conditioning,
            **how,
            name="encoder",
        )
        self.encoder.build((None, *self.image_shape))
        self.decoder = Decoder(
            self.patch_size,
            grid,
            image_shape[-1],
            decoder_layers,
            decoder_heads,
            conditioning,
            **how,
            hidden_dim=decoder_hidden_dim,
            name="decoder",
        )
        self.decoder.build((None, hidden_dim), (None, None, hidden_dim))
        # Where nothing is ever masked, the mask token gets no gradient; some backends warn of that.
        self.decoder.mask_token.trainable = any(corruption.part_mask_ratios.values())
        self._autoencoder = None
        self.programs = Programs()
        self.finish_construction()

    @classmethod
    def from_preset(cls, preset, **overrides):
        """A model with fresh weights and a named configuration; see `keras_umd.methods.presets.preset_config`.

        Args:
            preset: String, `{umd,mae,maskdit,dit}_{tiny,small,base,large}_patch{p}_{size}` for pixels, for example
                `"umd_base_patch4_64"`; `..._patch{p}_latent{size}` for latents.
            **overrides: Constructor arguments that replace those of the preset.
        """
        return cls(**{**preset_config(preset), **overrides})

    @staticmethod
    def layout_map(mesh):
        """How several devices share the weights; see `keras_umd.distribution.layout.layout_map`.

        Args:
            mesh: `keras.distribution.DeviceMesh` with one axis, over which batch and weights are spread (FSDP), or with
                two, the batch over the first and the weights over the second (tensor parallelism).

        Returns:
            `keras.distribution.LayoutMap`, for `keras_umd.distribution.ModelParallel` or Keras' own. Set the
            distribution before the model is made.
        """
        return layout_map(mesh)

    # The network

    def network_layers(self):
        return [layer for layer in (self.condition_embedding, self.encoder, self.decoder) if layer is not None]

    def call(self, inputs):
        """Representations of images `(batch, height, width, channels)`, as `encode`; predictions for views, a dict."""
        if not isinstance(inputs, dict):
            return self._representation(self.prepare_images(inputs), ops.zeros((1,), "int32"))
        views = {part: inputs[part] for part in ("clean", "noisy") if part in inputs}
        return {
            part: self._predict_view(view, targets=tuple(name for name in ("x0", "noise") if name in view))
            for part, view in views.items()
        }

    def _condition(self, timesteps, labels=None, drop=None):
        if self.condition_embedding is None:
            return None
        return self.condition_embedding(timesteps, labels=labels, drop=drop)

    def _predict_view(self, view, targets=None):
        condition = self._condition(view["timesteps"], view.get("labels"), view.get("label_drop"))
        visible, masked = view.get("visible"), view.get("masked")
        representation, tokens = self.encoder(view["images"], condition=condition, visible=visible)
        return self.decoder(
            representation, tokens, condition=condition, visible=visible, masked=masked, targets=targets
        )

    def _representation(self, images, timesteps, labels=None):
        return self.encoder(images, condition=self._condition(timesteps, labels))[0]

    def weight_values(self, weights="average"):
        """The values of the network's weights, averaged or not.

        Args:
            weights: `"average"`, the first average that a training has updated, or the raw weights of a model without;
                `"raw"`; or a float, the decay of one of the model's averages.
        """
        decays = [average.decay for average in self.averages]
        if weights == "average":
            weights = next((average.decay for average in self.averages if average.is_updated()), "raw")
        if weights == "raw":
            return [variable.value for variable in self.network_weights]
        if weights not in decays:
            raise ValueError(
                "`weights` must be 'average', 'raw' or the decay of one of the model's averages, which `track_average` "
                f"starts before training: {decays}. Received: weights={weights!r}"
            )
        return self.averages[decays.index(weights)].values_for(self.network_weights)

    def _run(self, key, function, *tensors, values=None):
        """`function(model, *tensors)`, which reads the weights of this model, compiled once for each `key`."""
        return self.programs.run(key, function, [self], *tensors, values=values)

    # Images

    def reconstruct(self, images, mask_ratio=0.75, weights="average", seed=None):
        """Mask clean images and fill the masked patches in again, as the masked autoencoder does.

        Args:
            images: uint8 or float array `(batch, height, width, channels)`; float images lie in `value_range`.
            mask_ratio: Float in [0, 1). Share of the patches to mask.
            weights: As of `weight_values`.
            seed: Integer, `keras.random.SeedGenerator` or `None`, for the mask.

        Returns:
            Dictionary of NumPy arrays: `masked`, the images with masked patches in the middle of the value range;
            `reconstruction`, with the predicted patches in their place and the visible ones as they were, both of the
            type of `images`; `mask` `(batch, height, width, 1)`, bool, `True` where masked.
        """
        images = images if hasattr(images, "shape") else np.asarray(images)
        x0 = self.prepare_images(images)
        mask_noise = keras.random.uniform((x0.shape[0], self.num_patches), dtype="float32", seed=seed_generator(seed))

        def fill_in(model, x0, mask_noise):
            visible, masked = random_split(mask_noise, mask_ratio)
            view = {"images": x0, "timesteps": ops.zeros((1,), "int32"), "visible": visible, "masked": masked}
            prediction, _ = split_prediction(model._predict_view(view), model.patch_size)
            hidden = ops.concatenate([ops.zeros_like(visible), ops.ones_like(masked)], axis=1)[:, :, None]
            mask = restore(ops.tile(hidden, (1, 1, model.patch_size[0] * model.patch_size[1])), visible, masked)
            return (
                unpatchify(restore(prediction, visible, masked), model.patch_size, model.grid),
                unpatchify(mask, model.patch_size, model.grid),
            )

        values = self.weight_values(weights)
        prediction, mask = self._run(("reconstruct", mask_ratio), fill_in, x0, mask_noise, values=values)
        images, prediction = ops.convert_to_numpy(images), to_numpy(prediction)
        mask = to_numpy(mask).astype(bool)
        grey = 0.0
        if images.dtype == "uint8":
            prediction, grey = to_uint8(prediction, self.value_range), 128
        elif self.value_range is not None:
            prediction, grey = np.clip(prediction, *self.value_range), np.mean(self.value_range)
        return {
            "masked": np.where(mask, grey, images).astype(images.dtype),
            "reconstruction": np.where(mask, prediction, images).astype(images.dtype),
            "mask": mask,
        }

    # Sampling

    @property
    def is_latent(self):
        """Whether the model works on latents, `value_range=None`, and not on images."""
        return self.value_range is None

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
        """The shape of one image as `generate` returns it, `(height, width, channels)`."""
        return self.image_shape if self.autoencoder is None else self.autoencoder.image_shape(self.image_shape)

    @takes_settings
    def generate(self, labels=None, num_images=None, **options):
        """Generate images from noise.

        The image with index k of a seed is the same, up to rounding, whatever the batch, the devices and the backend.

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
            predict_from: `"eps"` or `"x0"`, the head to read, or `"both"`: by the v that they give together (Salimans
                and Ho, 2022), mostly x_0 where there is much noise and eps where there is little. The paper's ablation
                finds x_0 better after fine-tuning; `benchmarks/sampling_quality.py` finds eps nearer to the data, x_0
                nearer to the labels. In pre-training with masks, x_0 of visible patches isn't trained. Where a schedule
                leaves no signal, eps can't be read.
            weights: `"average"`, `"raw"` or a decay, as of `weight_values`.
            image_indices: Int array `(num_images,)`, the places of the images in the seed's sequence. Defaults to 0, 1,
                2 and so on.
            batch_size: Integer, images at a time. Defaults to all. `generate_to` keeps none of them in memory.
            verbose: Bool, or `"auto"` for Keras' own setting. Whether to show a bar, which moves with each batch.
            jit_compile: `"auto"`, or `True` for XLA on TensorFlow and `torch.compile` on PyTorch. JAX always compiles.

        Returns:
            NumPy array `(num_images, height, width, channels)`: uint8 images, or float32 latents where `value_range` is
            `None` and no `autoencoder` decodes them.
        """
        return generation.generate(self, labels, num_images, **options)

    @takes_settings
    def trajectory(self, labels=None, num_images=None, num_frames=8, **options):
        """The states of `generate` on its way from noise to images, for `keras_umd.plots.strips`.

        Args:
            labels, num_images: As of `generate`.
            num_frames: Integer from 2 to the number of steps + 1. The first frame is noise, the last the image.
            **options: As of `generate`.

        Returns:
            NumPy array `(num_frames, num_images, height, width, channels)`, as of `generate`.
        """
        return generation.trajectory(self, labels, num_images, num_frames, **options)

    @takes_settings
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
        return generation.inpaint(self, images, mask, labels, **options)

    @takes_settings
    def denoise(self, images, timestep, labels=None, **options):
        """Remove the noise of noisy images.

        One step gives one guess at them all, blurred where the noise hides what was there (with much noise that of
        `predict_from="x0"` is the better one); more steps draw one of the possible images. A picture with noise of
        deviation s, in the model's range, belongs to `timestep = schedule.timesteps_at(-2 * np.log(s))` of the model's
        `schedule = corruption.noise_schedule`, and must be divided by `np.sqrt(1 + s**2)`.

        Args:
            images: Float array `(batch, height, width, channels)`, x_t as `NoiseSchedule.add_noise` makes it. Its
                values may lie anywhere. They take the place of `initial_noise`.
            timestep: Number in [1, T], how much noise there is.
            labels: Int array `(batch,)`, or `None`.
            num_steps: Integer, at most `timestep`. Defaults to 1, or to what explicit timesteps of the sampler need.
            **options: As of `generate`.

        Returns:
            NumPy array as of `generate`.
        """
        return generation.denoise(self, images, timestep, labels, **options)

    def estimate(self, x_t, timesteps, labels=None):
        """What the network makes of noisy images: its estimates of x_0 and of the noise, nothing masked.

        Args:
            x_t: Float tensor of shape `(batch, height, width, channels)`.
            timesteps: Tensor of shape `(batch,)` or `(1,)`, values in `[0, T]`.
            labels: Int tensor of shape `(batch,)`, `num_classes` for the null label; `None` for the null label of all.

        Returns:
            Dictionary of float tensors of the shape of `x_t`, `x0` and `eps`.
        """
        return generation.estimate(self, x_t, timesteps, labels)

    def generate_to(self, directory, **options):
        """Generate images into a directory, and go on where an earlier call was stopped.

        Args:
            directory, **options: As of `keras_umd.generate_to`.

        Returns:
            String, the path of the `.npz` file, or the directory with the PNG files.
        """
        return files.generate_to(self, directory, **options)

    # Fine-tuning

    def with_classes(self, num_classes, label_dropout=None, corruption=None, freeze=()):
        """A model with the same weights and a fresh label embedding, to fine-tune for class-conditional generation.

        This model stays as it is; the new one starts without optimizer and without averages, and shares its
        `autoencoder`.

        Args:
            num_classes: Integer, or `None` to fine-tune for generation without labels.
            label_dropout: Float in [0, 1). Share of the labels dropped in training. Defaults to this model's.
            corruption: `Corruption`. Defaults to the paper's fine-tuning: this model's, with at most 5% of the batch
                clean and no patch of a noisy image masked.
            freeze: Names of parts that training leaves as they are, `"encoder"`, `"decoder"` or both. Any layer's
                `trainable` can be set afterwards too; files remember it.

        Returns:
            `UMD`.
        """
        if not set(freeze) <= {"encoder", "decoder"}:
            raise ValueError(f"`freeze` takes 'encoder' and 'decoder'. Received: freeze={freeze}")
        if corruption is None:
            own = self.corruption.get_config()
            clean_ratio = min(own["clean_ratio"], 0.05)
            corruption = Corruption(**{**own, "clean_ratio": clean_ratio, "noisy_mask_ratio": 0.0})
        config = {**self._constructor_arguments(), "corruption": corruption}
        config["num_classes"] = num_classes
        if label_dropout is not None:
            config["label_dropout"] = label_dropout
        model = type(self)(**config, dtype=self.dtype_policy)
        for name in ("encoder", "decoder"):
            getattr(model, name).set_weights(getattr(self, name).get_weights())
            if name in freeze:
                getattr(model, name).trainable = False
        if self.condition_embedding is not None:
            model.condition_embedding.timestep_embedding.set_weights(
                self.condition_embedding.timestep_embedding.get_weights()
            )
        model.autoencoder = self.autoencoder
        return model

    # Saving

    def _constructor_arguments(self):
        return {
            "image_shape": self.image_shape,
            "patch_size": self.patch_size,
            "hidden_dim": self.hidden_dim,
            "num_layers": self.encoder.num_layers,
            "num_heads": self.encoder.num_heads,
            "decoder_layers": self.decoder.num_layers,
            "num_classes": self.num_classes,
            "label_dropout": self.label_dropout,
            "num_cls_tokens": self.encoder.num_cls_tokens,
            "conditioning": self.conditioning,
            "corruption": self.corruption,
            "value_range": self.value_range,
            "decoder_hidden_dim": self.decoder.hidden_dim,
            "scan_blocks": self.encoder.scan_blocks,
            "remat": self.encoder.remat,
            "seed": self.seed,
        }

    def get_config(self):
        config = {**super().get_config(), **self._constructor_arguments()}
        config["corruption"] = keras.saving.serialize_keras_object(self.corruption)
        config["ema_decays"] = [average.decay for average in self.averages]
        config["frozen"] = [layer.path for layer in self._layers_of_network() if not layer.trainable]
        return config

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        ema_decays, frozen = config.pop("ema_decays", []), config.pop("frozen", [])
        config["corruption"] = keras.saving.deserialize_keras_object(config["corruption"])
        model = cls(**config)
        model.track_average(ema_decays)
        for layer in model._layers_of_network():
            if layer.path in frozen:
                layer.trainable = False
        return model

    def _layers_of_network(self):
        return [layer for part in self.network_layers() for layer in part._flatten_layers()]
