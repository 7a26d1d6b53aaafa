"""A callback that evaluates a model while it trains, and draws its curves and pictures."""

import contextlib
import os
import pathlib
import time

import keras
import numpy as np

from keras_umd import plots
from keras_umd.backend import isolated_evaluation
from keras_umd.backend.processes import broadcast_from_first, is_first_process
from keras_umd.models.training import num_micro_batches
from keras_umd.training.run_files import Events, Record
from keras_umd.utils.atomic import write_whole
from keras_umd.utils.checks import check_bools, check_integers, check_numbers, check_paths, require
from keras_umd.utils.optional import import_optional

clock = time.perf_counter


class Monitor(keras.callbacks.Callback):
    """Evaluates a model while it trains, at a cost that you allow, and keeps one picture of all curves and samples.

    The training goes on exactly as without it. An exception in an evaluation stops the training. Put it before the
    callbacks of `standard` in the list, so that a run that resumes after a kill has no step twice. A training that
    starts anew in the same directory replaces the files there.

    Example:

    >>> def draw(model):
    ...     return {"samples": plots.image_grid(model.generate(num_images=4, num_steps=5, seed=0), scale=4)}
    >>> def spread(model):
    ...     return {"features/spread": float(np.std(ops.convert_to_numpy(model.encode(images)), axis=0).mean())}
    >>> monitor = callbacks.Monitor("runs/umd", [draw, spread], tensorboard=False)
    >>> model.fit(images, batch_size=8, epochs=2, callbacks=[monitor, *callbacks.standard("runs/umd")])

    Args:
        directory: String or path. Gets `progress.png`, losses, scores and the latest pictures together;
            `evaluations.jsonl`, a line for each epoch and each evaluation; `pictures/NAME_STEP.png`; `tensorboard/`.
            Of several processes that train together all evaluate, and the first one writes.
        evaluations: Function, list of functions, or dictionary of them. Each takes the model, and returns a dictionary
            of names and results: a float; an object with a float `value` and perhaps a `card`, a dictionary of JSON
            values that goes into the file, too; or a uint8 picture `(height, width, 3)`. Scores whose names are equal
            before a `"/"` share a panel of `progress.png`. The keys of a dictionary are put before the names, as
            `key/name`.
        every_epochs: Positive integer. Epochs between two evaluations.
        every_steps: Positive integer. Training steps between two evaluations, counted over epochs. With
            `steps_per_execution` above 1 an evaluation follows the execution that passed the step.
        budget: Positive float. Without `every_epochs` and `every_steps`, the share of the training time that may go
            into evaluations at the ends of epochs. The first one is made at the end of the first epoch, since its cost
            isn't known before; the next when the time spent so far fits the share; later ones when another like the
            last one fits, too. Each call of `fit` counts anew. The last state of the model is always evaluated, once.
        tensorboard: Bool. Whether to write for TensorBoard, which needs tensorboard, but not TensorFlow.

    Raises:
        ImportError: without matplotlib, or tensorboard where it is asked for: both are in the extra `plots`.
        ValueError: for wrong arguments and, in `fit`, for results of other types and names that come twice.
    """

    def __init__(self, directory, evaluations, *, every_epochs=None, every_steps=None, budget=0.05, tensorboard=True):
        super().__init__()
        check_paths(directory=directory)
        intervals = {"every_epochs": every_epochs, "every_steps": every_steps}
        check_integers(1, optional=True, **intervals)
        require(
            None in intervals.values(),
            "Give `every_epochs` or `every_steps`, or neither for a share of the time.",
            **intervals,
        )
        check_numbers("(0, inf)", budget=budget)
        check_bools(tensorboard=tensorboard)
        self.directory = os.fspath(directory)
        self.evaluations = _with_prefixes(evaluations)
        self.every_epochs = every_epochs
        self.every_steps = every_steps
        self.budget = budget
        self.tensorboard = tensorboard
        # Keras then need not wait for `on_train_batch_end`, which does nothing.
        self.async_safe = every_steps is None
        self._events = None
        import_optional("matplotlib.figure", "Monitor needs matplotlib: pip install 'keras_umd[plots]'")
        if tensorboard:
            import_optional(
                "tensorboard.summary.writer.event_file_writer",
                "Monitor needs tensorboard: pip install 'keras_umd[plots]'; or pass tensorboard=False",
            )

    def __repr__(self):
        when = next(name for name in ("every_epochs", "every_steps", "budget") if getattr(self, name) is not None)
        return f"<Monitor: {self.directory!r}, {len(self.evaluations)} evaluations, {when}={getattr(self, when)}>"

    def on_train_begin(self, logs=None):
        # Deferred to the first epoch: BackupAndRestore, later in the list, may change the step.
        self._record = None
        self._cost = _Cost(self.budget)

    def _begin(self):
        self._record = Record(self.directory if is_first_process() else None, self._step())
        self._epoch = self._record.last_epoch
        # The optimizer counts updates, `every_steps` training steps.
        self._seen_step = self._step() * num_micro_batches(self.model)
        if self.tensorboard and is_first_process():
            self._close()  # an earlier `fit` was stopped
            self._events = Events(os.path.join(self.directory, "tensorboard"), self._step())

    def on_epoch_begin(self, epoch, logs=None):
        if self._record is None:
            self._begin()
        self._epoch = epoch + 1
        self._first_step = self._seen_step

    def on_train_batch_end(self, batch, logs=None):
        if self.every_steps is None:
            return
        # With `steps_per_execution`, `batch` can point behind the epoch's last batch.
        num_steps = batch + 1 if self.params["steps"] is None else min(batch + 1, self.params["steps"])
        before, self._seen_step = self._seen_step, self._first_step + num_steps
        if self._seen_step // self.every_steps > before // self.every_steps:
            self._evaluate()

    def on_epoch_end(self, epoch, logs=None):
        losses = {name: float(value) for name, value in (logs or {}).items() if np.ndim(value) == 0}
        self._record.add(kind="epoch", step=self._step(), epoch=self._epoch, values=losses)
        if self._events is not None:
            self._events.add_scalars(self._step(), losses)
        within_budget = self.every_epochs is None and self.every_steps is None and self._cost.allows_another()
        is_due = within_budget if self.every_epochs is None else self._epoch % self.every_epochs == 0
        if broadcast_from_first(is_due):  # clocks differ between hosts
            self._evaluate()

    def on_train_end(self, logs=None):
        if self._record is None:  # resumed after its last epoch: no epoch began
            self._begin()
        self._evaluate()
        self._close()

    def _step(self):
        return int(keras.ops.convert_to_numpy(self.model.optimizer.iterations))

    def _close(self):
        if self._events is not None:
            self._events.writer.close()
        self._events = None

    def _evaluate(self):
        step = self._step()
        if broadcast_from_first(step == self._record.last_evaluated_step):
            return
        start = clock()
        model = self.model  # on JAX, reading it copies the weights of this step into its variables
        results = {}
        with isolated_evaluation(model):
            for prefix, evaluation in self.evaluations:
                for name, result in evaluation(model).items():
                    _check_name(name)
                    require(prefix + name not in results, "Two results have one name.", f"{prefix + name!r} twice")
                    results[prefix + name] = result
        values, cards, pictures = _sorted_by_kind(results)
        if is_first_process():
            self._log(step, clock() - start, values, cards, pictures)
        self._cost.costs.append(clock() - start)

    def _log(self, step, seconds, values, cards, pictures):
        paths = {name: f"pictures/{name}_{step:07}.png" for name in pictures}
        for name, path in paths.items():
            plots.save_image(os.path.join(self.directory, path), pictures[name])
        self._record.add(
            kind="evaluation",
            step=step,
            epoch=self._epoch,
            seconds=seconds,
            values=values,
            cards=cards,
            pictures=paths,
        )
        if self._events is not None:
            self._events.add_scalars(step, values)
            for name, path in paths.items():
                self._events.add_picture(step, name, os.path.join(self.directory, path), pictures[name].shape)
        progress = plots.progress(
            self._record.curves("epoch"),
            self._record.curves("evaluation"),
            pictures,
            f"step {step:,}, epoch {self._epoch}",
        )
        write_whole(os.path.join(self.directory, "progress.png"), lambda path: plots.save_image(path, progress))


