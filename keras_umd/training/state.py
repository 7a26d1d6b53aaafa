"""The state of a training, as arrays on the host: weights, averages, optimizer, seeds; and the model's own file."""

import os

import keras
import numpy as np

from keras_umd.backend.processes import is_first_process, is_spread, on_own_device, to_numpy
from keras_umd.utils.arrays import is_finite, with_type
from keras_umd.utils.atomic import DamagedFileError, write_whole
from keras_umd.utils.checks import require
from keras_umd.utils.optional import import_optional
from keras_umd.utils.variable_names import by_name

GUARD = "guard/"  # what `callbacks.Guard` remembers; a checkpoint may have it or not


def training_variables(model):
    """The variables of the model and its optimizer by name, without those of a data set on the device."""
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    data = {id(variable) for layer in getattr(model, "_device_layers", ()) for variable in layer.variables}
    own = [variable for variable in model.variables if id(variable) not in data]
    optimizer = [variable for variable in model.optimizer.variables if not variable.path.startswith("guarded/")]
    named = {f"model/{name}": variable for name, variable in by_name(own).items()}
    named |= {f"optimizer/{name}": variable for name, variable in by_name(optimizer).items()}
    return named | {f"{GUARD}{v.name}": v for guard in getattr(model, "guards", ()) for v in guard.variables}


def is_spread_over_processes(model):
    """Whether each process has only a part of the weights."""
    return any(is_spread(variable.value) for variable in training_variables(model).values())


def _values(model):
    """All values on the host by name, perhaps in the memory of the variables."""
    return {name: to_numpy(variable) for name, variable in training_variables(model).items()}


def snapshot(model):
    """Copies of all values on the host, which the training doesn't change any more, by name."""
    return {name: np.array(value) for name, value in _values(model).items()}


def check_is_worth_saving(arrays):
    """A FloatingPointError that names the first array with NaN or an infinity."""
    for name, array in arrays.items():
        if not is_finite(array):
            raise FloatingPointError(
                f"The training went wrong: {name} isn't finite any more. Nothing was saved: the last checkpoint "
                "stays as it is; resume from it with a lower learning rate, or with `keras_umd.callbacks.Guard`"
            )


def restore(model, arrays):
    """Assign what `snapshot` took, after all names and shapes were compared: an error leaves the model as it was.

    Args:
        model: Compiled model.
        arrays: Dictionary of arrays, or an `.npz` file that NumPy opened.
    """
    variables, known = training_variables(model), set(arrays.keys())
    guards = {name for name in variables if name.startswith(GUARD)}
    if any(name not in known or arrays[name].shape != tuple(variables[name].shape) for name in guards):
        for name in guards:  # a guard that was not there, or had another window, begins anew
            del variables[name]
    missing = sorted(variables.keys() - known)
    unknown = sorted(name for name in known - variables.keys() if not name.startswith(GUARD))
    require(
        not missing and not unknown,
        "The checkpoint must be of this model and optimizer.",
        f"one without {missing[:5]}, and with {unknown[:5]} ({len(missing)} and {len(unknown)} in all)",
    )
    values = {name: with_type(arrays[name], variable.dtype) for name, variable in variables.items()}
    for name, variable in variables.items():
        shape = tuple(variable.shape)
        require(values[name].shape == shape, f"{name} must have the shape {shape}.", f"shape {values[name].shape}")
    for name, variable in variables.items():
        variable.assign(values[name])


def running_means(model):
    """What the losses of an epoch that goes on have been so far: floats by name, of sums and counts."""
    return {name: float(to_numpy(variable)) for name, variable in _means(model).items()}


def set_running_means(model, values):
    """Go on with what `running_means` gave; means that it hasn't begin anew."""
    for name, variable in _means(model).items():
        if name in values:
            variable.assign(values[name])


def _means(model):
    metrics = [metric for metric in model.metrics if isinstance(metric, keras.metrics.Mean)]
    return by_name([variable for metric in metrics for variable in metric.variables])


def write_arrays(path, arrays):
    """Write a snapshot as an uncompressed `.npz` file."""
    np.savez(path, **arrays)


def read_arrays(path):
    """Open the file of `write_arrays`."""
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, OSError, KeyError) as error:
        raise DamagedFileError(f"{path} is damaged: {error}") from error


def write_shards(model, path):
    """Write weights that are spread over processes, each process its own, through Orbax. A collective."""
    values = {name: variable.value for name, variable in training_variables(model).items()}
    with _orbax().StandardCheckpointer() as checkpointer:
        checkpointer.save(os.path.abspath(path), values, force=True)


def read_shards(model, path):
    """Assign what `write_shards` wrote, with any number of processes and distribution of weights. A collective."""
    variables = training_variables(model)
    with _orbax().StandardCheckpointer() as checkpointer:
        values = checkpointer.restore(os.path.abspath(path), {name: v.value for name, v in variables.items()})
    for name, variable in variables.items():
        variable.assign(values[name])


def _orbax():
    return import_optional(
        "orbax.checkpoint",
        "Checkpoints of weights that are sharded over processes need orbax: pip install 'keras_umd[distributed]'",
    )


def save_model(model, path):
    """Save a compiled model as a `.keras` file, atomically. A collective where weights are sharded over processes.

    Raises:
        FloatingPointError: for weights that aren't finite; the file of before stays.
        OSError: where the disk is full; the file of before stays.
    """
    is_whole = not is_spread_over_processes(model)
    if is_whole and not is_first_process():
        return
    values = _values(model)
    check_is_worth_saving(values)
    if not is_first_process():
        return
    with on_own_device("cpu"):
        if not is_whole:
            config = model.get_compile_config()
            model = type(model).from_config(model.get_config())
            model.compile_from_config(config)
            restore(model, values)
        # Keras writes HDF5, which crashes the process on a full disk, to a file where memory is short.
        num_bytes = sum(value.nbytes for value in values.values())
        write_whole(path, lambda temporary: keras.saving.save_model(model, temporary), needed_bytes=2 * num_bytes)
