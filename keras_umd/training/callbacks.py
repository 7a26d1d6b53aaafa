"""Callbacks for long runs."""

import json
import os
import shutil
import warnings

import keras

from keras_umd.backend.processes import broadcast_from_first, is_first_process, wait_for_all
from keras_umd.training.guard import Guard
from keras_umd.training.monitor import Monitor
from keras_umd.training.state_files import load_state, remove_states, save_model, save_state
from keras_umd.training.throughput import Throughput
from keras_umd.utils.atomic import write_json

__all__ = ["BackupAndRestore", "Guard", "ModelFile", "Monitor", "Throughput", "resumable"]


class BackupAndRestore(keras.callbacks.Callback):
    """Resumes a `fit` that was stopped: its weights, optimizer, epoch, and the batch that was next.

    `keras.callbacks.BackupAndRestore` repeats the epoch that was stopped, so that learning rates end too early, and
    loses its backup if it is killed while it writes. Here backups are written atomically.

    Several processes that train together need the same directory. The first one writes; weights that are sharded over
    the processes are written by all, through Orbax.

    Args:
        backup_dir: String or path. Deleted when the training is complete.
        dataset: `keras_umd.data.Dataset`, the one that `fit` gets, without `steps_per_epoch`. Another one than that of
            the backup is refused. With `None`, for all other data, the epoch is repeated.
        save_freq: `"epoch"`, or an integer, the steps between two backups; after each epoch there is one anyway.

    Raises:
        ValueError: in `fit`, for a backup of other data, or where processes see different directories.
    """

    def __init__(self, backup_dir, *, dataset=None, save_freq="epoch"):
        super().__init__()
        if save_freq != "epoch" and (not isinstance(save_freq, int) or save_freq < 1):
            raise ValueError(f"`save_freq` must be 'epoch' or a positive integer. Received: save_freq={save_freq!r}")
        self.backup_dir = os.fspath(backup_dir)
        self.dataset = dataset
        self.save_freq = save_freq
        self._path = os.path.join(self.backup_dir, "state.json")
        self._ignored_warnings = None

    def __repr__(self):
        return f"<BackupAndRestore: {self.backup_dir!r}, save_freq={self.save_freq!r}, dataset={self.dataset}>"

    def on_train_begin(self, logs=None):
        self._stop_ignoring_warnings()  # an earlier `fit` may have been stopped in its first epoch
        if self.dataset is not None and (self.dataset.is_repeated or self.params["steps"] != len(self.dataset)):
            raise ValueError(
                "`fit` must take the data set of its backups, in whole epochs, without `steps_per_epoch`. "
                f"Received: {self.params['steps']} steps an epoch, dataset={self.dataset}"
            )
        os.makedirs(self.backup_dir, exist_ok=True)
        self._epoch, self._batch = 0, 0
        self._num_backups, self._num_since_backup = 0, 0
        exists = os.path.exists(self._path)
        if exists != broadcast_from_first(exists):
            raise ValueError(
                f"All processes must have the same `backup_dir`, on a disk that all see. The first process has "
                f"{'no' if exists else 'a'} backup there, this one not. Received: backup_dir={self.backup_dir}"
            )
        if exists:
            self._restore()
        elif self.dataset is not None:
            self.dataset.rewind()
        self._num_skipped = self._batch  # of the epoch that goes on
        self._num_trained = 0  # since here
        self._start = None if self.dataset is None else self.dataset.get_state()

    def _restore(self):
        with open(self._path) as file:
            state = json.load(file)
        if self.dataset is not None:
            if "dataset" not in state:
                raise ValueError(
                    "The backup was made without `dataset`, and says nothing of the place in it; delete it, or go on "
                    f"without. Received: dataset={self.dataset}, backup_dir={self.backup_dir}"
                )
            place = state["dataset"]
            # The file has the shard of the first process, which wrote it.
            place["dataset"]["shard_index"] = self.dataset.identity["shard_index"]
            self.dataset.set_state(place)
            self._batch = state["batch"]
        load_state(self.model, self.backup_dir, state["weights"])
        self._epoch = self.model._initial_epoch = state["epoch"]
        self._num_backups = state["number"]
        if self._batch:
            # Keras would warn that data ran out: the rest of the epoch is shorter than a whole one.
            warnings.filterwarnings("ignore", message="Your input ran out of data")
            self._ignored_warnings = warnings.filters[0]

    def restore_last(self):
        """Load the last backup into the model within `fit`; epoch and data go on where they are.

        Returns:
            String, what was loaded.

        Raises:
            ValueError: if there is no backup yet.
        """
        if not os.path.exists(self._path):
            raise ValueError(f"There is no backup to go back to yet. Received: backup_dir={self.backup_dir}")
        with open(self._path) as file:
            state = json.load(file)
        load_state(self.model, self.backup_dir, state["weights"])
        return f"the backup of epoch {state['epoch']}, batch {state['batch']}"

    def _stop_ignoring_warnings(self):
        if self._ignored_warnings in warnings.filters:
            warnings.filters.remove(self._ignored_warnings)
        self._ignored_warnings = None

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        # With `steps_per_execution`, `batch` can point behind the epoch's last batch.
        done = self._num_skipped + batch + 1
        done = done if self.params["steps"] is None else min(done, self.params["steps"])
        self._num_trained += done - self._batch
        self._num_since_backup += done - self._batch
        self._batch = done
        is_due = self.save_freq != "epoch" and self._num_since_backup >= self.save_freq
        if is_due and done != self.params["steps"]:  # the end of the epoch saves anyway
            self._save()

    def on_epoch_end(self, epoch, logs=None):
        self._stop_ignoring_warnings()
        self._epoch, self._batch, self._num_skipped = epoch + 1, 0, 0
        self._save()

    def on_train_end(self, logs=None):
        self.model._initial_epoch = None  # else a later `fit` of the model would start at this epoch
        wait_for_all()
        if is_first_process():
            shutil.rmtree(self.backup_dir)

    def _save(self):
        """Writes weights under a new name, then atomically the file that names them: one backup is always complete."""
        self._num_since_backup = 0
        self._num_backups += 1
        weights = save_state(self.model, self.backup_dir, f"{self._num_backups:09}")
        if not is_first_process():
            return
        state = {"number": self._num_backups, "weights": weights, "epoch": self._epoch, "batch": self._batch}
        if self.dataset is not None:
            state["dataset"] = self.dataset.state_after(self._start, self._num_trained)
        write_json(self._path, state)
        remove_states(self.backup_dir, but=weights)


