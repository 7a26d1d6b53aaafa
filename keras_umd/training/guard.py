"""A guard over the numbers of a training: steps that would spoil it are left out, and kept to look into."""

import os
import warnings

import keras
import numpy as np

from keras_umd.training.black_box import write_black_box
from keras_umd.utils.checks import check_integers, check_numbers, check_one_of, check_paths, require

ACTIONS = ("skip", "rollback", "stop")
MOST_BOXES = 3  # a training that fails at every step would fill the disk
MOST_ROLLBACKS = 5


class Guard(keras.callbacks.Callback):
    """Leaves out the steps of `fit` whose loss or gradient isn't finite, or far above those of the steps before.

    Such a step changes no weight, no state of the optimizer, no average and no logged mean; random numbers and data
    move on. This is decided within the compiled step, on all backends, whatever `steps_per_execution`. The logs have
    `skipped_steps`, the number so far. On several devices it works with JAX and `keras.distribution`, and under
    `tf.distribute`.

    It puts itself around the model's optimizer, as Keras does to scale the loss of float16 (`UMD.guard_steps`), when
    `fit` begins: then the optimizer exists with its state, new or loaded, and no step is compiled yet. As part of
    `compile` it would be part of the file of a model, and the wish of whoever trained it, forced on who goes on. So
    files are the same with and without a guard, and either goes on with the other. It stays until the next `compile`.

    An outlier is a step whose loss or gradient norm lies more than `sigma` deviations above the mean of the last
    `window` accepted steps, once half of them are there. With gradient accumulation a step is a micro-batch: one that
    is left out is replaced by the next. A learning-rate schedule counts accepted steps.

    The first steps that are left out are written to `directory`, each with its images, random numbers and weights;
    `keras_umd.replay` runs it again and names the layer. Of steps that run together (`steps_per_execution`) it is the
    first, for which JAX keeps one more copy of the weights on the device; TensorFlow has only the last of them, and
    writes it if that one was left out. Of the replicas of `tf.distribute` it is the part of the batch that went wrong.

    Example:

    >>> model.fit(images, batch_size=8, epochs=2, callbacks=[callbacks.Guard(directory="runs/umd")])

    Args:
        on: What to do after `in_a_row` steps were left out, one after the other. `"skip"`: outliers become the new
            window, since the training has moved to another level. `"rollback"`: go back to the last checkpoint, with
            the data that are next; at most 5 times. `"stop"`: raise. An epoch without any accepted step raises anyway.
        sigma: Positive float.
        window: Integer, at least 2.
        in_a_row: Integer.
        directory: String or path, for black boxes; `None` writes none.
        checkpoints: What `"rollback"` goes back to: an object with a method `restore_last()`, such as
            `callbacks.BackupAndRestore`, which loads the model's last whole state and raises where there is none.

    Raises:
        FloatingPointError: in `fit`, as told above. The weights are those of the last accepted step.
    """

    def __init__(self, on="skip", sigma=6.0, window=128, in_a_row=10, directory=None, checkpoints=None):
        super().__init__()
        check_one_of(ACTIONS, on=on)
        check_numbers("(0, inf)", sigma=sigma)
        check_integers(2, window=window)
        check_integers(1, in_a_row=in_a_row)
        if directory is not None:
            check_paths(directory=directory)
        require(
            hasattr(checkpoints, "restore_last") or (checkpoints is None and on != "rollback"),
            "`checkpoints`, which on='rollback' needs, must have a method `restore_last()`, as BackupAndRestore has.",
            checkpoints=checkpoints,
        )
        self.on, self.sigma, self.window, self.in_a_row = on, float(sigma), int(window), int(in_a_row)
        self.directory = None if directory is None else os.fspath(directory)
        self.checkpoints = checkpoints
        self.black_boxes = []

    def __repr__(self):
        return f"<Guard: on={self.on!r}, sigma={self.sigma:g}, window={self.window}, {len(self.black_boxes)} boxes>"

    def set_model(self, model):
        super().set_model(model)
        self._state = model.guard_steps(self.sigma, self.window)
        keeps_first = self.directory is not None and model.steps_per_execution > 1
        if self._state.keeps_first != keeps_first:
            self._state.keeps_first = keeps_first
            model.train_function = None  # compiled without it, or with

    def on_train_begin(self, logs=None):
        self._num_rollbacks, self._num_skipped = 0, None
        self._of_fit = [0, 0]  # steps, and those left out

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch, self._last_batch = epoch, -1
        if self._num_skipped is None:  # after a backup has been loaded
            self._num_skipped = self._read("num_skipped")
        self._before_epoch = self._num_skipped, self._read("num_accepted")

    def on_train_batch_end(self, batch, logs=None):
        if self.params["steps"] is not None:  # `steps_per_execution` counts on behind the epoch's last batch
            batch = min(batch, self.params["steps"] - 1)
        begin, self._last_batch = self._last_batch + 1, batch
        self._of_fit[0] += batch + 1 - begin
        new = int(logs["skipped_steps"]) - self._num_skipped
        if not new:
            return
        self._num_skipped += new
        self._of_fit[1] += new
        model = self.model  # on JAX, this brings the variables up to date
        seen = {name: float(keras.ops.convert_to_numpy(getattr(self._state, name))) for name in ("loss", "norm")}
        in_a_row = self._read("in_a_row")
        self._write_box(model, begin, batch, new)
        if in_a_row >= self.in_a_row:
            self._act(seen, in_a_row)

    def on_epoch_end(self, epoch, logs=None):
        skipped, accepted = self._before_epoch
        if self._num_skipped > skipped and self._read("num_accepted") == accepted:
            raise FloatingPointError(f"All steps of epoch {epoch} were left out. " + self._explanation())

    def on_train_end(self, logs=None):
        steps, skipped = self._of_fit
        if skipped:
            warnings.warn(f"{skipped} of {steps} steps were left out. " + self._explanation(), stacklevel=2)

    def _act(self, seen, in_a_row):
        told = f"{in_a_row} steps in a row were left out; loss {seen['loss']:g}, gradient norm {seen['norm']:g}. "
        if self.on == "stop":
            raise FloatingPointError(told + self._explanation())
        if self.on == "skip":
            if np.isfinite(list(seen.values())).all():
                self._state.forget()
                warnings.warn(told + "Their level counts as the new one.", stacklevel=2)
            return
        if self._num_rollbacks == MOST_ROLLBACKS:
            raise FloatingPointError(f"{told}Going back {MOST_ROLLBACKS} times was no help. " + self._explanation())
        self._num_rollbacks += 1
        where = self.checkpoints.restore_last()
        self._state.forget()
        self._state.num_skipped.assign(float(self._num_skipped))  # the checkpoint's is of that time
        warnings.warn(f"{told}The training went back to {where}.", stacklevel=2)

    def _write_box(self, model, begin, batch, new):
        """Write the first of a row of steps that were left out, if it is among those from `begin` on, and known."""
        step, kept, weights = self._state.last.step, self._state.last.kept, None
        if step is None or self.directory is None or len(self.black_boxes) >= MOST_BOXES:
            return
        if kept is not None and kept["is_kept"]:
            step, weights, batch, new = kept["step"], kept["weights"], begin + int(kept["number"]), 1
        rejected, in_a_row = (float(keras.ops.convert_to_numpy(step[name])) for name in ("rejected", "in_a_row"))
        if not rejected or in_a_row > new:
            return
        step, scalars = _of_one_replica(step)
        os.makedirs(self.directory, exist_ok=True)
        path = os.path.join(self.directory, f"black_box_{self._epoch:04}_{batch:06}.zip")
        write_black_box(path, model, step["batch"], {"epoch": self._epoch, "batch": int(batch), **scalars}, weights)
        self.black_boxes.append(path)

    def _explanation(self):
        boxes = f"keras_umd.replay({self.black_boxes[0]!r}) says where. " if self.black_boxes else ""
        return f"{boxes}A lower learning rate, a longer warm-up or a look at the data may help."

    def _read(self, name):
        _ = self.model  # on JAX, this brings the variables up to date
        return int(keras.ops.convert_to_numpy(getattr(self._state, name)))


def _of_one_replica(step):
    """The report of a step, or of the replica of `tf.distribute` that failed, and what a black box tells of it.

    It is the one with the largest loss or, of equal ones, norm of the gradients; what isn't finite is larger than all.
    """

    def numbers(report):
        return {name: float(keras.ops.convert_to_numpy(report[name])) for name in ("loss", "norm")}

    if "replicas" not in step:
        return step, numbers(step)
    of_each = [numbers(report) for report in step["replicas"]]
    sizes = [np.nan_to_num([each["loss"], each["norm"]], nan=np.inf).tolist() for each in of_each]
    worst = sizes.index(max(sizes))
    means = {f"mean_{name}": value for name, value in numbers(step).items()}
    return step["replicas"][worst], {**of_each[worst], "replica": worst, "replicas": len(sizes), **means}
