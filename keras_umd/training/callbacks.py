"""Callbacks for long runs."""

import csv
import os

import keras

from keras_umd.backend.processes import is_first_process
from keras_umd.training import loggers
from keras_umd.training.backup import BackupAndRestore
from keras_umd.training.guard import Guard
from keras_umd.training.monitor import Monitor
from keras_umd.training.posthoc_ema import SnapshotAverages
from keras_umd.training.stages import MaskStages
from keras_umd.training.state import save_model
from keras_umd.training.stopping import StopAfter
from keras_umd.training.throughput import Throughput
from keras_umd.utils import storage
from keras_umd.utils.atomic import write_whole
from keras_umd.utils.checks import check_paths, require

__all__ = [
    "BackupAndRestore",
    "Guard",
    "HistoryFile",
    "MaskStages",
    "ModelFile",
    "Monitor",
    "SnapshotAverages",
    "StopAfter",
    "Throughput",
    "standard",
]


class ModelFile(keras.callbacks.Callback):
    """Saves the model after each epoch, also where its weights are sharded over processes.

    Example:

    >>> model.compile("adamw")
    >>> model.fit(images, batch_size=8, epochs=1, callbacks=[callbacks.ModelFile("model.keras")])
    >>> model = keras.saving.load_model("model.keras")

    Args:
        path: String or path, with the suffix `.keras`.
    """

    def __init__(self, path):
        super().__init__()
        check_paths(path=path)
        self.path = os.fspath(path)
        require(self.path.endswith(".keras"), "`path` must end in '.keras'.", path=self.path)

    def __repr__(self):
        return f"<ModelFile: {self.path!r}>"

    def on_epoch_end(self, epoch, logs=None):
        save_model(self.model, self.path)

    def on_train_end(self, logs=None):
        if self.model.stop_training:  # other callbacks may have put other weights into place
            save_model(self.model, self.path)


class HistoryFile(keras.callbacks.Callback):
    """Writes the logs of each epoch into a CSV file: each epoch once, also when the run was stopped and went on.

    Example:

    >>> model.compile("adamw")
    >>> model.fit(images, batch_size=8, epochs=2, callbacks=[callbacks.HistoryFile("history.csv")])

    Args:
        path: String or path.
    """

    def __init__(self, path):
        super().__init__()
        check_paths(path=path)
        self.path = os.fspath(path)

    def __repr__(self):
        return f"<HistoryFile: {self.path!r}>"

    def on_epoch_end(self, epoch, logs=None):
        if not is_first_process():
            return
        rows = [row for row in self._rows() if int(row["epoch"]) < epoch]
        rows.append({"epoch": epoch, **{name: float(value) for name, value in (logs or {}).items()}})
        names = list(dict.fromkeys(name for row in rows for name in row))

        def write(path):
            with open(path, "w", newline="") as file:
                table = csv.DictWriter(file, names)
                table.writeheader()
                table.writerows(rows)

        write_whole(self.path, write)

    def _rows(self):
        if not storage.exists(self.path):
            return []
        with storage.local_copy(self.path) as local, open(local, newline="") as file:
            rows = list(csv.DictReader(file))
        have_epochs = all((row.get("epoch") or "").isdigit() for row in rows)
        require(have_epochs, f"{self.path} must have an integer `epoch` in each row.", "a file with others")
        return rows


def standard(directory, *, dataset=None, save_freq="epoch", keep=3, resume=True, log_to=()):
    """Callbacks for a long training: it leaves out steps that would spoil it, resumes, and saves its model and losses.

    Example:

    >>> model.fit(images, batch_size=8, epochs=2, callbacks=callbacks.standard("runs/umd"))

    Started again, the same script goes on where it was stopped; after the end it trains nothing, and loads the result.

    Args:
        directory: String or path, of this run alone; also in a bucket, as `gs://bucket/run`. Gets `model.keras`,
            written after each epoch; `history.csv`; `checkpoints/`, from which the same script resumes; `run.json`,
            what the run is and how far; black boxes of steps that were left out (`Guard`). Several processes that
            train together take the same directory; the first one writes.
        dataset: `keras_umd.data.Dataset` that `fit` gets, or `None`. With it, a run that was stopped resumes in the
            middle of an epoch, with the batch that was next; that epoch's losses are means over all of it.
        save_freq: `"epoch"`, or an integer, the steps between two checkpoints; after each epoch there is one anyway.
        keep: Integer, how many of the last checkpoints to keep, beside the best one.
        resume: `True`, to go on with the run in the directory; `False`, to refuse if there is one; `"force"`, to go on
            with other settings. See `BackupAndRestore`.
        log_to: List of `"tensorboard"`, `"wandb"` and `"mlflow"`, or one of them: where to send the losses of each
            epoch, too. TensorBoard's files go into `directory/tensorboard`, and need tensorboard, not TensorFlow. W&B
            and MLflow log by their own callbacks for Keras, into the run that you began: `wandb.init(...)`,
            `mlflow.start_run()`.

    Returns:
        List of Keras callbacks.

    Raises:
        ImportError: for a package of `log_to` that isn't installed.
    """
    check_paths(directory=directory)
    directory = os.fspath(directory)
    senders = loggers.of(log_to, directory)
    # Keep last, after the user's callbacks: a checkpoint marks the epoch as finished, so its files must exist.
    last = BackupAndRestore(directory, dataset=dataset, save_freq=save_freq, keep=keep, resume=resume)
    return [
        Guard(directory=directory, checkpoints=last),
        # Where no guard works:
        keras.callbacks.TerminateOnNaN(raise_error=True),  # else `fit` ends normally
        ModelFile(os.path.join(directory, "model.keras")),
        HistoryFile(os.path.join(directory, "history.csv")),
        *senders,
        last,
    ]
