"""Folders that hold a model, or an objective, with its weights: to be loaded on any backend, and shared.

    config.json          class and settings, as Keras serialises them
    metadata.json        format, versions, preprocessing, results, licence
    weights.safetensors  all weights and averages by their names
    manifest.json        sizes and checksums of these three, written last
    README.md            the model card, which may be edited

A folder of others runs nothing: weights are plain arrays, and `config.json` may name registered classes alone.
"""

import json
import os
import re

import keras
import ml_dtypes
import numpy as np

from keras_umd.backend.devices import backend_version
from keras_umd.backend.processes import broadcast_from_first, is_first_process, to_numpy, wait_for_all
from keras_umd.utils import hub, storage
from keras_umd.utils.arrays import is_finite, is_float
from keras_umd.utils.atomic import (
    MANIFEST,
    DamagedFileError,
    check_space,
    folder_written_whole,
    read_json,
    read_manifest,
    write_json,
    write_manifest,
    write_text,
)
from keras_umd.utils.checks import check_bools, check_instances, check_one_of, check_paths, require
from keras_umd.utils.model_card import model_card
from keras_umd.utils.preset_sizes import check_sizes
from keras_umd.utils.safetensors import read_safetensors, write_safetensors

CONFIG, METADATA, WEIGHTS, CARD = "config.json", "metadata.json", "weights.safetensors", "README.md"
FILES = (CONFIG, METADATA, WEIGHTS, MANIFEST, CARD)
FORMAT = 1
DTYPES = {"float32": np.dtype("float32"), "float16": np.dtype("float16"), "bfloat16": np.dtype(ml_dtypes.bfloat16)}
# Of Keras' own classes, those that compute with their weights and do nothing else: others run code that a config holds,
# or load files that it names.
PLAIN_MODULES = ("keras.initializers", "keras.regularizers", "keras.constraints", "keras.quantizers")
PLAIN_LAYERS = [
    "Activation",
    "Add",
    "BatchNormalization",
    "Concatenate",
    "Dense",
    "Dropout",
    "EinsumDense",
    "Embedding",
    "Flatten",
    "GroupNormalization",
    "InputLayer",
    "LayerNormalization",
    "ReLU",
    "RMSNormalization",
    "Reshape",
]
REMEDY = "Take a copy of the preset from elsewhere, or save it again"


def config_of(keras_object):
    """What `config.json` holds: class and settings, without those of `compile`."""
    config = keras.saving.serialize_keras_object(keras_object)
    return {name: value for name, value in config.items() if name not in ("compile_config", "build_config")}


def write_preset(folder, config, values, preprocessing, *, dtype=None, results=(), license=None, description=None):
    """Write a folder with a model or an objective. A collective where weights are sharded over processes.

    Args:
        folder: String or path, of a folder that isn't there yet, or is empty; `gs://` and others through fsspec.
        config: Dictionary, of `config_of`.
        values: Dictionary from names to tensors.
        preprocessing: Dictionary of JSON values.
        dtype, results, license, description: As of `UMD.save_to_preset`.
    """
    _check_arguments(folder, dtype, results, license, description)
    folder = os.fspath(folder)
    check_is_safe(config, "The settings")
    if broadcast_from_first(is_first_process() and _is_taken(folder)):
        raise FileExistsError(f"{folder} exists, and isn't an empty folder; choose another, or remove it")
    arrays = {name: _stored(name, to_numpy(value), dtype) for name, value in values.items()}
    if is_first_process():
        metadata = {
            "format": FORMAT,
            "kind": config["class_name"],
            "description": description,
            "license": license,
            "parameters": sum(array.size for name, array in arrays.items() if not name.startswith("averages/")),
            "averages": len(config["config"].get("ema_decays", [])),
            "preprocessing": preprocessing,
            "versions": _versions(),
            "results": [result.card for result in results],
        }
        _write_folder(folder, config, metadata, arrays)
    wait_for_all()


def _check_arguments(folder, dtype, results, license, description):
    check_paths(folder=folder)
    is_local = not hub.is_hub(os.fspath(folder))
    require(is_local, "`folder` must be a folder; `weights.upload` copies it to a hub.", folder=folder)
    check_one_of((None, *DTYPES), dtype=dtype)
    is_list = isinstance(results, (list, tuple)) and all(isinstance(getattr(r, "card", None), dict) for r in results)
    require(is_list, "`results` must be a list of keras_umd.evaluation.Result.", results=results)
    check_instances(str, "a string", optional=True, license=license, description=description)
    is_identifier = license is None or re.fullmatch(r"[\w.+-]+", license)
    require(is_identifier, "`license` must be the identifier of a licence, as 'apache-2.0'.", license=license)


def _is_taken(folder):
    return os.path.isfile(folder) or bool(storage.names(folder))


def _stored(name, array, dtype):
    if dtype is not None and is_float(array):
        with np.errstate(over="ignore"):  # found below
            array = array.astype(DTYPES[dtype])
    if not is_finite(array):
        raise FloatingPointError(f"{name} isn't finite as {array.dtype}; nothing was saved")
    return array


def _versions():
    import keras_umd

    return {"keras_umd": keras_umd.__version__, "keras": keras.__version__, "backend": backend_version()}


def _write_folder(folder, config, metadata, arrays):
    """Write all files to a folder beside it, which gets its name when it is whole."""
    path = folder if storage.is_remote(folder) else os.path.abspath(folder)
    name = os.path.basename(path.rstrip("/\\"))
    with folder_written_whole(folder) as temporary:
        check_space(temporary, sum(array.nbytes for array in arrays.values()))
        write_json(os.path.join(temporary, CONFIG), config)
        write_json(os.path.join(temporary, METADATA), metadata)
        write_safetensors(os.path.join(temporary, WEIGHTS), arrays, {"format": "keras_umd"})
        write_manifest(temporary)
        write_text(os.path.join(temporary, CARD), model_card(name, metadata))


