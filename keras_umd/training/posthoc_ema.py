"""Post-hoc EMA: averages of any width, made after the training from snapshots of two (Karras et al., 2312.02696).

The best length of an average is known only when images were judged, and then the training is over. Averages whose
weights are power functions of time are nearly linear combinations of each other, so that snapshots of two widths, taken
now and then, give all others by least squares.
"""

import os
import re

import keras
import numpy as np

from keras_umd.backend.processes import is_first_process, to_numpy
from keras_umd.utils import storage
from keras_umd.utils.arrays import read_arrays, reading
from keras_umd.utils.atomic import make_folder, write_whole
from keras_umd.utils.checks import check_integers, check_one_of, check_paths, check_positive_integers, require
from keras_umd.utils.power_profile import PowerProfile, reconstruction_weights

NAME = re.compile(r"average-(\d{10})\.npz")
REMEDY = "Delete it, where others are left; or take a copy from elsewhere"


class SnapshotAverages(keras.callbacks.Callback):
    """Keeps snapshots of a model's averages with a `PowerProfile`, from which `posthoc_average` makes others.

    Example:

    >>> model.compile(recipes.AdamW(2e-4, ema_decay=[recipes.PowerProfile(0.05), recipes.PowerProfile(0.10)]))
    >>> snapshots = callbacks.SnapshotAverages("runs/a/averages", every=1)
    >>> model.fit(images, batch_size=8, epochs=2, callbacks=[snapshots])

    Args:
        directory: String or path. Gets a file `average-0000001000.npz` of each snapshot, named by the updates before;
            one that is there already is written anew.
        every: Integer, the epochs between two snapshots; another one is taken at the end of the training.
        dtype: `"float32"`, or `"float16"` for files of half the size, whose rounding of 0.05% reconstructions share.
    """

    def __init__(self, directory, every=1, dtype="float32"):
        super().__init__()
        check_paths(directory=directory)
        check_positive_integers(every=every)
        check_one_of(("float32", "float16"), dtype=dtype)
        self.directory = os.fspath(directory)
        self.every = int(every)
        self.dtype = dtype
        self._saved = None

    def __repr__(self):
        return f"<SnapshotAverages: {self.directory!r}, every={self.every}, dtype={self.dtype!r}>"

    def on_train_begin(self, logs=None):
        _power_averages(self.model)  # raises where there are none, before the training

    def on_epoch_end(self, epoch, logs=None):
        if (epoch + 1) % self.every == 0:
            self._save()

    def on_train_end(self, logs=None):
        self._save()

    def _save(self):
        averages = _power_averages(self.model)
        counts = {int(to_numpy(average.num_updates)) for average in averages}
        require(len(counts) == 1, "Averages of one training must have begun together.", f"updates of {sorted(counts)}")
        (num_updates,) = counts
        if num_updates in (0, self._saved):
            return
        paths = [variable.path for variable in self.model.network_weights]
        arrays = {"stds": np.array([average.decay.std for average in averages])}
        for i, average in enumerate(averages):
            for path, value in zip(paths, average.averages, strict=True):
                arrays[f"{i}/{path}"] = to_numpy(value).astype(self.dtype)
        self._saved = num_updates
        if is_first_process():
            make_folder(self.directory)
            size = sum(array.nbytes for array in arrays.values())
            path = os.path.join(self.directory, f"average-{num_updates:010d}.npz")
            write_whole(path, lambda temporary: np.savez(temporary, **arrays), needed_bytes=size)


