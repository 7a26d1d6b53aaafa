"""What a step of sampling asks: callables `(x_t, row, i) -> (x0, eps)`, each around another or around the network.

`row` holds what belongs to the step, a dictionary of scalars with `timestep`, `signal`, `sigma`, `guidance_scale` and
`is_guided`; `i` is its number.
"""

import keras
from keras import ops

from keras_umd.layers.patches import unpatchify
from keras_umd.sampling.guidance import guide

# All modulations of all steps are computed before the loop where they fit in here, in bytes.
MAX_MODULATIONS = 2**30


# The network


def predict(model, x_t, names, of_encoder=None, of_decoder=None):
    """The predictions of a model for noisy images, nothing masked.

    Args:
        model: `UMD`.
        x_t: Float tensor of shape `(batch, *image_shape)`.
        names: Tuple of names, which predictions to compute.
        of_encoder, of_decoder: Conditions, or one step's and label's entries of `condition_tables`.

    Returns:
        Dictionary of float tensors of the shape of `x_t`.
    """
    representation, tokens = model.encoder(x_t, condition=of_encoder)
    patches = model.decoder(representation, tokens, condition=of_decoder, read=dict.fromkeys(names, "all"))
    return {name: unpatchify(patches[name], model.patch_size, model.grid) for name in names}


def condition_tables(model, timesteps, labels):
    """All that the network needs to know of timesteps and labels, computed once before the loop.

    Conditions, or where they fit all modulations of AdaLN: (nested) tensors of shape `(steps, labels or 1, dim)`.
    """
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


class Denoiser:
    """What a network says of noisy images; only the predictions that are read are computed.

    Args:
        network: callable. `(x_t, names, **condition)`, `predict` of a model.
        tables: What `condition_tables` returned.
        label_rows: Int tensor `(batch,)`, the row of each image's label in the tables, or `None` for the first.
        prediction: `Prediction`, the reading of the network.
    """

    def __init__(self, network, tables, label_rows, prediction):
        self.network = network
        self.tables = tables
        self.label_rows = label_rows
        self.prediction = prediction

    def with_label_rows(self, label_rows):
        """The same network and tables for other labels."""
        return Denoiser(self.network, self.tables, label_rows, self.prediction)

    def __call__(self, x, row, i):
        condition = keras.tree.map_structure(lambda table: self._look_up(table, i), self.tables)
        outputs = self.network(x, self.prediction.names, **condition)
        outputs = {name: ops.cast(output, "float32") for name, output in outputs.items()}
        return self.prediction.estimate(outputs, x, row)

    def _look_up(self, table, i):
        conditions = ops.take(table, i, axis=0)  # (labels or 1, dim)
        return conditions if table.shape[1] == 1 else ops.take(conditions, self.label_rows, axis=0)


# Around it


class Guided:
    """Towards one prediction, away from a weaker one, where the row says so.

    Args:
        denoise: `Denoiser`.
        weak: `Denoiser` of a weak model, or `None` for the same one without label.
        null_row: Integer, the row of the null label, where there is no weak model.
        always: Bool. Whether every row is guided; else the weak prediction is left out where it isn't used.
    """

    def __init__(self, denoise, weak=None, null_row=None, always=True):
        self.denoise = denoise
        self.weak = weak
        self.always = always
        if weak is None:
            # Each image beside its copy without label: where devices share the batch, nothing moves between them.
            rows = denoise.label_rows
            pairs = ops.stack([rows, ops.full_like(rows, null_row)], axis=1)
            self.doubled = denoise.with_label_rows(ops.reshape(pairs, (-1,)))

    def __call__(self, x, row, i):
        if self.always:
            return self._guided(x, row, i)
        return ops.cond(row["is_guided"], lambda: self._guided(x, row, i), lambda: tuple(self.denoise(x, row, i)))

    def _guided(self, x, row, i):
        if self.weak is None:
            both = [
                ops.reshape(prediction, (-1, 2, *x.shape[1:]))
                for prediction in self.doubled(ops.repeat(x, 2, axis=0), row, i)
            ]
            strong, weak = ([prediction[:, part] for prediction in both] for part in (0, 1))
        else:
            strong, weak = self.denoise(x, row, i), self.weak(x, row, i)
        x0, eps = (guide(s, w, row["guidance_scale"]) for s, w in zip(strong, weak, strict=True))
        return _by_eps(x, x0, eps, row), eps


class WithKnownPixels:
    """Predictions of which some pixels are known (DDNM; Wang et al., 2022).

    Args:
        denoise: callable of this kind.
        known: Float tensor of the shape of `x_t`, the images.
        mask: Bool tensor `(batch or 1, *space, 1)`, `True` where they aren't known.
    """

    def __init__(self, denoise, known, mask):
        self.denoise = denoise
        self.known = known
        self.mask = mask

    def __call__(self, x, row, i):
        x0, eps = self.denoise(x, row, i)
        eps = ops.where(self.mask, eps, (x - row["signal"] * self.known) / row["sigma"])
        return _by_eps(x, ops.where(self.mask, x0, self.known), eps, row), eps


def _by_eps(x, x0, eps, row):
    """`x0` where there is no signal, else the x_0 that follows from `eps`: equal up to rounding.

    Guidance and known pixels act on the noise, as in the paper; where there is no signal, nothing follows from it.
    """
    has_signal = row["signal"] > 0
    signal = ops.where(has_signal, row["signal"], 1.0)  # not 0 / 0, which checks for NaN would find
    return ops.where(has_signal, (x - row["sigma"] * eps) / signal, x0)
