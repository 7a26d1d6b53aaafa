"""What a step of sampling asks: callables `(x_t, row, i) -> (x0, eps)`, each around another or around the network.

`row` holds what belongs to the step, a dictionary of scalars with `timestep`, `signal`, `sigma`, `guidance_scale` and
`is_guided`; `i` is its number.
"""

import keras
from keras import ops

from keras_umd.layers.patches import unpatchify
from keras_umd.objectives.targets.denoising import X0, Eps
from keras_umd.sampling.guidance import guide

# By the name of `predict_from`; "both" is both.
TARGETS = {"eps": Eps(), "x0": X0()}
HEADS = (*TARGETS, "both")
# All modulations of all steps are computed before the loop where they fit in here, in bytes.
MAX_MODULATIONS = 2**30


def read_heads(predict_from):
    """The names of the predictions that are computed."""
    return tuple(TARGETS) if predict_from == "both" else (predict_from,)


def needs_signal(predict_from):
    """Whether nothing can be read at a level where no signal is left; "both" has x_0 there."""
    return all(TARGETS[name].needs_signal for name in read_heads(predict_from))


# The network


def predict(model, x_t, names, **condition):
    """The predictions of a model for noisy images, nothing masked.

    Args:
        model: `UMD`.
        x_t: Float tensor of shape `(batch, *image_shape)`.
        names: Tuple of `"x0"` and `"eps"`, which to compute.
        **condition: `condition`, or one step's and label's entries of `condition_tables`.

    Returns:
        Dictionary of float tensors of the shape of `x_t`.
    """
    given = {"condition": condition.get("condition")}
    representation, tokens = model.encoder(x_t, **given, modulations=condition.get("encoder_modulations"))
    targets = tuple({"eps": "noise"}.get(name, name) for name in names)
    patches = model.decoder(
        representation, tokens, **given, modulations=condition.get("decoder_modulations"), targets=targets
    )
    return {
        name: unpatchify(patches[target], model.patch_size, model.grid)
        for name, target in zip(names, targets, strict=True)
    }


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
        return {"condition": conditions}
    return {
        "encoder_modulations": model.encoder.modulations(conditions),
        "decoder_modulations": model.decoder.modulations(conditions),
    }


class Denoiser:
    """What a network says of noisy images; only the predictions that are read are computed.

    Args:
        network: callable. `(x_t, names, **condition)`, `predict` of a model.
        tables: What `condition_tables` returned.
        label_rows: Int tensor `(batch,)`, the row of each image's label in the tables, or `None` for the first.
        predict_from: `"eps"`, `"x0"`, or `"both"`: the v that they give together (Salimans and Ho, 2022).
    """

    def __init__(self, network, tables, label_rows, predict_from):
        self.network = network
        self.tables = tables
        self.label_rows = label_rows
        self.predict_from = predict_from

    def with_label_rows(self, label_rows):
        """The same network and tables for other labels."""
        return Denoiser(self.network, self.tables, label_rows, self.predict_from)

    def __call__(self, x, row, i):
        condition = keras.tree.map_structure(lambda table: self._look_up(table, i), self.tables)
        names = read_heads(self.predict_from)
        outputs = self.network(x, names, **condition)
        outputs = {name: ops.cast(outputs[name], "float32") for name in names}
        if self.predict_from == "both":
            return _from_both(outputs["x0"], outputs["eps"], x, row)
        return TARGETS[self.predict_from].estimate(outputs[self.predict_from], x, row)

    def _look_up(self, table, i):
        conditions = ops.take(table, i, axis=0)  # (labels or 1, dim)
        return conditions if table.shape[1] == 1 else ops.take(conditions, self.label_rows, axis=0)


def _from_both(x0, eps, x, row):
    """x_0 and noise by the v of both heads, v = signal * eps - sigma * x_0; no division by the signal."""
    signal, sigma = row["signal"], row["sigma"]
    power = signal**2 + sigma**2  # 1 where the noise preserves the variance
    by_x0 = (x - signal * x0) / sigma
    return (signal * (x - sigma * eps) + sigma**2 * x0) / power, (signal**2 * eps + sigma**2 * by_x0) / power


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
        eps = ops.where(self.mask, eps, TARGETS["x0"].estimate(self.known, x, row)[1])
        return _by_eps(x, ops.where(self.mask, x0, self.known), eps, row), eps


def _by_eps(x, x0, eps, row):
    """`x0` where there is no signal, else the x_0 that follows from `eps`: equal up to rounding.

    Guidance and known pixels act on the noise, as in the paper; where there is no signal, nothing follows from it.
    """
    has_signal = row["signal"] > 0
    signal = ops.where(has_signal, row["signal"], 1.0)  # not 0 / 0, which checks for NaN would find
    return ops.where(has_signal, (x - row["sigma"] * eps) / signal, x0)
