"""LoRA factors and quantised kernels, which users add to a model: in its config, and undone where others take weights.

Both add or replace variables. So weights are found by their paths, and what has no partner is named.
"""

import re

import keras

from keras_umd.backend.processes import to_numpy
from keras_umd.layers.dense import FACTORS, Dense
from keras_umd.utils.checks import check_integers, check_numbers, require

QUANTIZATION_MODES = ("int8", "int4")
LORA_LAYERS = ("^query$", "^value$")  # of attention, as in section 7.1 of LoRA


def adaptations(layers):
    """What was added to `layers` and their sublayers, as JSON values for a config; an empty dictionary for nothing."""
    dense = _dense_layers(layers)
    lora = {layer.path: [layer.lora_rank, layer.lora_alpha] for layer in dense if layer.lora_enabled}
    quantized = {
        layer.path: {
            "mode": layer.quantization_mode,
            "config": keras.saving.serialize_keras_object(layer.quantization_config),
        }
        for layer in dense
        if layer.quantization_mode is not None
    }
    return {name: value for name, value in (("lora", lora), ("quantized", quantized)) if value}


def adapt(layers, lora=None, quantized=None):
    """Make the variables of `adaptations` in a new model; their values come from its file."""
    dense = {layer.path: layer for layer in _dense_layers(layers)}
    for path, (rank, alpha) in (lora or {}).items():
        dense[path].enable_lora(rank, lora_alpha=alpha)
    for path, settings in (quantized or {}).items():
        dense[path].quantize(settings["mode"], config=keras.saving.deserialize_keras_object(settings["config"]))


def plain_values(layers, values):
    """The weights of a model without adaptations that computes the same.

    Args:
        layers: List of layers.
        values: Dictionary from the identity of each of their variables to its value.

    Returns:
        Dictionary from path to NumPy array: LoRA factors are added to their kernels, int8 kernels are floats.

    Raises:
        ValueError: for kernels that are quantised otherwise.
    """
    plain = {variable.path: to_numpy(values[id(variable)]) for layer in layers for variable in layer.weights}
    for layer in _dense_layers(layers):
        paths = {variable.name: variable.path for variable in layer.weights}
        if layer.quantization_mode is not None:
            if layer.quantization_mode != "int8":
                raise ValueError(
                    "Only kernels that are quantised to int8 can be turned back into floats; take the model of before. "
                    f"Received: {layer.path}, quantised to {layer.quantization_mode}"
                )
            plain[paths["kernel"]] = plain[paths["kernel"]].astype("float32") / plain.pop(paths["kernel_scale"])
        if layer.lora_enabled:
            first, second = (plain.pop(paths[name]) for name in FACTORS)
            plain[paths["kernel"]] = plain[paths["kernel"]] + layer.lora_scale * (first @ second)
    return plain


def enable_lora(model, rank, alpha=None, filters=LORA_LAYERS):
    """Fine-tune with few trainable weights: a product of two thin matrices beside chosen kernels (Hu et al., 2021).

    Encoder and decoder are frozen but for the factors, the biases of their layers, class tokens and the mask token; the
    embeddings of timestep and label and the heads of terms are trained as before. The factors start at a product of 0,
    so that the model is what it was. Call `compile` afterwards; averages that were begun before go on with the factors.
    Files keep them beside the kernels; `merge_lora` makes a plain model.

    Example:

    >>> model = keras_umd.UMD.from_preset("umd_digits").with_classes(3)
    >>> model.enable_lora(8)
    >>> model.compile(keras_umd.recipes.finetuning_optimizer(total_steps=1000, batch_size=64))
    >>> model.fit(images, labels, verbose=0)
    >>> model.merge_lora().save("finetuned.keras")

    Args:
        rank: Integer, at least 1. Columns of the first factor, rows of the second.
        alpha: Positive float. The product is multiplied by `alpha / rank`. Defaults to `rank`.
        filters: Regular expression, or a list of them, for the names of the `Dense` layers of encoder and decoder; or a
            callable that gets a layer and returns a bool. `None` is for all. Defaults to queries and values.

    Raises:
        ValueError: for a model that has factors already or is quantised, and for filters that choose nothing.
    """
    check_integers(1, rank=rank)
    check_numbers("(0, inf)", optional=True, alpha=alpha)
    network = [model.encoder, model.decoder]
    chosen = [layer for layer in _dense_layers(network) if _is_chosen(layer, filters)]
    require(chosen, "`filters` must choose a Dense layer of encoder or decoder.", filters=filters)
    adapted = adaptations(model.network_layers())
    require(not adapted, "The model has LoRA factors or quantised kernels; take the one of before.", list(adapted))
    for layer in chosen:
        layer.enable_lora(int(rank), lora_alpha=alpha)
    with_factors = {id(layer) for layer in chosen}
    for part in network:
        for layer in part._flatten_layers():
            # Only layers without others in them: to freeze a block would freeze the factors too.
            if id(layer) not in with_factors and not layer._layers:
                layer.trainable = False
    model.train_function = model.test_function = model.predict_function = None
    model.compiled, model.optimizer = False, None  # which knows the variables of before


