"""UMD: one network, trained on all views of its corruption, used for features and for images."""

import math

import keras
import numpy as np
from keras import ops

from keras_umd.backend.many_steps import in_one_program
from keras_umd.backend.programs import Programs
from keras_umd.backend.sharding import gathered
from keras_umd.corruption.corruption import Corruption
from keras_umd.distribution import layout
from keras_umd.layers.block import as_block
from keras_umd.layers.patches import as_tuple, patch_grid
from keras_umd.layers.symbolic import output_spec_by_tracing
from keras_umd.models import (
    adaptation,
    averages,
    compiling,
    configuration,
    device_data,
    features,
    filling,
    fine_tuning,
    fit_inputs,
    guarded_step,
    guarding,
    inputs,
    network,
    packing,
    reconstruction,
    summary,
    training,
)
from keras_umd.models import teacher as teaching
from keras_umd.models.arguments import check_arguments, check_parts, num_decoder_heads, warn_of_narrow_tokens
from keras_umd.models.batch_checks import BatchChecks
from keras_umd.models.condition import condition_embedding
from keras_umd.models.feature_extractor import images_signature
from keras_umd.models.presets import Presets, from_preset, preset_variables, save_to_preset
from keras_umd.objectives.objective import Objective
from keras_umd.sampling import files, generation
from keras_umd.sampling.checks import check_autoencoder
from keras_umd.utils.freezing import propagate_trainable
from keras_umd.utils.seeds import seed_generator

EVALUATION_SEED = 0