def posthoc_average(model, directory, std, num_updates=None):
    """Make an average of any width from snapshots, and keep it as one of the model's averages.

    Example:

    >>> profile = recipes.posthoc_average(model, "runs/a/averages", std=0.13)                           # doctest: +SKIP
    >>> model.generate(num_images=16, weights=profile)                                                  # doctest: +SKIP

    Args:
        model: `UMD` with the weights that the snapshots are of. It is given the average as if it had tracked it; a
            `track_average` or a file without it drops it again.
        directory: String or path, of `callbacks.SnapshotAverages`.
        std: Float in (0, 0.28], see `PowerProfile`. From snapshots of 0.05 and 0.10, widths of 0.03 to 0.2 are good.
        num_updates: Integer, the updates after which the average is wanted, at most those of the last snapshot, which
            is the default.

    Returns:
        `PowerProfile`, what to pass as `weights` to `generate`, `encode`, `evaluation.select`, ...

    Raises:
        ValueError: without snapshots, for those of another model, and for an average that the model tracks itself.
        DamagedFileError: naming a snapshot that isn't what was written.
    """
    require(hasattr(model, "track_average"), "`model` must be a keras_umd.UMD.", model=model)
    check_paths(directory=directory)
    check_integers(1, optional=True, num_updates=num_updates)
    profile = PowerProfile(std)
    files = _snapshots(directory)
    last = max(files)
    num_updates = last if num_updates is None else int(num_updates)
    require(num_updates <= last, f"`num_updates` must be at most {last}, the last snapshot.", num_updates=num_updates)
    own = [average.decay for average in model.averages]
    stds = _stds(files[last])
    require(
        profile not in own or profile.std not in stds,
        "The model tracks this average itself; pass it as `weights`.",
        std=std,
    )
    values = _mixed(files, profile, num_updates, {v.path: tuple(v.shape) for v in model.network_weights})
    model.track_average([*own, profile] if profile not in own else own)
    average = next(average for average in model.averages if average.decay == profile)
    for variable, target in zip(model.network_weights, average.averages, strict=True):
        target.assign(values[variable.path].astype("float32"))
    average.num_updates.assign(float(num_updates))
    return profile


def _power_averages(model):
    averages = [average for average in getattr(model, "averages", ()) if isinstance(average.decay, PowerProfile)]
    require(
        averages,
        "Snapshots need a UMD that tracks averages with a PowerProfile; pass "
        "`ema_decay=[PowerProfile(0.05), PowerProfile(0.10)]` to its optimizer.",
        f"averages of {[average.decay for average in getattr(model, 'averages', ())]}",
    )
    return averages


def _snapshots(directory):
    """Dictionary from updates to paths."""
    names = storage.names(os.fspath(directory)) if storage.exists(os.fspath(directory)) else []
    found = [match for match in map(NAME.fullmatch, sorted(names)) if match]
    require(found, "The directory must hold snapshots, as `callbacks.SnapshotAverages` writes.", directory=directory)
    return {int(match[1]): os.path.join(os.fspath(directory), match[0]) for match in found}


def _read(path):
    with storage.local_copy(path) as local:
        return read_arrays(local, REMEDY)


def _stds(path):
    with storage.local_copy(path) as local, reading(local, REMEDY), np.load(local) as arrays:
        return [float(std) for std in arrays["stds"]]  # this array alone


def _mixed(files, profile, num_updates, shapes):
    """The average by path, summed in float64, with one snapshot in memory at a time."""
    exponents, times, keys = [], [], []
    for time, path in files.items():
        for i, std in enumerate(_stds(path)):
            exponents.append(PowerProfile(std).exponent)
            times.append(time)
            keys.append((time, i))
    mixture = dict(zip(keys, reconstruction_weights(exponents, times, profile.exponent, num_updates), strict=True))
    sums = {path: np.zeros(shape) for path, shape in shapes.items()}
    for time, file in files.items():
        arrays = _read(file)
        for i in range(len(arrays["stds"])):
            for path, total in sums.items():
                values = arrays.get(f"{i}/{path}")
                require(
                    values is not None and values.shape == total.shape,
                    "The snapshots must be of this model.",
                    f"{file} without {path} of shape {total.shape}",
                )
                total += mixture[time, i] * values.astype("float64")
    return sums
