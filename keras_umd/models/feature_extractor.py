"""The pre-trained encoder as a model of its own."""

import functools
import json
import math

import keras
import numpy as np
from keras import ops

from keras_umd.corruption import schedules
from keras_umd.layers.drop_path import drop_paths
from keras_umd.layers.patches import as_tuple, patch_grid
from keras_umd.layers.symbolic import output_spec_by_tracing
from keras_umd.layers.transformer import CONDITIONINGS
from keras_umd.models import adaptation
from keras_umd.models.arguments import is_shape
from keras_umd.models.condition import condition_embedding
from keras_umd.models.encoder import Encoder
from keras_umd.utils.checks import (
    check_integers,
    check_numbers,
    check_one_of,
    check_positive_integers,
    check_timesteps,
    is_between,
    is_list,
    is_pair,
    require,
)
from keras_umd.utils.configurable import revive
from keras_umd.utils.fingerprint import fingerprint
from keras_umd.utils.freezing import propagate_trainable
from keras_umd.utils.images import are_in_range, check_images, scale_images
from keras_umd.utils.preset_folder import config_of, read_preset, write_preset
from keras_umd.utils.seeds import seed_generator
from keras_umd.utils.variable_names import by_name

POOLINGS = ("cls", "mean", "cls+mean", None)


def _checking_arrays(method):
    """A method of `keras.Model` that checks an array `x` first: in compiled programs its values can't be read."""

    @functools.wraps(method)
    def checked(self, x=None, *args, **kwargs):
        if hasattr(x, "shape") and hasattr(x, "dtype"):
            check_images(x, self.image_shape, self.value_range)
        return method(self, x, *args, **kwargs)

    return checked