class _Cost:
    """The time that evaluations took, and whether a share of the training time allows another."""

    def __init__(self, share):
        self.share = share
        self.costs = []
        self.start = clock()

    def allows_another(self):
        # The first one compiled: its time is no estimate of the next.
        expected = self.costs[-1] if len(self.costs) > 1 else 0
        spent = sum(self.costs)
        return spent + expected <= self.share * (clock() - self.start - spent)


def _with_prefixes(evaluations):
    """Pairs of a prefix for the names of the results, and an evaluation."""
    if isinstance(evaluations, dict):
        for key in evaluations:
            _check_name(f"{key}/")
        pairs = [(f"{key}/", evaluation) for key, evaluation in evaluations.items()]
    else:
        functions = evaluations if isinstance(evaluations, (list, tuple)) else [evaluations]
        pairs = [("", function) for function in functions]
    require(
        pairs and all(callable(evaluation) for _, evaluation in pairs),
        "`evaluations` must be functions from the model to a dictionary of results.",
        evaluations=evaluations,
    )
    return pairs


def _check_name(name):
    """Raise a ValueError for a name of a result with which a picture's file would leave the run's folder."""
    parts = pathlib.PurePosixPath(name.replace("\\", "/")) if isinstance(name, str) else None
    require(
        parts is not None and name and "\0" not in name and not parts.is_absolute() and ".." not in parts.parts,
        "Names of results must be strings that are paths below `directory`: not empty, without '..', no '/' in front.",
        f"the name {name!r}",
    )


def _sorted_by_kind(results):
    """The results as three dictionaries: floats, cards of those that have one, and pictures."""
    values, cards, pictures = {}, {}, {}
    for name, result in results.items():
        if getattr(result, "dtype", None) == np.uint8 and np.ndim(result) == 3 and result.shape[-1] == 3:
            pictures[name] = np.asarray(result)
        else:
            values[name] = _as_float(name, getattr(result, "value", result))
        if hasattr(result, "card"):
            cards[name] = result.card
    return values, cards, pictures


def _as_float(name, value):
    with contextlib.suppress(TypeError, ValueError):
        if not isinstance(value, str) and np.ndim(value) == 0:
            return float(value)
    received = f"an array of shape {value.shape} and type {value.dtype}" if hasattr(value, "shape") else repr(value)
    raise ValueError(
        "Results must be floats, objects with a float `value`, or uint8 pictures (height, width, 3). "
        f"Received: {received} as {name!r}"
    )
