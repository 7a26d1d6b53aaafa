"""Denoisers: callables `(x_t, row, i) -> (x0, eps)`, each around another or around the network.

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
    representation, tokens, *taps = model.encoder(
        x_t, condition=of_encoder, collect=model.decoder.taps, for_decoder=True
    )
    features = {"features": taps[0]} if taps else {}
    patches = model.decoder(representation, tokens, condition=of_decoder, read=dict.fromkeys(names, "all"), **features)
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
    if model.conditioning != "adaln_zero" or 4 * steps * rows * modulations * hidden_dim > MAX_MODULATIONS:
        return {"of_encoder": conditions, "of_decoder": conditions}
    networks = {"of_encoder": model.encoder, "of_decoder": model.decoder}
    return {
        name: conditions if network.needs_condition else network.modulations(conditions)
        for name, network in networks.items()
    }


def denoiser(network, tables, label_rows, prediction):
    """A network's estimate of noisy images; only the predictions that are read are computed.

    Args:
        network: callable. `(x_t, names, **condition)`, `predict` of a model.
        tables: What `condition_tables` returned.
        label_rows: Int tensor `(batch,)`, the row of each image's label in the tables, or `None` for the first. A call
            may name other ones.
        prediction: `Prediction`, the reading of the network.
    """

    def look_up(table, i, rows):
        conditions = ops.take(table, i, axis=0)  # (labels or 1, dim)
        return conditions if table.shape[1] == 1 else ops.take(conditions, rows, axis=0)

    def denoise(x, row, i, rows=label_rows):
        condition = keras.tree.map_structure(lambda table: look_up(table, i, rows), tables)
        outputs = network(x, prediction.names, **condition)
        return prediction.estimate({name: ops.cast(output, "float32") for name, output in outputs.items()}, x, row)

    return denoise


# Around it


def guided(denoise, weak, label_rows, null_row, always):
    """Towards one prediction, away from a weaker one, where the row says so.

    Args:
        denoise: callable from `denoiser`.
        weak: The same of a weak model, or `None` for the null label instead.
        label_rows: As of `denoiser`.
        null_row: Integer, the row of the null label.
        always: Bool. Whether every row is guided; else the weak prediction is left out where it isn't used.
    """

    def guide_towards(x, row, i):
        if weak is None:
            # Each image beside its copy without label: where devices share the batch, nothing moves between them.
            rows = ops.stack([label_rows, ops.full_like(label_rows, null_row)], axis=1)
            both = denoise(ops.repeat(x, 2, axis=0), row, i, ops.reshape(rows, (-1,)))
            pairs = [ops.unstack(ops.reshape(prediction, (-1, 2, *x.shape[1:])), axis=1) for prediction in both]
        else:
            pairs = zip(denoise(x, row, i), weak(x, row, i), strict=True)
        x0, eps = (guide(*pair, row["guidance_scale"]) for pair in pairs)
        return _by_eps(x, x0, eps, row), eps

    def guide_or_not(x, row, i):
        return ops.cond(row["is_guided"], lambda: guide_towards(x, row, i), lambda: tuple(denoise(x, row, i)))

    return guide_towards if always else guide_or_not


def with_known_pixels(denoise, known, mask):
    """Predictions of which some pixels are known (DDNM; Wang et al., 2022).

    Args:
        denoise: callable of this kind.
        known: Float tensor of the shape of `x_t`, the images.
        mask: Bool tensor `(batch or 1, *space, 1)`, `True` where they aren't known.
    """

    def denoise_rest(x, row, i):
        x0, eps = denoise(x, row, i)
        eps = ops.where(mask, eps, (x - row["signal"] * known) / row["sigma"])
        return _by_eps(x, ops.where(mask, x0, known), eps, row), eps

    return denoise_rest


def _by_eps(x, x0, eps, row):
    """`x0` where there is no signal, else the x_0 that follows from `eps`: equal up to rounding.

    Guidance and known pixels act on the noise, as in the paper; where there is no signal, nothing follows from it.
    """
    has_signal = row["signal"] > 0
    signal = ops.where(has_signal, row["signal"], 1.0)  # not 0 / 0, which checks for NaN would find
    return ops.where(has_signal, (x - row["sigma"] * eps) / signal, x0)