def read_preset(cls, preset, load_weights, overrides):
    """The object that `write_preset` wrote.

    Args:
        cls: Class that it must be of. It has a method `preset_variables`.
        preset: String or path: a folder, also a remote one, or an address on a hub.
        load_weights: Bool or `None`. `False` is for fresh weights.
        overrides: Dictionary, settings that replace those of the folder.

    Raises:
        ValueError: for an object of another class, for settings with which the weights don't fit, and for classes
            that aren't registered.
        DamagedFileError: a ValueError, for a folder that isn't whole.
    """
    check_paths(preset=preset)
    check_bools(optional=True, load_weights=load_weights)
    preset = os.fspath(preset)
    folder = hub.download(preset, FILES) if hub.is_hub(preset) else preset
    with storage.local_copy(folder) as local:
        read_description(local)
        config = read_json(os.path.join(local, CONFIG), REMEDY)
        try:
            check_sizes(config, os.path.getsize(os.path.join(local, WEIGHTS)), folder)
            made = _made(cls, config, overrides, folder)
        except RecursionError as error:
            raise DamagedFileError(f"The settings of {folder} are nested too deeply. {REMEDY}") from error
        if load_weights is not False:
            _assign(made.preset_variables(), read_safetensors(os.path.join(local, WEIGHTS), REMEDY), folder)
    return made


def read_description(folder):
    """What `metadata.json` holds, after all files were compared with their checksums."""
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"There is no folder {folder}")
    if not os.path.exists(os.path.join(folder, MANIFEST)):
        raise DamagedFileError(
            f"{folder} is no preset, or an incomplete one: it has no {MANIFEST}, which is written last. {REMEDY}"
        )
    files = read_manifest(folder)["files"]
    metadata = read_json(os.path.join(folder, METADATA), REMEDY) if METADATA in files else {}
    if set(files) != {CONFIG, METADATA, WEIGHTS} or metadata.get("format") != FORMAT:
        raise DamagedFileError(
            f"{folder} must be a preset of format {FORMAT}. {REMEDY}. Received: format={metadata.get('format')!r}, "
            f"and the files {sorted(files)}"
        )
    return metadata


def _made(cls, config, overrides, folder):
    """The object of a config, with fresh weights."""
    check_is_safe(config, folder)
    name = config.get("registered_name")
    kind = keras.saving.get_registered_object(name) if isinstance(name, str) else None
    if not (isinstance(kind, type) and issubclass(kind, cls)) or not isinstance(config.get("config"), dict):
        raise ValueError(
            f"The preset {folder} holds {config.get('class_name')}, and {cls.__name__}.from_preset loads "
            f"{cls.__name__}. Load it by its own class; of a UMD's folder, "
            "`UMD.from_preset(folder).feature_extractor()` is the extractor."
        )
    return kind.from_config({**config["config"], **overrides})


def check_is_safe(config, source):
    """A ValueError for a config with a class that Keras would import by its name, or with code.

    Args:
        config: JSON values.
        source: String, where it is from, for the error.
    """
    if isinstance(config, list):
        for value in config:
            check_is_safe(value, source)
    if not isinstance(config, dict):
        return
    if "class_name" in config:
        kind = str(config["class_name"])
        # Keras looks a function up by its `config`, and what begins with "__" not at all.
        name = config.get("config" if kind == "function" else "registered_name")
        is_known = isinstance(name, str) and not kind.startswith("__")
        is_registered = is_known and keras.saving.get_registered_object(name) is not None
        if not (is_registered or _is_plain(kind, str(config.get("module")))):
            raise ValueError(
                f"{source} names a class that isn't registered, which a preset's folder can't bring along; register it "
                "by `keras.saving.register_keras_serializable`, and import its module before. "
                f"Received: {json.dumps({key: config.get(key) for key in ('module', 'class_name', 'registered_name')})}"
            )
    for value in config.values():
        check_is_safe(value, source)


def _is_plain(name, module):
    """Whether a class of Keras computes with its weights and does nothing else."""
    if module in PLAIN_MODULES or name == "__tuple__":
        return name != "function"
    if module == "keras":
        return name in ("DTypePolicy", "DTypePolicyMap", "FloatDTypePolicy", "QuantizedDTypePolicy", "Sequential")
    return module == "keras.layers" and name in PLAIN_LAYERS


def _assign(variables, arrays, folder):
    """Give variables their values by name, after everything was compared: an error leaves all as they were."""
    problems = [f"missing: {name}" for name in variables.keys() - arrays.keys()]
    problems += [f"unknown: {name}" for name in arrays.keys() - variables.keys()]
    for name in variables.keys() & arrays.keys():
        shape, dtype = tuple(variables[name].shape), variables[name].dtype
        if arrays[name].shape != shape:
            problems.append(f"shape of {name}: {arrays[name].shape} instead of {shape}")
        elif arrays[name].dtype.name != dtype and not (is_float(arrays[name]) and "float" in dtype):
            problems.append(f"type of {name}: {arrays[name].dtype} instead of {dtype}")
    if problems:
        listed = "\n".join(sorted(problems))
        raise ValueError(
            f"The weights of {folder} don't fit settings that differ from its own; leave these out, or load none of "
            f"them with load_weights=False.\n{listed}"
        )
    for name, variable in variables.items():
        variable.assign(arrays[name].astype(variable.dtype) if "float" in variable.dtype else arrays[name])
