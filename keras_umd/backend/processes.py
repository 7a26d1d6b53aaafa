"""Several processes that train one model together, each with its own devices: on JAX and on PyTorch."""

import contextlib

import keras
import numpy as np
from keras import ops

from keras_umd.backend.frameworks import jax, torch


def num_processes():
    """The number of processes that train together; 1 without a distributed backend."""
    return _rank_and_size()[1]


def process_index():
    """The index of this process, from 0 on."""
    return _rank_and_size()[0]


def is_first_process():
    """Whether this process prints and writes files: process 0, or the only one.

    Example:

    >>> if keras_umd.distribution.is_first_process():
    ...     print("this process writes")
    this process writes
    """
    return process_index() == 0


def _rank_and_size():
    if jax:
        return jax.process_index(), jax.process_count()
    if torch and torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


def progress_bar(num_images, verbose):
    """A callable that is told how many of `num_images` (`None`: unknown) are done, and shows Keras' bar if asked to.

    Args:
        num_images: Integer or `None`.
        verbose: Bool, or `"auto"`: as Keras' interactive logging is set. Of several processes, the first one shows it.
    """
    if verbose == "auto":
        verbose = keras.config.is_interactive_logging_enabled()
    if not verbose or not is_first_process():
        return lambda done: None
    return keras.utils.Progbar(num_images, unit_name="image").update


def broadcast_from_first(value):
    """Broadcast an int or bool from process 0. A collective: every process must call it.

    Clocks and files differ between hosts; where a host decides by them which program to run next, the others would wait
    for ever in another one.
    """
    if num_processes() == 1:
        return value
    if jax:
        from jax.experimental import multihost_utils

        return type(value)(multihost_utils.broadcast_one_to_all(np.asarray(int(value), "int32")))
    values = [value]
    torch.distributed.broadcast_object_list(values)
    return values[0]


def largest_of_processes(number):
    """The largest of the integers of all processes. A collective: every process must call it."""
    if num_processes() == 1:
        return number
    if jax:
        from jax.experimental import multihost_utils

        return int(multihost_utils.process_allgather(np.asarray(number, "int32")).max())
    numbers = [None] * num_processes()
    torch.distributed.all_gather_object(numbers, number)
    return max(numbers)


def wait_for_all():
    """A barrier: return when all processes have called it."""
    broadcast_from_first(0)


def is_spread(x):
    """Whether the tensor `x` is sharded, so that each process has only a part of it."""
    return bool(jax) and isinstance(x, jax.Array) and not (x.is_fully_addressable or x.is_fully_replicated)


def to_numpy(x):
    """The tensor or variable `x` as a NumPy array. A collective where `x` is sharded over processes."""
    x = x.value if isinstance(x, keras.Variable) else x
    if not is_spread(x):
        return ops.convert_to_numpy(x)
    from jax.experimental import multihost_utils

    return multihost_utils.process_allgather(x, tiled=True)


@contextlib.contextmanager
def on_own_device(platform=None):
    """A context without Keras' distribution: new variables and computations are this process' own, on its first device.

    With the distribution, each would be a collective, and wait for the other processes. Tensors of the training can be
    read, by `to_numpy`.

    Args:
        platform: `"cpu"` for its host's memory, or `None`.
    """
    is_alone = not jax or num_processes() == 1
    distribution = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    try:
        with contextlib.nullcontext() if is_alone else jax.default_device(jax.local_devices(backend=platform)[0]):
            yield
    finally:
        keras.distribution.set_distribution(distribution)