def merge_lora(model, weights="average"):
    """A new model that computes the same without LoRA factors: their product is added to the kernels.

    It starts without optimizer and without averages, all of it trainable. Kernels of int8 become floats.

    Example:

    >>> model.enable_lora(4)
    >>> plain = model.merge_lora()

    Args:
        weights: `"average"`, `"raw"` or a decay, as of `weight_values`.

    Returns:
        `UMD`, or the subclass that this model is of.
    """
    return plain_copy(model, weights)


def plain_copy(model, weights="average", **settings):
    """A new model of the same config with the `plain_values` of another, and with `settings` in place of its own."""
    left_out = ("name", "trainable", "frozen", "lora", "quantized")
    config = {name: value for name, value in model.get_config().items() if name not in left_out}
    copy = type(model).from_config({**config, "ema_decays": [], **settings})
    layers = [*model.network_layers(), model.objective]
    values = dict(zip(map(id, model.network_weights), model.weight_values(weights), strict=True))
    values |= {id(variable): variable.value for variable in model.objective.weights}
    plain = plain_values(layers, values)
    for variable in (*copy.network_weights, *copy.objective.weights):
        variable.assign(plain[variable.path])
    copy.autoencoder = model.autoencoder
    return copy


def quantize(model, keras_quantize, mode, config, filters, weights):
    """Quantise the kernels of a `UMD`; see `UMD.quantize`. What can be wrong is found before anything changes.

    Keras has checked `mode` and `config`, and made each of the other.
    """
    if mode not in QUANTIZATION_MODES:
        raise ValueError(
            f"`mode` must be one of {QUANTIZATION_MODES}: others need training or data. Received: mode={mode!r}"
        )
    if any(layer.quantization_mode is not None for layer in _dense_layers(model.network_layers())):
        raise ValueError(f"The model is quantised already; take the one of before. Received: mode={mode!r}")
    chosen = {id(layer) for layer in _dense_layers(model.network_layers()) if _is_chosen(layer, filters)}
    if not chosen:
        raise ValueError(f"`filters` must choose a Dense layer of the network. Received: filters={filters!r}")
    values = [to_numpy(value) for value in model.weight_values(weights)]
    for variable, value in zip(model.network_weights, values, strict=True):
        variable.assign(value)
    model.track_average([])
    keras_quantize(mode, config=config, filters=lambda layer: id(layer) in chosen)
    model.compiled, model.optimizer = False, None


def _dense_layers(layers):
    return [layer for part in layers for layer in part._flatten_layers() if isinstance(layer, Dense)]


def _is_chosen(layer, filters):
    """As Keras reads `filters`."""
    if filters is None or callable(filters):
        return filters is None or bool(filters(layer))
    try:
        return any(re.search(pattern, layer.name) for pattern in ([filters] if isinstance(filters, str) else filters))
    except (TypeError, re.error) as error:
        raise ValueError(
            "`filters` must be None, a callable, or a regular expression for names of layers or a list of them. "
            f"Received: filters={filters!r}"
        ) from error
