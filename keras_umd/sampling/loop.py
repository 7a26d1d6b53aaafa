"""What of sampling is compiled: from noise and a plan to samples, with what guides them."""

import keras
from keras import ops

from keras_umd.backend import compile_part
from keras_umd.sampling import samplers
from keras_umd.sampling.guidance import guide
from keras_umd.sampling.image_noise import image_noise

# All modulations of all steps are computed before the loop where they fit in here, in bytes.
MAX_MODULATIONS = 2**30


class SamplingLoop:
    """What is compiled: everything from the inputs to the samples."""

    def __init__(self, model, weak, sampler, predict_from, always_guided, num_frames, jit_compile):
        self.model = model
        self.weak = weak
        self.sampler = sampler
        self.predict_from = predict_from
        self.always_guided = always_guided
        self.num_frames = num_frames
        self.jit_compile = jit_compile
        self.estimates = {
            m: compile_part(m._estimate, m.network_weights, jit_compile) for m in {model, weak} if m is not None
        }

    def key(self):
        """What makes two loops differ, besides the shapes of their inputs."""
        config = {name: value for name, value in self.sampler.get_config().items() if name != "timesteps"}
        guided = None if self.weak is None else (self.weak is self.model, bool(self.always_guided))
        return "generate", type(self.sampler), str(config), guided, self.predict_from, self.num_frames, self.jit_compile

    def __call__(self, inputs):
        plan, model = inputs["plan"], self.model

        def draw_noise(step):
            return image_noise(inputs["key"], inputs["image_indices"], step, model.image_shape)

        x = inputs["x_t"] if "x_t" in inputs else draw_noise(0)
        predict_noise = self._predictor(inputs)
        if "known" in inputs:
            predict_noise = _with_known_pixels(predict_noise, inputs["known"], inputs["mask"])
        return self.sampler.run(predict_noise, lambda i: draw_noise(i + 1), x, plan, model.value_range, self.num_frames)

    def _predictor(self, inputs):
        """`(x_t, row, i) -> noise`, guided where there is guidance."""
        timesteps, labels, rows = inputs["plan"]["timestep"], inputs["labels"], inputs.get("label_rows")
        strong = self._network(self.model, timesteps, labels)
        if self.weak is None:
            return lambda x, row, i: strong(x, row, i, rows)
        if self.weak is self.model:
            # Each image beside its copy without label: where devices share the batch, nothing moves between them.
            null_rows = ops.full_like(rows, labels.shape[0] - 1)
            both_rows = ops.reshape(ops.stack([rows, null_rows], axis=1), (-1,))

            def predict_both(x, row, i):
                both = strong(ops.repeat(x, 2, axis=0), row, i, both_rows)
                both = ops.reshape(both, (-1, 2, *self.model.image_shape))
                return both[:, 0], both[:, 1]

        else:
            weak = self._network(self.weak, timesteps, labels)

            def predict_both(x, row, i):
                return strong(x, row, i, rows), weak(x, row, i, rows)

        def guided(x, row, i):
            return guide(*predict_both(x, row, i), row["guidance_scale"])

        if self.always_guided:
            return guided
        return lambda x, row, i: ops.cond(row["is_guided"], lambda: guided(x, row, i), lambda: strong(x, row, i, rows))

    def _network(self, model, timesteps, labels):
        """`(x_t, row, i, label_rows) -> noise` of one model; what depends on step and label alone is computed here."""
        tables = _condition_tables(model, timesteps, labels)

        def predict_noise(x, row, i, label_rows):
            def look_up(table):  # (steps, labels, dim)
                conditions = ops.take(table, i, axis=0)
                return conditions if table.shape[1] == 1 else ops.take(conditions, label_rows, axis=0)

            estimates = self.estimates[model](x, **keras.tree.map_structure(look_up, tables))
            noise, x0 = (ops.cast(estimates[name], "float32") for name in ("noise", "x0"))
            if self.predict_from == "eps":
                return noise
            implied = samplers.implied_noise(x, x0, row)
            if self.predict_from == "x0":
                return implied
            # The v of both, v = signal * noise - sigma * x_0 (Salimans and Ho, 2022), solved for the noise.
            return row["signal"] ** 2 * noise + row["sigma"] ** 2 * implied

        return predict_noise


def _condition_tables(model, timesteps, labels):
    """Conditions, or where they fit all modulations of AdaLN, of all timesteps and labels: `(steps, labels, dim)`."""
    if model.condition_embedding is None:
        return {}
    conditions = model.condition_embedding.table(timesteps, labels)
    steps, rows, hidden_dim = conditions.shape
    modulations = 6 * (model.encoder.num_layers + model.decoder.num_layers) + 2
    size = steps * rows * modulations * hidden_dim * 4
    if model.conditioning != "adaln_zero" or size > MAX_MODULATIONS:
        return {"of_encoder": conditions, "of_decoder": conditions}
    return {
        "of_encoder": model.encoder.modulations(conditions),
        "of_decoder": model.decoder.modulations(conditions),
    }


def _with_known_pixels(predict_noise, known, mask):
    def predict(x, row, i):
        return ops.where(mask, predict_noise(x, row, i), samplers.implied_noise(x, known, row))

    return predict