@keras.saving.register_keras_serializable("keras_umd")
class UMD(keras.Model):
    """Unified Masked Diffusion: a masked autoencoder and a masked diffusion transformer in one.

    `fit` trains it, on images alone or with labels. `model(images)` and `predict` give the representation; `generate`
    gives images, `reconstruct` fills in masked patches. The `corruption` makes it UMD, MAE, MaskDiT or DiT.

    Example:

    >>> model = UMD(image_shape=(8, 8, 1), patch_size=2, hidden_dim=32, num_layers=2, num_heads=2, decoder_layers=1)
    >>> model.compile("adamw")
    >>> model.fit(images, batch_size=8, epochs=2)           # uint8, (24, 8, 8, 1)
    >>> model.encode(images).shape
    (24, 32)

    Args:
        image_shape: Tuple `(*space, channels)` with 1 to 4 space axes, for images `(height, width, channels)`,
            divisible by the patch size.
        patch_size: Integer, or tuple of integers, one for each space axis.
        hidden_dim: Integer, even and divisible by `num_heads`. Width of the encoder and, by default, the decoder. To
            generate images, at least twice the numbers of a patch.
        num_layers: Integer. Blocks of the encoder.
        num_heads: Integer.
        decoder_layers: Integer. Blocks of the decoder; 0 for a network that is one stack, which can't predict patches
            that are masked.
        num_classes: Integer, or `None` for a model without labels.
        label_dropout: Float in [0, 1). Share of the labels dropped in training, for classifier-free guidance.
        num_cls_tokens: Integer, at least 0. The paper has 1, the authors' code 4, which start and stay equal. Without
            any the representation is the mean of the patches' tokens.
        conditioning: `"adaln_zero"`, `"token"`, or `None` for a network that sees neither timestep nor label.
        corruption: `Corruption`. Defaults to the paper's UMD.
        objective: `Objective`. Defaults to the paper's for this corruption, `Objective.denoising(corruption)`.
        value_range: Pair of floats. Float images must lie in it; uint8 images are scaled to it. `None` is for latents:
            no uint8, no range, and no clipping of x_0 in sampling.
        decoder_hidden_dim: Integer. Width of the decoder, whose heads are as wide as the encoder's unless
            `decoder_heads` says otherwise. Half the width takes three tenths off a training step; on the digits the
            representation is as good and the samples are worse (`benchmarks/cheaper_settings.py`).
        decoder_heads: Integer, a divisor of the decoder's width, its number of heads. Defaults to heads as wide as the
            encoder's.
        scan_blocks: Bool. On JAX, run equal blocks as one loop over their stacked weights, so that the program has one
            block of each kind, and `remat` is sure to save memory. Weights, results and files are the same; no effect
            on the other backends.
        remat: Bool. Keep only the input of each block for the backward pass and compute the rest there once more:
            less memory for a third more work in the blocks. Weights and results are the same.
        pack: Bool or `None`. In training, run views of equal shares of the batch, such as the clean and the noisy half,
            as rows of several images: dense layers run once over a row, attention within each image. Weights, losses
            and files are the same. `None` packs where the device has less to compute so: on TPUs, whose attention
            pads each row of tokens to a multiple of 128, if the padded rows are shorter. It goes with the paper's
            block, also with `qk_norm` and SwiGLU; other settings of `block` add tokens or places.
        block: `keras_umd.layers.Block`, what the blocks and the network around them are made of, `Block.modern()` for
            example. Defaults to the paper's.
        decoder: `keras_umd.decoders.DecoderKind`, as `Cross()`, or `None` for self-attention over all patches.
        teacher: `keras_umd.Teacher`, the model's moving average that masks and targets look by, or `None`.
        seed: Integer, `keras.random.SeedGenerator` or `None`. Seeds noise, timesteps and masks of the training. Weights
            follow `keras.utils.set_random_seed`.

    Reference:
        Hansen-Estruch et al., "Unified Auto-Encoding with Masked Diffusion", 2024.
    """

    presets = Presets()  # the methods that `from_preset` knows, filled by keras_umd.methods

    def __init__(
        self,
        image_shape=(64, 64, 3),
        patch_size=4,
        *,
        hidden_dim=768,
        num_layers=12,
        num_heads=12,
        decoder_layers=4,
        num_classes=None,
        label_dropout=0.1,
        num_cls_tokens=1,
        conditioning="adaln_zero",
        corruption=None,
        objective=None,
        value_range=(-1.0, 1.0),
        decoder_hidden_dim=None,
        decoder_heads=None,
        scan_blocks=False,
        remat=False,
        pack=None,
        block=None,
        decoder=None,
        teacher=None,
        seed=None,
        **kwargs,
    ):
        corruption = Corruption.umd() if corruption is None else corruption
        check_arguments(
            image_shape=image_shape,
            hidden_dim=hidden_dim,
            num_layers=num_layers,
            num_heads=num_heads,
            decoder_layers=decoder_layers,
            num_classes=num_classes,
            label_dropout=label_dropout,
            num_cls_tokens=num_cls_tokens,
            conditioning=conditioning,
            value_range=value_range,
            corruption=corruption,
            objective=objective,
            decoder=decoder,
            teacher=teacher,
        )
        # Keras' layers take no integers of NumPy, and uint8 would overflow.
        hidden_dim, num_layers, num_heads = int(hidden_dim), int(num_layers), int(num_heads)
        decoder_layers, num_cls_tokens = int(decoder_layers), int(num_cls_tokens)
        heads_of_decoder = num_decoder_heads(decoder_heads, decoder_hidden_dim, hidden_dim, num_heads)
        grid, channels = patch_grid(image_shape, patch_size), int(image_shape[-1])
        patch_size = as_tuple(patch_size, len(grid))
        patch_dim = math.prod(patch_size) * channels
        objective = Objective.denoising(corruption) if objective is None else objective
        check_parts(grid, patch_size, channels, decoder_layers, corruption, objective, teacher)
        warn_of_narrow_tokens(patch_dim, hidden_dim, corruption)
        # Without autocast: it would round timesteps between integers. The layers cast the images that they get.
        super().__init__(**{"autocast": False, **kwargs})
        self.image_shape = tuple(map(int, image_shape))
        self.patch_size = patch_size
        self.grid = grid
        self.hidden_dim = hidden_dim
        self.num_classes = None if num_classes is None else int(num_classes)
        self.label_dropout = label_dropout
        self.conditioning = conditioning
        self.corruption = corruption
        self.objective = objective
        self.value_range = None if value_range is None else tuple(value_range)
        self.decoder_heads = None if decoder_heads is None else heads_of_decoder
        self.decoder_kind = decoder
        self.block = as_block(block)
        self.pack = packing.checked(pack, self.block, decoder)
        self.teacher = teacher
        self.seed = None if isinstance(seed, keras.random.SeedGenerator) else seed  # files keep the state
        # In this order: each weight's initial value depends on how many were made before it.
        self.condition_embedding = condition_embedding(
            hidden_dim, self.num_classes, conditioning, self.dtype_policy, self.block
        )
        for term in objective.terms:
            term.prepare(grid, patch_dim)
        options = {"scan_blocks": scan_blocks, "remat": remat, "block": self.block, "dtype": self.dtype_policy}
        self.encoder = network.build_encoder(self, num_layers, num_heads, num_cls_tokens, **options)
        self.decoder = network.build_decoder(self, decoder_layers, heads_of_decoder, decoder_hidden_dim, **options)
        self._prepare_training(seed)

    def _prepare_training(self, seed):
        self.seed_generator = seed_generator(seed)
        self.evaluation_seed_generator = seed_generator(EVALUATION_SEED)
        self.averages = []
        self.teacher_averages = []  # one, where there is a teacher
        teaching.follow(self)
        self.loss_part_trackers = [keras.metrics.Mean(name=name, dtype="float32") for name in self.objective.loss_names]
        self.batch_checks = BatchChecks()
        self.guards = []  # one `GuardState`, or none
        self._device_layers = []  # that of the data set which `fit` or `evaluate` is reading, if it has one
        self._traced_device_layers = {}
        self._autoencoder = None
        self.programs = Programs()
        self.built = True
        propagate_trainable(self)

    from_preset = classmethod(from_preset)
    save_to_preset = save_to_preset
    preset_variables = preset_variables
    layout_map = staticmethod(layout.layout_map)

    @property
    def num_patches(self):
        """The number of patches in an image."""
        return math.prod(self.grid)

    @property
    def is_latent(self):
        """Whether it works on latents: floats of any range, neither scaled nor clipped."""
        return self.value_range is None

    # The network

    def network_layers(self):
        """The layers whose weights are averaged and used for features and images; terms of the objective are not."""
        return [layer for layer in (self.condition_embedding, self.encoder, self.decoder) if layer is not None]

    @property
    def network_weights(self):
        return [variable for layer in self.network_layers() for variable in layer.weights]

    def call(self, inputs):
        """Representations of images `(batch, *image_shape)`, as `encode`; of what `make_views` gives, its outputs."""
        if isinstance(inputs, dict):
            # On JAX, Keras calls this outside of a call context, and each view would clear the losses that layers have
            # added for the one before.
            self._get_call_context()
            try:
                return packing.predict_views(self, inputs["views"])
            finally:
                self._maybe_reset_call_context()
        return self.encoder(self.prepare_images(inputs), condition=self.condition(ops.zeros((1,), "int32")))[0]

    compute_output_spec = output_spec_by_tracing

    def compute_output_shape(self, inputs_shape):
        return (inputs_shape[0], self.hidden_dim)

    def condition(self, timesteps, labels=None, drop=None):
        """The condition of the network, as `ConditionEmbedding` makes it; `None` for a model without."""
        embedding = self.condition_embedding
        return None if embedding is None else embedding(timesteps, labels=labels, drop=drop)

    predict_view = network.predict_view
    prepare_images = inputs.prepare_images
    prepare_labels = inputs.prepare_labels
    weight_values = averages.weight_values

    def prediction(self, name=None):
        """The reading of the network that gives x_0 and noise, as of `Objective.prediction`."""
        return self.objective.prediction(name, [view.name for view in self.corruption.views if view.is_noisy])

    # Compiling

    def compile(self, optimizer="adamw", **kwargs):
        """Configure the training. The objective is the model's own, so `loss` and `metrics` are not taken.

        An optimizer with an `ema_decay` (see `keras_umd.recipes`) makes the model keep moving averages of its weights,
        before those that it keeps already.
        Biases, class tokens and the mask token are excluded from the optimizer's weight decay.

        Args:
            optimizer: Optimizer or its name. `keras_umd.recipes` has the paper's.
            **kwargs: As of `keras.Model.compile`: `jit_compile`, `steps_per_execution`, `run_eagerly`,
                `auto_scale_loss`.
        """
        compiling.check_compile_arguments(optimizer, kwargs)
        self.guards.clear()
        super().compile(optimizer=optimizer, **kwargs)
        self._jit_compile_argument = kwargs.get("jit_compile", "auto")
        decays = compiling.settle_optimizer(self.optimizer, self.trainable_variables)
        teaching.follow(self)
        self.track_average([*decays, *(kept.decay for kept in self.averages if kept.decay not in decays)])

    def get_compile_config(self):
        config = super().get_compile_config()
        if config:
            # Keras saves what "auto" meant on this backend; the file may be loaded on another.
            config["jit_compile"] = self._jit_compile_argument
        return config

    def compile_from_config(self, config):
        decays = [average.decay for average in self.averages]
        self.compile(**compiling.portable_compile_config(config))
        self.track_average(decays)  # in the order of the file
        self.optimizer.build(self.trainable_variables)

    track_average = averages.track_average
    guard_steps = guarding.guard_steps

    # Training

    def fit(self, *args, **kwargs):
        """Train on images, or on images and labels; see `keras.Model.fit`.

        Images are uint8 `(batch, *image_shape)`, or float in the model's `value_range`. Arrays are checked as a whole,
        and the first batch of everything else. (A shuffle buffer of tf.data is filled once more for that; pipelines of
        uint8 images without labels need no check and start at once.)

        Raises:
            ValueError: for images or labels that don't fit the model, and for sample or class weights.
        """
        return fit_inputs.fit(self, super().fit, args, kwargs)

    def evaluate(self, *args, **kwargs):
        """The losses on a data set, with the same noise, timesteps and masks each time; see `keras.Model.evaluate`."""
        self.evaluation_seed_generator.state.assign([EVALUATION_SEED, 0])
        return fit_inputs.evaluate(self, super().evaluate, args, kwargs)

    def predict(self, x, *args, **kwargs):
        """The representations of all images in `x`, with the raw weights; see `keras.Model.predict`."""
        return fit_inputs.predict(self, super().predict, x, args, kwargs)

    def make_train_function(self, force=False):
        """Keras' own, with the optimizer's variables made first: for these, TensorFlow would trace the step twice.

        On JAX with data on the device, the steps of an execution are one program.
        """
        if not self.optimizer.built:
            self.optimizer.build(self.trainable_variables)
        is_new = force or self.train_function is None
        super().make_train_function(force)
        if is_new:
            weights = guarded_step.kept_weights(self)
            self.train_function = in_one_program(
                self, self.train_step, self.train_function, device_data.is_on_device, weights
            )
        if is_new and self.guards:
            self.train_function = guarded_step.keeping_the_report(self.train_function, self.guards[0])

    def make_test_function(self, force=False):
        """Keras' own; on JAX with data on the device, its steps as one program."""
        is_new = force or self.test_function is None
        super().make_test_function(force)
        if is_new:
            self.test_function = in_one_program(self, self.test_step, self.test_function, device_data.is_on_device)

    def train_step(self, *args):
        """One step of `fit`, see `keras_umd.models.training`."""
        return training.train_step(self, super().train_step, args)

    def test_step(self, *args):
        """One step of `evaluate`, see `keras_umd.models.training`."""
        return training.test_step(self, super().test_step, args)

    def compute_loss_and_updates(self, trainable_variables, *args, **kwargs):
        """The function that JAX differentiates: Keras' own, after an all-gather of sharded weights."""
        return super().compute_loss_and_updates(
            gathered(trainable_variables, self.trainable_variables), *args, **kwargs
        )

    compute_loss = training.compute_loss
    make_views = training.make_views
    loss_of = training.loss_of

    def step_inputs(self, images, labels, draws):
        """As `make_views`, for a step that is run again: of images and labels that no check refuses."""
        return self.make_views(images, labels, draws=draws, must_be_finite=False)

    # Features, reconstructions, fine-tuning

    encode = features.encode
    feature_extractor = features.feature_extractor
    reconstruct = reconstruction.reconstruct
    impute = filling.impute
    anomaly_map = filling.anomaly_map
    with_classes = fine_tuning.with_classes

    # Sampling

    @property
    def autoencoder(self):
        """The decoder of the latents that `generate`, `trajectory`, `inpaint` and `denoise` return, or `None`.

        An object from `keras_umd.latents`, for a model with `value_range=None`. It isn't saved with the model.
        """
        return self._autoencoder

    @autoencoder.setter
    def autoencoder(self, autoencoder):
        check_autoencoder(autoencoder, self.image_shape, self.value_range)
        self._autoencoder = autoencoder

    @property
    def generated_shape(self):
        """The shape of one image as `generate` returns it, `(*space, channels)`."""
        return self.image_shape if self.autoencoder is None else self.autoencoder.image_shape(self.image_shape)

    generate = generation.generate
    trajectory = generation.trajectory
    inpaint = generation.inpaint
    denoise = generation.denoise
    estimate = generation.estimate
    generate_to = files.generate_to

    def summary(self, **kwargs):
        """Print what the model is and learns, and Keras' table of its parts; arguments as of `keras.Model.summary`.

        Example:

        >>> model.summary()

        Args:
            **kwargs: `print_fn`, `expand_nested`, `show_trainable` and the others of Keras.
        """
        summary.summary(self, super().summary, kwargs)

    # Adaptations, saving

    enable_lora = adaptation.enable_lora
    merge_lora = adaptation.merge_lora

    def quantize(self, mode=None, config=None, filters=None, weights="average"):
        """Quantise the kernels of the network, for features and generation with less memory.

        What is quantised isn't trained any more: averages and optimizer are dropped. Keep the model of before in a file
        to go on training it, to add classes, and to try other settings.

        Example:

        >>> model.quantize("int8")
        >>> model.save("int8.keras")

        Args:
            mode: `"int8"` or `"int4"`.
            config: `keras.quantizers.QuantizationConfig` of one of these modes, instead of `mode`, or `None`.
            filters: Regular expression, or a list of them, for the names of the `Dense` layers to quantise; or a
                callable that gets a layer and returns a bool. `None` is for all of the network.
            weights: The weights to quantise: `"average"`, `"raw"` or a decay, as of `weight_values`.

        Raises:
            ValueError: for another mode, a model that is quantised already, and filters that choose nothing.
        """
        adaptation.quantize(self, super().quantize, mode, config, filters, weights)

    def export(self, filepath, format="tf_saved_model", verbose=None, input_signature=None, **kwargs):
        """The program of `predict`, as of `FeatureExtractor.export`."""
        return super().export(filepath, format, verbose, input_signature or images_signature(self), **kwargs)

    def get_config(self):
        return {**super().get_config(), **configuration.settings_of(self)}

    @classmethod
    def from_config(cls, config):
        return configuration.model_from(cls, config)

    def save_own_variables(self, store):
        super().save_own_variables(store)
        # Keras doesn't save seed generators; without this a resumed run would repeat its noise.
        store["seed_state"] = ops.convert_to_numpy(self.seed_generator.state).astype("int64")

    def load_own_variables(self, store):
        store = {key: store[key] for key in store.keys()}  # noqa: SIM118 (Keras' store can't be iterated)
        seed_state = self.seed_generator.state
        seed_state.assign(np.asarray(store.pop("seed_state")).astype(seed_state.dtype))
        super().load_own_variables(store)
