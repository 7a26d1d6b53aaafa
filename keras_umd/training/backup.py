"""The callback that makes a run one that can be stopped at any moment and resumed."""

import contextlib
import os
import warnings

import keras

from keras_umd.backend.processes import (
    broadcast_from_first,
    is_first_process,
    largest_of_processes,
    num_processes,
    wait_for_all,
)
from keras_umd.models import fit_warnings
from keras_umd.training.checkpoints import Checkpoints
from keras_umd.training.run_directory import RunDirectory, RunLock
from keras_umd.training.signals import LEAVING, Signals
from keras_umd.training.state import running_means, set_running_means
from keras_umd.utils.checks import check_one_of, check_paths, check_positive_integers, is_size, require

STEPS_BETWEEN_AGREEMENTS = 10  # of several processes, which must save in the same step


class BackupAndRestore(keras.callbacks.Callback):
    """Saves a run so that it can be stopped at any moment, and resumes it: weights, optimizer, epoch, next batch.

    `keras.callbacks.BackupAndRestore` repeats the epoch that was stopped, so that learning rates end too early, and
    loses its backup if it is killed while it writes. Here checkpoints are written atomically, flushed to the disk, and
    verified when they are read; a damaged one gives way to the one before. They are written in the background, and
    never hold values that aren't finite.

    In `UMD.fit`, SIGTERM, SIGINT (Ctrl-C) and SIGUSR1 save at the end of the step. Then SIGTERM leaves with the exit
    status 143, SIGINT raises KeyboardInterrupt, and SIGUSR1 goes on. A second one leaves at once, without saving.

    Several processes that train together need the same directory. The first one writes; weights that are sharded over
    the processes are written by all, through Orbax.

    Example:

    >>> model.compile("adamw")
    >>> model.fit(images, batch_size=8, epochs=2, callbacks=[callbacks.BackupAndRestore("runs/umd")])

    Args:
        directory: String or path, of one run; also in a bucket, as `gs://bucket/run`, through fsspec. Gets `run.json`,
            what the run is and how far; `run.lock`, which keeps other runs out; and `checkpoints/`. Other files in it
            are left alone.
        dataset: `keras_umd.data.Dataset`, the one that `fit` gets, without `steps_per_epoch`. With `None`, for all
            other data, an epoch that was stopped is repeated.
        save_freq: `"epoch"`, or an integer, the steps between two checkpoints; after each epoch there is one anyway.
        keep: Integer, how many of the last checkpoints to keep. The one with the lowest loss (`val_loss`, if there is
            one) after an epoch stays, too.
        resume: `True`: go on with the run in the directory, if there is one, and refuse to with another model,
            optimizer, schedule, data, precision or seed. `"force"`: go on all the same. `False`: refuse a directory
            with a run. After the end of its epochs a run trains nothing, and `fit` loads its last weights.

    Raises:
        ValueError: in `fit`: names what differs from the run in the directory, or who uses it; for processes that see
            different directories.
        DamagedFileError: in `fit`, where all checkpoints are damaged.
        OSError, FloatingPointError: in `fit`, for a checkpoint that could not be written; those of before stay.
    """

    # Whether `on_train_error` is called, as `UMD.fit` does: else the handlers of signals would outlive a `fit` that
    # failed, and Ctrl-C do nothing any more.
    is_told_of_errors = False

    def __init__(self, directory, *, dataset=None, save_freq="epoch", keep=3, resume=True):
        super().__init__()
        check_paths(directory=directory)
        require(
            save_freq == "epoch" if isinstance(save_freq, str) else is_size(save_freq),
            "`save_freq` must be 'epoch' or a positive integer.",
            save_freq=save_freq,
        )
        check_positive_integers(keep=keep)
        check_one_of((True, False, "force"), resume=resume)
        require(
            dataset is None or hasattr(dataset, "state_after"),
            "`dataset` must be a data set of keras_umd.data, or None for all other data.",
            f"dataset of type {type(dataset).__name__}",
        )
        self.directory = os.fspath(directory)
        self.dataset = dataset
        self.save_freq = save_freq
        self.keep = keep
        self.resume = resume
        self.checkpoints = Checkpoints(os.path.join(self.directory, "checkpoints"), keep)
        self._run = RunDirectory(self.directory)
        self._lock = RunLock(self.directory)
        self._signals = Signals()
        self._ignored_warnings = None

    def __repr__(self):
        return f"<BackupAndRestore: {self.directory!r}, save_freq={self.save_freq!r}, dataset={self.dataset}>"

    # Begin and resume

    def on_train_begin(self, logs=None):
        self._stop_ignoring_warnings()  # an earlier `fit` may have been stopped in its first epoch
        if self.dataset is not None:
            require(
                not self.dataset.is_repeated and self.params["steps"] == len(self.dataset),
                "`fit` must take the data set of its checkpoints, in whole epochs, without `steps_per_epoch`.",
                f"{self.params['steps']} steps an epoch, dataset={self.dataset}",
            )
        self._epoch, self._batch, self._means = 0, 0, {}
        self._step, self._num_since_save = 0, 0
        if is_first_process():
            self._lock.acquire()
            self._run.open(self._settings(), self.resume)
        found = self.checkpoints.newest() if is_first_process() or num_processes() == 1 else None
        number = broadcast_from_first(0 if found is None else found[0])
        if number:
            self._go_on(number)
        elif self.dataset is not None:
            self.dataset.rewind()
        self._num_skipped = self._batch  # of the epoch that goes on
        self._num_trained = 0  # since here
        self._start = None if self.dataset is None else self.dataset.get_state()
        if self.is_told_of_errors:
            self._signals.install()

    def _settings(self):
        """What must be the same when the run goes on."""
        model = self.model
        data = {"steps_per_epoch": self.params["steps"]}
        if self.dataset is not None:  # the shard is that of the first process
            data |= {name: value for name, value in self.dataset.identity.items() if name != "shard_index"}
        return {
            "model": {"class": type(model).__name__, **model.get_config()},
            "optimizer": _described(model),
            "data": data,
        }

    def _go_on(self, number):
        require(
            number in self.checkpoints.numbers(),
            "All processes must have the same `directory`, on a disk that all see. The first process has a checkpoint "
            "there, this one not.",
            directory=self.directory,
        )
        place = self.checkpoints.place(number)
        require(
            self.dataset is None or place["dataset"] is not None,
            "The checkpoint was made without `dataset`, and says nothing of the place in it; take another folder, or "
            "go on without.",
            dataset=self.dataset,
            directory=self.directory,
        )
        self.checkpoints.load(self.model, number)
        if self.dataset is not None:
            # The file has the shard of the first process, and with resume="force" perhaps other data.
            state = {**place["dataset"], "dataset": self.dataset.identity}
            self.dataset.set_state({**state, "batch": min(state["batch"], len(self.dataset) - 1)})
            self._batch, self._means = place["batch"], place.get("means", {})
        self._epoch, self._step = place["epoch"], place["step"]
        epochs = self.params["epochs"]
        if max(self._epoch, broadcast_from_first(self._run.finished_epochs)) >= epochs:
            self._epoch = max(self._epoch, epochs)
            if is_first_process():
                done = f"{self._epoch} epoch{'s' * (self._epoch != 1)}"
                print(
                    f"The run in {self.directory} has finished its {done}: nothing is trained, and the "
                    "model has its last weights. Pass more `epochs` to go on."
                )
        else:
            fit_warnings.of_rate(self.model)  # what the checkpoint says of it, `fit` couldn't know
            if self.dataset is None and place["batch"] and is_first_process():
                print(
                    f"The run in {self.directory} goes on. Nothing tells the place in its data, so that epoch "
                    f"{self._epoch + 1} begins again, with the weights after {place['batch']} of its steps."
                )
        self.model._initial_epoch = self._epoch
        if self._batch:
            # Keras would warn that data ran out: the rest of the epoch is shorter than a whole one.
            warnings.filterwarnings("ignore", message="Your input ran out of data")
            self._ignored_warnings = warnings.filters[0]

    def _stop_ignoring_warnings(self):
        if self._ignored_warnings in warnings.filters:
            warnings.filters.remove(self._ignored_warnings)
        self._ignored_warnings = None

    def restore_last(self):
        """Take back the values of the newest whole checkpoint; the data go on where they are.

        Returns:
            String, what was loaded.

        Raises:
            ValueError: where there is no checkpoint yet.
        """
        self.checkpoints.wait()
        found = self.checkpoints.newest()
        require(found is not None, "There is no checkpoint to go back to yet.", directory=self.directory)
        self.checkpoints.load(self.model, found[0])
        return f"the checkpoint of step {found[1]['step']}"

    # Save

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch
        if self._means:  # Keras has reset them: the epoch's losses would be those of its remaining batches
            set_running_means(self.model, self._means)
            self._means = {}

    def on_train_batch_end(self, batch, logs=None):
        # With `steps_per_execution`, `batch` can point behind the epoch's last batch.
        done = self._num_skipped + batch + 1
        done = done if self.params["steps"] is None else min(done, self.params["steps"])
        trained = done - self._batch
        self._num_trained += trained
        self._num_since_save += trained
        self._step += trained
        self._batch = done
        signal = self._agreed_signal()
        is_due = self.save_freq != "epoch" and self._num_since_save >= self.save_freq
        if done == self.params["steps"]:  # the end of the epoch saves anyway, and then answers signals
            return
        if is_due or signal:
            self._save(wait=bool(signal))
        if signal:
            self._answer(signal)

    def on_epoch_end(self, epoch, logs=None):
        self._stop_ignoring_warnings()
        self._epoch, self._batch, self._num_skipped = epoch + 1, 0, 0
        logs = logs or {}
        loss = logs.get("val_loss", logs.get("loss"))
        signal = self._agreed_signal(now=True)
        self._save(None if loss is None else float(loss), wait=bool(signal))
        if signal:
            self._answer(signal)

    def _agreed_signal(self, now=False):
        """The signal to answer after this step: in several processes one that any of them got, in the same step."""
        signal = self._signals.pending
        if num_processes() == 1:
            return signal
        if not now and self._step % STEPS_BETWEEN_AGREEMENTS:
            return None
        order = (None, "SIGUSR1", *reversed(LEAVING))  # where processes got several, the last of these counts
        return order[largest_of_processes(order.index(signal))]

    def _answer(self, signal):
        if signal in LEAVING and is_first_process():
            self._run.write(state="stopped")
        self._signals.act(signal)

    def _save(self, loss=None, wait=False):
        self._num_since_save = 0
        place = {"epoch": self._epoch, "batch": self._batch, "step": self._step, "loss": loss, "dataset": None}
        if self.dataset is not None:
            place["dataset"] = self.dataset.state_after(self._start, self._num_trained)
            place["means"] = running_means(self.model) if self._batch else {}
        self.checkpoints.save(self.model, place, wait)
        if is_first_process():
            self._run.write(epoch=self._epoch, step=self._step)

    # End

    def on_train_end(self, logs=None):
        self.model._initial_epoch = None  # else a later `fit` of the model would start at this epoch
        if self.model.stop_training:  # callbacks before this one may have put other weights into place
            self._batch = 0
            self._save()
        self.checkpoints.wait()
        if is_first_process():
            self._run.write(state="finished", epochs=max(self.params["epochs"], self._run.finished_epochs))
        wait_for_all()
        self._close()

    def on_train_error(self, error):
        """`UMD.fit` calls it when it is left by an exception, of which Keras tells no callback."""
        try:
            self.checkpoints.close()
        except (OSError, FloatingPointError) as other:
            warnings.warn(f"The last checkpoint could not be written: {other}", stacklevel=2)
        if self._run.values is not None and self._run.values["state"] == "running" and is_first_process():
            state = "stopped" if isinstance(error, KeyboardInterrupt) else f"failed: {repr(error)[:200]}"
            with contextlib.suppress(OSError):  # a full disk is the error that is on its way
                self._run.write(state=state)
        self._close()

    def _close(self):
        self._stop_ignoring_warnings()
        self._signals.restore()
        self._lock.release()
        self.checkpoints.close()


def _described(model):
    """The optimizer of a model as it was given to `compile`, without what guards it, as JSON values."""
    try:
        return model.get_compile_config()["optimizer"]
    except NotImplementedError:  # a schedule or an optimizer of one's own, without a config
        return {"class_name": type(model.optimizer).__name__}