@keras.saving.register_keras_serializable("keras_umd")
class FeatureExtractor(keras.Model):
    """Images to features: UMD's encoder with nothing masked and no label.

    Made by `UMD.feature_extractor`, with a copy of its weights, so that training it leaves the UMD as it is. It is a
    Keras model and a Keras layer: call it on images, or put it into a functional model, frozen or not.

    Example:

    >>> extractor = model.feature_extractor(pooling="mean")
    >>> classifier = keras.Sequential([keras.Input((8, 8, 1), dtype="uint8"), extractor, keras.layers.Dense(3)])
    >>> classifier.predict(images).shape
    (24, 3)

    Args:
        image_shape: Tuple `(*space, channels)`, with one to four space axes.
        patch_size: Integer or a tuple of integers, one for each space axis.
        hidden_dim, num_layers, num_heads, num_cls_tokens, conditioning: Of the encoder.
        num_classes: Integer or `None`. Classes of the model that the weights are from.
        block: `keras_umd.layers.Block`, of the encoder. Defaults to the paper's.
        value_range: Pair of floats, the range of float images; `None` for latents.
        model_range: Pair of floats, the range that the encoder was trained on, to which images are scaled. Defaults to
            `value_range`.
        pooling: `"cls"`, the paper's representation, the mean of the class tokens; `"mean"`, the mean of the patches'
            tokens; `"cls+mean"`, both, one behind the other; `None`, the patches' tokens themselves.
        layer: Integer in [1, num_layers], the block after which to take the features, or a list of them. `None` is the
            last one. Behind the last there is a LayerNorm.
        timesteps: Integer in [0, T]. Above 0 the images are noised to it first, by other noise in each call.
        schedule: `NoiseSchedule`, or its name.
        num_timesteps: Integer, T, of a schedule that is given by name.
        seed: Integer, `keras.random.SeedGenerator` or `None`, for the noise.
        drop_path: Float in [0, 1). In training, the share of the images for which the branches of the last block are
            left out; from 0 in the first it grows block by block (stochastic depth). For fine-tuning.

    Call arguments:
        images: uint8 or float tensor of shape `(batch, *space, channels)`. Float images lie in `value_range`. A
            functional model casts what it is fed to the type of its `keras.Input`: for uint8 images give it
            `dtype="uint8"`, or let `value_range` be (0, 255).
        visible: Int tensor of shape `(batch, visible)`, the patches to look at. Without it: all.

    Returns:
        Float tensor of shape `(batch, hidden_dim)`, `(batch, 2 * hidden_dim)` where `pooling` is `"cls+mean"`, and
        `(batch, num_patches, hidden_dim)` where it is `None`; a list of them where `layer` is a list.
        The features of a float image that leaves `value_range` are NaN, where its values can't be checked before.
    """

    compute_output_spec = output_spec_by_tracing

    def __init__(
        self,
        image_shape,
        patch_size,
        *,
        hidden_dim,
        num_layers,
        num_heads,
        num_cls_tokens=1,
        conditioning="adaln_zero",
        num_classes=None,
        block=None,
        value_range=(-1.0, 1.0),
        model_range=None,
        pooling="cls",
        layer=None,
        timesteps=0,
        schedule="cosine",
        num_timesteps=None,
        seed=None,
        drop_path=0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        schedule = schedules.get(schedule, num_timesteps)
        _check_arguments(image_shape, num_layers, num_classes, conditioning, value_range, model_range)
        check_one_of(POOLINGS, pooling=pooling)
        check_timesteps(timesteps, schedule.num_timesteps)
        check_numbers("[0, 1)", drop_path=drop_path)
        self.layer, self._layers_read = _checked_layers(layer, int(num_layers))
        self.timesteps = int(timesteps)
        self.noise_schedule = schedule
        self.seed = None if isinstance(seed, keras.random.SeedGenerator) else seed
        self.seed_generator = seed_generator(seed)
        self.image_shape = tuple(map(int, image_shape))
        self.num_classes = None if num_classes is None else int(num_classes)
        self.value_range = None if value_range is None else tuple(value_range)
        self.model_range = self.value_range if model_range is None else tuple(model_range)
        self.pooling = pooling
        self.drop_path = float(drop_path)
        self.encoder = Encoder(
            as_tuple(patch_size, len(image_shape) - 1),
            hidden_dim,
            int(num_layers),
            num_heads,
            num_cls_tokens,
            conditioning,
            block=block,
            dtype=self.dtype_policy,
            name="encoder",
        )
        drop_paths(self.encoder.blocks, drop_path)
        self.encoder.build((None, *self.image_shape))
        self.condition_embedding = condition_embedding(
            hidden_dim, self.num_classes, conditioning, self.dtype_policy, self.encoder.block
        )
        self.built = True
        propagate_trainable(self)

    def call(self, images, visible=None):
        check_images(images, self.image_shape, self.value_range)
        has_range = self.value_range is not None and keras.backend.standardize_dtype(images.dtype) != "uint8"
        is_right = are_in_range(images, self.value_range) if has_range else None
        images = scale_images(images, self.model_range, self.value_range)
        timesteps = ops.full((1,), self.timesteps, dtype="int32")
        if self.timesteps:
            noise = keras.random.normal(ops.shape(images), dtype="float32", seed=self.seed_generator)
            images = self.noise_schedule.add_noise(images, noise, timesteps)
        condition = None if self.condition_embedding is None else self.condition_embedding(timesteps)
        *_, outputs = self.encoder(
            images, condition=condition, visible=visible, collect=self._layers_read, depth=max(self._layers_read)
        )
        outputs = [self._pooled(*output) for output in outputs]
        if is_right is not None:
            outputs = [ops.where(ops.reshape(is_right, (-1, *[1] * (len(x.shape) - 1))), x, np.nan) for x in outputs]
        return outputs if np.ndim(self.layer) else outputs[0]

    def _pooled(self, representation, tokens):
        if self.pooling == "cls":
            return representation
        if self.pooling is None:
            return tokens
        mean = ops.mean(tokens, axis=1)
        return mean if self.pooling == "mean" else ops.concatenate([representation, mean], axis=-1)

    def compute_output_shape(self, images_shape):
        width = self.encoder.hidden_dim * (2 if self.pooling == "cls+mean" else 1)
        num_patches = math.prod(patch_grid(self.image_shape, self.encoder.patch_size))
        shape = (images_shape[0], num_patches, width) if self.pooling is None else (images_shape[0], width)
        return [shape for _ in self.layer] if np.ndim(self.layer) else shape

    fit = _checking_arrays(keras.Model.fit)
    evaluate = _checking_arrays(keras.Model.evaluate)
    predict = _checking_arrays(keras.Model.predict)
    train_on_batch = _checking_arrays(keras.Model.train_on_batch)
    test_on_batch = _checking_arrays(keras.Model.test_on_batch)
    predict_on_batch = _checking_arrays(keras.Model.predict_on_batch)

    def export(self, filepath, format="tf_saved_model", verbose=None, input_signature=None, **kwargs):
        """As `keras.Model.export`, also of a model that was never called.

        Without an `input_signature` the exported program takes float32 images in `value_range`; for others pass
        `[keras.InputSpec((None, *image_shape), dtype="uint8")]`.
        """
        return super().export(filepath, format, verbose, input_signature or images_signature(self), **kwargs)

    def copy_weights(self, model, weights="average"):
        """Take over the weights of a UMD of the same sizes; other image sizes get interpolated positions.

        LoRA factors are added to their kernels, and int8 kernels become floats.

        Args:
            model: `UMD`.
            weights: `"average"`, `"raw"` or a decay, as of `UMD.weight_values`.

        Raises:
            ValueError: naming the weights without a partner of their shape; none is assigned then.
        """
        require(hasattr(model, "weight_values"), "`model` must be a keras_umd.UMD.", model=model)
        values = dict(zip(map(id, model.network_weights), model.weight_values(weights), strict=True))
        # Through NumPy: on JAX the variables would share memory that the next `fit` gives away.
        plain = adaptation.plain_values(_parts(model), values)
        source, target = model.encoder.position_embedding, self.encoder.position_embedding
        plain[source.positions.path] = source.interpolated(target.grid, plain[source.positions.path])
        for token in (model.encoder.mask_token, model.encoder.place_token):
            if token is not None:  # nothing is hidden of images whose features are wanted
                del plain[token.path]
        targets = {variable.path: variable for part in _parts(self) for variable in part.weights}
        misfits = sorted(plain.keys() ^ targets.keys())
        misfits += [path for path in plain.keys() & targets.keys() if plain[path].shape != tuple(targets[path].shape)]
        if misfits:
            raise ValueError(
                "The model must have the sizes of the extractor, whose own LoRA factors or quantised kernels can't be "
                f"given values. Received: weights without a partner of their shape: {misfits}"
            )
        for path, variable in targets.items():
            variable.assign(plain[path])

    def fingerprint(self):
        """A string that differs for all weights and for all that is read of them, for what is stored to remember."""
        names = ("pooling", "layer", "timesteps", "schedule", "num_timesteps", "value_range")
        config = self.get_config()
        # Without a `model_range` that isn't set: fingerprints in caches and cards of before stay valid.
        settings = json.dumps({name: config[name] for name in names if name in config})
        if config["model_range"] is not None:
            settings += json.dumps(config["model_range"])
        return fingerprint([np.frombuffer(settings.encode(), "uint8"), *self.weights])

    def get_config(self):
        return {
            **super().get_config(),
            "image_shape": self.image_shape,
            "patch_size": self.encoder.patch_size,
            "hidden_dim": self.encoder.hidden_dim,
            "num_layers": self.encoder.num_layers,
            "num_heads": self.encoder.num_heads,
            "num_cls_tokens": self.encoder.num_cls_tokens,
            "conditioning": self.encoder.conditioning,
            "block": keras.saving.serialize_keras_object(self.encoder.block),
            "num_classes": self.num_classes,
            "value_range": self.value_range,
            "pooling": self.pooling,
            "layer": self.layer,
            "timesteps": self.timesteps,
            **keras.saving.serialize_keras_object(schedules.schedule_config(self.noise_schedule)),
            "seed": self.seed,
            "model_range": None if self.model_range == self.value_range else self.model_range,
            "drop_path": self.drop_path,
            **adaptation.adaptations(_parts(self)),
        }

    def preset_variables(self):
        """The variables of a preset by name."""
        return by_name([variable for part in _parts(self) for variable in part.weights])

    def save_to_preset(self, folder, *, dtype=None, results=(), license=None, description=None):
        """Save the extractor with its weights as a folder; arguments as of `UMD.save_to_preset`."""
        preprocessing = {"image_shape": list(self.image_shape), "value_range": self.value_range}
        card = {"results": results, "license": license, "description": description}
        write_preset(folder, config_of(self), self.preset_variables(), preprocessing, dtype=dtype, **card)

    @classmethod
    def from_preset(cls, preset, load_weights=None, **overrides):
        """The extractor that `save_to_preset` wrote.

        Args:
            preset: String or path, of a folder, or an address on a hub, as of `UMD.from_preset`.
            load_weights: Bool or `None`. `False` is for fresh weights.
            **overrides: Constructor arguments that replace those of the preset, as `pooling` or `layer`.
        """
        return read_preset(cls, preset, load_weights, overrides)

    @classmethod
    def from_config(cls, config):
        config = {**config, "schedule": revive(config["schedule"])}
        lora, quantized = config.pop("lora", None), config.pop("quantized", None)
        extractor = cls(**config)
        adaptation.adapt(_parts(extractor), lora, quantized)
        return extractor


def _parts(model):
    """The layers of an extractor, or of the UMD that it is from."""
    return [part for part in (model.encoder, model.condition_embedding) if part is not None]


def _check_arguments(image_shape, num_layers, num_classes, conditioning, value_range, model_range):
    require(
        is_shape(image_shape), "`image_shape` must be positive integers (*space, channels).", image_shape=image_shape
    )
    check_positive_integers(num_layers=num_layers)
    check_integers(1, optional=True, num_classes=num_classes)
    check_one_of(CONDITIONINGS, conditioning=conditioning)
    require(
        is_pair(value_range) or (value_range is None and model_range is None),
        "`value_range` must be a pair (low, high), or None for latents.",
        value_range=value_range,
    )
    is_right = model_range is None or is_pair(model_range)
    require(is_right, "`model_range` must be a pair (low, high) or None.", model_range=model_range)


def _checked_layers(layer, num_layers):
    """The argument `layer`, a list as a tuple, and the blocks that it names, a tuple."""
    blocks = tuple(layer) if is_list(layer) else (num_layers if layer is None else layer,)
    require(
        blocks and all(is_between(number, 1, num_layers) for number in blocks),
        f"`layer` must be None, an integer from 1 to {num_layers} or a list of them.",
        layer=layer,
    )
    return blocks if is_list(layer) else layer, blocks


def images_signature(model):
    """The default input of an exported model."""
    return [keras.InputSpec(shape=(None, *model.image_shape), dtype="float32")]
