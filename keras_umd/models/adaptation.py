"""LoRA factors and quantised kernels, which users add to a model: in its config, and undone where others take weights.

Both add or replace variables. So weights are found by their paths, and what has no partner is named.
"""

import re

import keras

from keras_umd.backend.processes import to_numpy
from keras_umd.layers.dense import FACTORS, Dense

QUANTIZATION_MODES = ("int8", "int4")


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
