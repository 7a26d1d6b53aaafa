"""What is exported of a model: the encoder, the denoiser, and the whole way from noise to images, as Keras models."""

import keras
import numpy as np
from keras import ops

from keras_umd.sampling.denoiser import guided, predict
from keras_umd.utils.checks import require
from keras_umd.utils.images import as_uint8


class Program(keras.Model):
    """Tensors in, a dictionary of tensors out, both by name; the first axis of each is the batch.

    It computes in float32, whatever the model's `dtype` is, and holds plain weights: LoRA factors are in their kernels,
    int8 kernels are floats again.
    """

    def __init__(self, network):
        super().__init__(autocast=False)
        self.network = network
        self.built = True

    def input_specs(self):
        """List of `keras.InputSpec` with names, for the arguments of `call`."""
        raise NotImplementedError

    def _specs(self, **shapes_and_types):
        return [
            keras.InputSpec(shape=(None, *shape), dtype=dtype, name=name)
            for name, (shape, dtype) in shapes_and_types.items()
        ]


class EncoderProgram(Program):
    """`images`, uint8 or latents, to `features`, or to `features_3` of block 3 and so on where there are several."""

    def __init__(self, extractor):
        require(
            extractor.timesteps == 0,
            "The exported encoder draws no noise; take the features of clean images.",
            timesteps=extractor.timesteps,
        )
        super().__init__(extractor)
        layers = extractor.layer if np.ndim(extractor.layer) else ()
        self.names = [f"features_{layer}" for layer in layers] or ["features"]
        self.output_names = sorted(self.names)

    def input_specs(self):
        dtype = "float32" if self.network.value_range is None else "uint8"
        return self._specs(images=(self.network.image_shape, dtype))

    def call(self, images):
        features = self.network(images)
        features = features if isinstance(features, list) else [features]
        return {name: ops.cast(x, "float32") for name, x in sorted(zip(self.names, features, strict=True))}


class DenoiserProgram(Program):
    """`x_t`, and of a model that sees them `timesteps` and `labels`, to the predictions of the network by name."""

    def __init__(self, model):
        super().__init__(model)
        self.output_names = sorted(model.decoder.pixel_predictions)

    def input_specs(self):
        return self._specs(x_t=(self.network.image_shape, "float32"), **_condition_specs(self.network, "timesteps"))

    def call(self, x_t, timesteps=None, labels=None):
        condition = None if timesteps is None else self.network.condition(timesteps, labels)
        outputs = predict(self.network, x_t, self.network.decoder.pixel_predictions, condition, condition)
        return {name: ops.cast(outputs[name], "float32") for name in self.output_names}


class SamplerProgram(Program):
    """`noise`, and of a model with classes `labels`, to `images`: all calls of the network and the steps between them.

    The label `num_classes` is the null label. Unlike in `generate`, conditions are computed in each step, for the
    labels of the batch: a table of all labels and steps would be larger than the weights.

    Args:
        model: `UMD`.
        settings: `sampling.settings.Settings`.
    """

    def __init__(self, model, settings):
        super().__init__(model)
        require(
            not settings.sampler.is_stochastic,
            "The exported sampler gets all of its noise at the start; take one that adds none on the way, as "
            "sampler=0.0, 'dpmpp_2m' or 'heun'.",
            sampler=settings.sampler,
        )
        self.sampler, self.dtype_of_images = settings.sampler, settings.dtype
        self.prediction = model.prediction(settings.predict_from)
        self.rows = settings.rows(model.corruption.noise_schedule, None, self.prediction.needs_signal)
        is_guided = self.rows["is_guided"]
        require(
            not is_guided.any() or (settings.guidance.weak_model is None and model.num_classes is not None),
            "The exported sampler is guided by the null label of a model with classes, not by another model.",
            guidance=settings.guidance,
        )
        self.is_guided, self.always_guided = bool(is_guided.any()), bool(is_guided.all())
        self.output_names = ["images"]

    def input_specs(self):
        return self._specs(noise=(self.network.image_shape, "float32"), **_condition_specs(self.network))

    def call(self, noise, labels=None):
        rows = {name: ops.convert_to_tensor(column) for name, column in self.rows.items()}
        if "signal_slope" in rows:  # a variance-preserving path starts from noise of deviation 1
            noise = rows["sigma"][0] * noise

        def denoise(x, row, i, labels=labels):
            condition = self.network.condition(ops.reshape(row["timestep"], (1,)), labels)
            outputs = predict(self.network, x, self.prediction.names, condition, condition)
            outputs = {name: ops.cast(output, "float32") for name, output in outputs.items()}
            return self.prediction.estimate(outputs, x, row)

        if self.is_guided:
            denoise = guided(denoise, None, labels, self.network.num_classes, self.always_guided)
        samples = self.sampler.loop(denoise, None, noise, rows, self.network.value_range)
        is_uint8 = self.dtype_of_images == "uint8" and not self.network.is_latent
        return {"images": as_uint8(samples, self.network.value_range) if is_uint8 else samples}


def _condition_specs(model, *names):
    """The inputs beside images: timesteps, if asked for, and labels, each where the network has a use for them."""
    if model.condition_embedding is None:
        return {}
    specs = dict.fromkeys(names, ((), "float32"))
    return specs if model.num_classes is None else {**specs, "labels": ((), "int32")}
