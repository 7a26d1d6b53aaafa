"""A training in files: the model, or its whole state with weights, averages, optimizer and random sequence."""

import os
import shutil

from keras_umd.backend.processes import is_first_process, is_spread, on_own_device, to_numpy, wait_for_all
from keras_umd.utils.atomic import write_whole


def save_model(model, path):
    """Save a compiled model as a `.keras` file, also one whose weights are spread over processes; all must call it."""
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
    """Save the state of a compiled model in `directory`; all processes must call it.

    The first one writes an h5 file. Where weights are spread over processes all write their parts, through Orbax.

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
    """Load what `save_state` returned the name of, in any number of processes, with any distribution of the weights."""
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
    """Remove all files and folders of states from `directory`, also such that were never finished, but one."""
    for name in os.listdir(directory):
        if name == but or not name.split(".")[0].isdigit():
            continue
        path = os.path.join(directory, name)
        shutil.rmtree(path) if os.path.isdir(path) else os.remove(path)


def _variables(model):
    """The model's and its optimizer's, without a data set that stays on the device while it trains."""
    data = {id(variable) for layer in getattr(model, "_device_layers", ()) for variable in layer.variables}
    return [variable for variable in model.variables if id(variable) not in data] + model.optimizer.variables


def _values(model):
    return [variable.value for variable in _variables(model)]


def _orbax():
    try:
        import orbax.checkpoint
    except ImportError as error:
        raise ImportError(
            "Backups of weights that are spread over processes need orbax: pip install 'keras_umd[distributed]'"
        ) from error
    return orbax.checkpoint
