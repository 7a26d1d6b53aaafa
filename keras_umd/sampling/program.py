"""The compiled part of sampling: from the inputs of a batch to its samples."""

from keras_umd.sampling.denoiser import condition_tables, denoiser, guided, predict, with_known_pixels
from keras_umd.sampling.image_noise import image_noise


class SamplingProgram:
    """A function of the models and the inputs of one batch, to compile. It refers to no model by itself.

    Args:
        settings: `Settings`.
        is_guided: Bool. Whether any row of the inputs is guided.
        always_guided: Bool. Whether all are.
        num_frames: As of `Sampler.loop`.
    """

    def __init__(self, settings, is_guided, always_guided, num_frames=None):
        self.sampler = settings.sampler
        self.predict_from = settings.predict_from
        self.jit_compile = settings.jit_compile
        self.is_guided = bool(is_guided)
        self.always_guided = bool(always_guided)
        self.num_frames = num_frames

    def key(self, inputs):
        """The key in the cache of programs. With the shapes: TensorFlow would give up static ones for a second."""
        own = self.is_guided, self.always_guided, self.predict_from, self.num_frames
        shapes = tuple((name, tuple(inputs[name].shape)) for name in sorted(inputs) if name != "rows")
        return "generate", *_sampler_key(self.sampler), *own, inputs["rows"]["timestep"].shape[0], shapes

    def __call__(self, model, *weak_model_and_inputs):
        *weak_model, inputs = weak_model_and_inputs

        def draw_noise(step):
            return image_noise(inputs["key"], inputs["image_indices"], step, model.image_shape)

        denoise = self._denoiser(model, inputs)
        if self.is_guided:
            weak = self._denoiser(*weak_model, inputs) if weak_model else None
            null_row = inputs["labels"].shape[0] - 1
            denoise = guided(denoise, weak, inputs.get("label_rows"), null_row, self.always_guided)
        if "known" in inputs:
            denoise = with_known_pixels(denoise, inputs["known"], inputs["mask"])
        x_T = inputs["x_t"] if "x_t" in inputs else draw_noise(0)
        if "noise_scale" in inputs:
            x_T = inputs["noise_scale"] * x_T
        return self.sampler.loop(
            denoise,
            lambda i: draw_noise(i + 1),
            x_T,
            inputs["rows"],
            model.value_range,
            self.num_frames,
        )

    def _denoiser(self, model, inputs):
        return denoiser(
            model.programs.part(predict, model, self.jit_compile),
            condition_tables(model, inputs["rows"]["timestep"], inputs["labels"]),
            inputs.get("label_rows"),
            model.prediction(self.predict_from),
        )


def _sampler_key(sampler):
    """The class and the attributes that a program holds, not `timesteps`, which are inputs.

    Attributes and not `get_config`, which a user's class may have inherited from one with fewer settings. A sampler
    with other attributes than plain values stands for itself alone; the program keeps it, and so its identity.
    """
    attributes = {name: value for name, value in vars(sampler).items() if name != "timesteps"}
    plain = all(isinstance(value, (bool, int, float, str, type(None))) for value in attributes.values())
    return type(sampler), tuple(sorted(attributes.items())) if plain else id(sampler)
