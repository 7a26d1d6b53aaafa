"""The training step: images are corrupted inside it, and everything else is Keras' own."""

import contextlib
import inspect
import types
import weakref

import keras
import numpy as np
from keras import ops

from keras_umd.backend import control_dependencies, ensure_shape, scale_for_replicas
from keras_umd.backend.sharding import gathered
from keras_umd.models.averages import WeightAverage
from keras_umd.objectives.objective import image_losses, total_loss
from keras_umd.utils.checks import check_labels
from keras_umd.utils.images import check_images, scale_images
from keras_umd.utils.seeds import seed_generator

UNDECAYED_NAMES = ("bias", "beta", "cls_tokens", "mask_token")
EVALUATION_SEED = 0


def undecayed_variables(variables):
    """Those that weight decay leaves alone: every bias (LayerNorm's, `beta`, too), class tokens and the mask token."""
    return [variable for variable in variables if variable.name in UNDECAYED_NAMES]


class DenoisingModel(keras.Model):
    """A model that `fit` trains on corrupted images: the base of `UMD`, without its network.

    `train_step` turns images into views, `call(views)` predicts, `compute_loss` compares (method: section 4). So all of
    Keras' own training keeps working: callbacks, jit, mixed precision, gradient accumulation, distribution.

    Subclasses call `super().__init__`, build their network, then `finish_construction`.

    Args:
        corruption: `Corruption`.
        image_shape: Tuple `(height, width, channels)`.
        patch_size: Pair `(patch_height, patch_width)`.
        num_patches: Integer.
        num_classes: Integer or `None`.
        label_dropout: Float in [0, 1).
        value_range: Pair of floats or `None`.
        seed: Integer or `None`, for the noise, timesteps and masks of the training.
    """

    def __init__(
        self, corruption, image_shape, patch_size, num_patches, num_classes, label_dropout, value_range, seed, **kwargs
    ):
        super().__init__(**kwargs)
        self.corruption = corruption
        self.image_shape = image_shape
        self.patch_size = patch_size
        self.num_patches = num_patches
        self.num_classes = num_classes
        self.label_dropout = label_dropout
        self.value_range = value_range
        self.seed = seed
        self.seed_generator = seed_generator(seed)
        self.evaluation_seed_generator = seed_generator(EVALUATION_SEED)
        self.averages = []
        self._device_layers = []  # that of the data set which `fit` or `evaluate` is reading, if it has one
        self._traced_device_layers = {}

    def finish_construction(self):
        """Called when all weights exist."""
        self.loss_part_trackers = [keras.metrics.Mean(name=name) for name in self.corruption.loss_names]
        self.built = True
        if not self.trainable:  # loaded as frozen: the layers made since then follow
            self.trainable = True  # TensorFlow skips an assignment that changes nothing
            self.trainable = False

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
        for name in ("loss", "loss_weights", "metrics", "weighted_metrics"):
            if kwargs.get(name) is not None:
                raise ValueError(
                    f"The model brings its own objective and metrics; leave out `{name}`. "
                    f"Received: {name}={kwargs[name]}"
                )
        super().compile(optimizer=optimizer, **kwargs)
        self._jit_compile_argument = kwargs.get("jit_compile", "auto")
        innermost = self.optimizer
        while hasattr(innermost, "inner_optimizer"):  # of a LossScaleOptimizer
            innermost = innermost.inner_optimizer
        if not innermost.built:
            excluded = [v for v in self.trainable_variables if not innermost._use_weight_decay(v)]  # by the user
            excluded += undecayed_variables(self.trainable_variables)
            innermost.exclude_from_weight_decay(var_list=excluded)
        ema_decay = getattr(innermost, "ema_decay", None)
        if ema_decay is not None:
            decays = [float(decay) for decay in np.atleast_1d(ema_decay)]
            self.track_average([*decays, *(kept.decay for kept in self.averages if kept.decay not in decays)])

    def get_compile_config(self):
        config = super().get_compile_config()
        if config:
            # Keras saves what "auto" meant on this backend; the file may be loaded on another.
            config["jit_compile"] = self._jit_compile_argument
        return config

    def compile_from_config(self, config):
        config = keras.saving.deserialize_keras_object(config)
        if keras.backend.backend() == "torch":
            config["steps_per_execution"] = 1  # more is refused there, and changes no result
        decays = [average.decay for average in self.averages]
        self.compile(**config)
        self.track_average(decays)  # in the order of the file
        self.optimizer.build(self.trainable_variables)

    def track_average(self, decays):
        """Keep exponential moving averages of the weights from now on, updated after every training step.

        They are saved with the model and used by `generate`. An average that is asked for again goes on; one that is
        not is dropped.

        Args:
            decays: Float in [0, 1) or a list of them, one average each.
        """
        decays = [float(decay) for decay in np.atleast_1d(decays)]
        if decays == [average.decay for average in self.averages]:
            return
        self.train_function = self.test_function = self.predict_function = None  # compiled without them
        kept = {average.decay: average for average in self.averages}
        self.averages.clear()
        self.averages.extend(kept.get(decay) or WeightAverage(decay, self.network_weights) for decay in decays)

    def network_layers(self):
        """The layers whose weights are trained and averaged."""
        raise NotImplementedError

    @property
    def network_weights(self):
        return [variable for layer in self.network_layers() for variable in layer.weights]

    # Steps

    def make_train_function(self, force=False):
        """Keras' own, with the optimizer's variables made first: for these, TensorFlow would trace the step twice."""
        if not self.optimizer.built:
            self.optimizer.build(self.trainable_variables)
        return super().make_train_function(force)

    def train_step(self, *args):
        """One step of `fit`. On JAX it takes and returns the state too, as Keras' own does."""
        if keras.backend.backend() != "jax":
            with control_dependencies(args[0]):
                logs = super().train_step((self._views(args[0], self.seed_generator, self.label_dropout),))
                self._update_averages()
            return logs
        (trainable, non_trainable, optimizer, metrics), data = args
        views, non_trainable = _stateless(
            lambda: self._views(data, self.seed_generator, self.label_dropout),
            self.non_trainable_variables,
            non_trainable,
        )
        logs, state = super().train_step((trainable, non_trainable, optimizer, metrics), (views,))
        trainable, non_trainable, optimizer, metrics = state
        variables = self.trainable_variables + self.non_trainable_variables
        _, values = _stateless(self._update_averages, variables, [*trainable, *non_trainable])
        return logs, (trainable, values[len(trainable) :], optimizer, metrics)

    def test_step(self, *args):
        """One step of `evaluate`: the losses of training, with no label dropped."""
        if keras.backend.backend() != "jax":
            with control_dependencies(args[0]):
                return super().test_step((self._views(args[0], self.evaluation_seed_generator),))
        (trainable, non_trainable, metrics), data = args
        views, non_trainable = _stateless(
            lambda: self._views(data, self.evaluation_seed_generator), self.non_trainable_variables, non_trainable
        )
        return super().test_step((trainable, non_trainable, metrics), (views,))

    def compute_loss_and_updates(self, trainable_variables, *args, **kwargs):
        """What JAX differentiates: as Keras' own, with the weights put together that devices share."""
        weights = gathered(trainable_variables, self.trainable_variables)
        return super().compute_loss_and_updates(weights, *args, **kwargs)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        losses = image_losses(x, y_pred, self.patch_size)
        for tracker in self.loss_part_trackers:
            if tracker.name in losses:  # a batch of one image has only one part
                tracker.update_state(ops.stop_gradient(losses[tracker.name]))
        return scale_for_replicas(total_loss(losses, ops.shape(x["batch_timesteps"])[0]))

    def _views(self, data, seed, label_dropout=0.0):
        images, labels, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        _refuse_weights(sample_weight=sample_weight)
        if isinstance(images, dict):
            if not self._device_layers:
                raise ValueError(
                    "Batches must be images, or images and labels. "
                    f"Received: a dictionary with the keys {sorted(images)}"
                )
            images, labels = self._device_layers[0](images)
        images = self.prepare_images(images)
        labels = self.prepare_labels(labels)
        draws = self.corruption.draw(ops.shape(images), self.num_patches, seed, label_dropout)
        return self.corruption.corrupt(images, draws, labels)

    def _update_averages(self):
        for average in self.averages:
            average.update()

    # Data

    def prepare_images(self, images):
        """Images, uint8 or float, checked and as a float32 tensor in the model's `value_range`."""
        if not hasattr(images, "shape"):
            images = np.asarray(images)
        images = ensure_shape(images, (None, None, None, None))
        check_images(images, self.image_shape, self.value_range)
        images = ensure_shape(images, (None, *self.image_shape))
        return scale_images(ops.convert_to_tensor(images), self.value_range)

    def prepare_labels(self, labels):
        """Class indices, checked and as an int32 tensor of shape `(batch,)`; `None` stays `None`, the null label."""
        if labels is None:
            return None
        if not hasattr(labels, "shape"):
            labels = np.asarray(labels)
        check_labels(labels, self.num_classes)
        return ops.reshape(ops.cast(ops.convert_to_tensor(labels), "int32"), (-1,))

    def fit(self, *args, **kwargs):
        """Train on images, or on images and labels; see `keras.Model.fit`.

        Images are uint8 `(batch, height, width, channels)`, or float in the model's `value_range`. Arrays are checked
        as a whole, and the first batch of everything else. (A shuffle buffer of tf.data is filled once more for that;
        pipelines of uint8 images without labels need no check and start at once.)

        Raises:
            ValueError: for images or labels that don't fit the model, and for sample or class weights.
        """
        arguments = inspect.signature(super().fit).bind(*args, **kwargs).arguments
        _refuse_weights(**{name: arguments.get(name) for name in ("sample_weight", "class_weight")})
        arguments["x"] = self._checked(arguments.get("x"), arguments.get("y"))
        validation = arguments.get("validation_data")
        if isinstance(validation, (tuple, list)):
            images, labels, sample_weight = keras.utils.unpack_x_y_sample_weight(tuple(validation))
            _refuse_weights(sample_weight=sample_weight)
            self._checked(images, labels)
        elif validation is not None:
            arguments["validation_data"] = self._checked(validation, None)
        steps = ("train",) if validation is None else ("train", "test")
        try:
            with self._on_device(steps, arguments["x"], validation):
                return super().fit(**arguments)
        finally:
            self._initial_epoch = None  # of a backup, from which a later `fit` would begin if this one was stopped

    def evaluate(self, *args, **kwargs):
        """The losses on a data set, with the same noise, timesteps and masks each time; see `keras.Model.evaluate`."""
        arguments = inspect.signature(super().evaluate).bind(*args, **kwargs).arguments
        arguments.update(arguments.pop("kwargs", {}))
        _refuse_weights(sample_weight=arguments.get("sample_weight"))
        self.evaluation_seed_generator.state.assign([EVALUATION_SEED, 0])
        if arguments.get("_use_cached_eval_dataset"):  # `fit` has prepared its validation data
            self._forget_programs(("test",), next(iter(self._device_layers), None))
            return super().evaluate(**arguments)
        arguments["x"] = self._checked(arguments.get("x"), arguments.get("y"))
        with self._on_device(("test",), arguments["x"]):
            return super().evaluate(**arguments)

    def predict(self, x, *args, **kwargs):
        """The representations of all images in `x`, as `encode` gives them; see `keras.Model.predict`."""
        if getattr(x, "device_layer", None) is not None:
            raise ValueError(
                "Data that are cropped or sampled in the training step have no images for `predict`; make them with "
                f"training=False, by another function of keras_umd.data. Received: {x}"
            )
        return super().predict(self._checked(x, None, takes_labels=False), *args, **kwargs)

    @contextlib.contextmanager
    def _on_device(self, steps, *datasets):
        """Within it, these steps pass batches of these data sets, which are dictionaries, through their `device_layer`.

        Only within it, so that its variables, the whole data set perhaps, are neither the model's weights nor saved.
        """
        layers = [getattr(x, "device_layer", None) for x in datasets]
        layers = list({id(layer): layer for layer in layers if layer is not None}.values())
        if len(layers) > 1:
            raise ValueError(
                "Only one data set at a time can be cropped or sampled in the step; make the validation data with "
                f"training=False. Received: {datasets}"
            )
        outer = list(self._device_layers)  # of the `fit` whose callback calls `evaluate`
        layers = layers or outer
        self._forget_programs(steps, layers[0] if layers else None)
        self._set_device_layers(layers)
        try:
            yield
        finally:
            self._set_device_layers(outer)

    def _set_device_layers(self, layers):
        if layers != self._device_layers:
            self.predict_function = None  # on several devices, JAX' is compiled for this number of variables
        self._device_layers.clear()
        self._device_layers.extend(layers)

    def _forget_programs(self, steps, layer):
        """Forget the compiled programs of these steps if they were traced with another data set's layer."""
        for step in steps:
            traced = self._traced_device_layers.get(step)
            if (None if traced is None else traced()) is not layer:
                setattr(self, f"{step}_function", None)
                self._traced_device_layers[step] = None if layer is None else weakref.ref(layer)

    def _checked(self, x, y, takes_labels=True):
        """Check what is on the host of `x` and `y`; returns `x`, or what stands for it where a batch was taken."""
        if isinstance(x, (list, tuple)):
            raise ValueError(
                "Images must be one array or a data set, and labels the next argument. "
                f"Received: x, a {type(x).__name__} of {len(x)}"
            )
        first = (x, y)
        if hasattr(x, "sample_batch"):  # of keras_umd.data
            first = x.sample_batch()
        elif isinstance(x, keras.utils.PyDataset):
            first = x[0]
        elif isinstance(x, types.GeneratorType):
            first = next(x, None)
            if first is None:
                raise ValueError("The generator has no batches. Received: an empty generator")
            x = _with_first(first, x)
        elif hasattr(x, "element_spec"):  # tf.data
            specs = keras.tree.flatten(x.element_spec)
            if len(specs) == 1 and keras.backend.standardize_dtype(specs[0].dtype) == "uint8":
                return x
            first = _first_batch(x.take(1))
        elif hasattr(x, "__iter__") and not hasattr(x, "shape") and iter(x) is not x:  # grain, torch DataLoader
            first = _first_batch(x)
        images, labels, _ = keras.utils.unpack_x_y_sample_weight(first)
        if hasattr(images, "shape") and hasattr(images, "dtype"):
            check_images(images, self.image_shape, self.value_range)
        if takes_labels and hasattr(labels, "shape") and hasattr(labels, "dtype"):
            check_labels(labels, self.num_classes)
        return x

    # Saving

    def save_own_variables(self, store):
        super().save_own_variables(store)
        # Keras doesn't save seed generators; without this a resumed run would repeat its noise.
        store["seed_state"] = ops.convert_to_numpy(self.seed_generator.state).astype("int64")

    def load_own_variables(self, store):
        store = {key: store[key] for key in store.keys()}  # noqa: SIM118 (Keras' store can't be iterated)
        seed_state = self.seed_generator.state
        seed_state.assign(np.asarray(store.pop("seed_state")).astype(seed_state.dtype))
        super().load_own_variables(store)


def _stateless(function, variables, values):
    """Run `function` with `variables` at `values`; returns its result and the values that it leaves behind."""
    with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))) as scope:
        result = function()
    return result, [scope.get_current_value(variable) for variable in variables]


def _first_batch(dataset):
    """The first batch as NumPy arrays, whatever framework made it; `(None,)` of an empty data set."""
    batch = next(iter(dataset), (None,))
    batch = tuple(batch) if isinstance(batch, list) else batch
    return keras.tree.map_structure(lambda x: x if x is None else np.asarray(x), batch)


def _with_first(first, rest):
    yield first
    yield from rest


def _refuse_weights(**weights):
    for name, value in weights.items():
        if value is not None:
            raise ValueError(
                f"All images count equally in the objective; leave out `{name}`, or repeat images in the data set. "
                f"Received: {name} of type {type(value).__name__}"
            )
