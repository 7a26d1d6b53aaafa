"""Files of a training: the model, or its whole state of weights, averages, optimizer and seeds."""

import os
import shutil

from keras_umd.backend.processes import is_first_process, is_spread, on_own_device, to_numpy, wait_for_all
from keras_umd.utils.atomic import write_whole
from keras_umd.utils.optional import import_optional


def save_model(model, path):
    """Save a compiled model as a `.keras` file, atomically. A collective where weights are sharded over processes."""
    is_whole = not any(map(is_spread, _values(model)))
    values = None if is_whole else [to_numpy(value) for value in _values(model)]
    if not is_first_process():
        return
    with on_own_device("cpu"):
        if not is_whole:
            config = model.get_compile_config()
            model = type(model).from_config(model.get_config())
            model.compile_from_config(config)
            for variable, value in zip(_variables(model), values, strict=True):
                variable.assign(value)
        write_whole(path, model.save)


def save_state(model, directory, name):
    """Save the state of a compiled model in `directory`. A collective: every process must call it.

    The first one writes an h5 file. Where weights are sharded over processes, all write their shards, through Orbax.

    Returns:
        String, `name` with the suffix of the file or folder.
    """
    if any(map(is_spread, _values(model))):
        name += ".orbax"
        with _orbax().StandardCheckpointer() as checkpointer:
            checkpointer.save(os.path.abspath(os.path.join(directory, name)), _values(model), force=True)
    else:
        name += ".weights.h5"
        if is_first_process():
            with on_own_device("cpu"):
                model.save_weights(os.path.join(directory, name))
    wait_for_all()
    return name


def load_state(model, directory, name):
    """Load the state whose name `save_state` returned, in any number of processes, with any distribution of weights."""
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    path = os.path.join(directory, name)
    if not name.endswith(".orbax"):
        model.load_weights(path)
        return
    with _orbax().StandardCheckpointer() as checkpointer:
        values = checkpointer.restore(os.path.abspath(path), _values(model))
    for variable, value in zip(_variables(model), values, strict=True):
        variable.assign(value)


def remove_states(directory, but=None):
    """Remove all states from `directory` except `but`, unfinished ones too."""
    for name in os.listdir(directory):
        if name != but and name.split(".")[0].isdigit():
            path = os.path.join(directory, name)
            shutil.rmtree(path) if os.path.isdir(path) else os.remove(path)


def _variables(model):
    """The variables of the model and its optimizer, without those of a data set on the device."""
    data = {id(variable) for layer in getattr(model, "_device_layers", ()) for variable in layer.variables}
    return [variable for variable in model.variables if id(variable) not in data] + model.optimizer.variables


def _values(model):
    return [variable.value for variable in _variables(model)]


def _orbax():
    return import_optional(
        "orbax.checkpoint",
        "Backups of weights that are sharded over processes need orbax: pip install 'keras_umd[distributed]'",
    )