class ModelFile(keras.callbacks.Callback):
    """Saves the model after each epoch, also where its weights are sharded over processes.

    Args:
        path: String or path, with the suffix `.keras`.
    """

    def __init__(self, path):
        super().__init__()
        self.path = os.fspath(path)

    def __repr__(self):
        return f"<ModelFile: {self.path!r}>"

    def on_epoch_end(self, epoch, logs=None):
        save_model(self.model, self.path)


def resumable(directory, *, dataset=None, save_freq="epoch"):
    """Callbacks for a long training: it leaves out steps that would spoil it, resumes, and saves its model.

    Example:

    >>> model.fit(images, epochs=800, callbacks=keras_umd.callbacks.resumable("runs/umd"))

    Args:
        directory: String or path. Gets `model.keras`, written after each epoch; `history.csv`; black boxes of
            steps that were left out (`Guard`); and while the training runs `backup/`, from which the same script
            resumes. Several processes that train together take the same directory; the first one writes.
        dataset: `keras_umd.data.Dataset` that `fit` gets, or `None`. With it, a run that was stopped resumes in the
            middle of an epoch, with the batch that was next; that epoch's losses are means over the rest of it.
        save_freq: `"epoch"`, or an integer, the steps between two backups; after each epoch there is one anyway.

    Returns:
        List of Keras callbacks.
    """
    os.makedirs(directory, exist_ok=True)
    log = keras.callbacks.CSVLogger(os.path.join(directory, "history.csv"), append=True)
    return [
        Guard(directory=directory),
        # Where no guard works:
        keras.callbacks.TerminateOnNaN(raise_error=True),  # else `fit` ends normally: NaN saved, backup deleted
        ModelFile(os.path.join(directory, "model.keras")),
        *([log] if is_first_process() else []),
        # Keep last, after the user's callbacks: a backup marks the epoch as finished, so its files must exist.
        BackupAndRestore(os.path.join(directory, "backup"), dataset=dataset, save_freq=save_freq),
    ]
