"""Steps that would spoil a training are left out: the optimizer around the optimizer, and what it remembers.

`UMD.guard_steps` puts `GuardedOptimizer` around the model's own, inside of a `LossScaleOptimizer`; Keras' step stays as
it is. `compute_loss` hands the loss over, the optimizer sees the norm of the gradients, and `GuardState.judge` compares
both with the steps before. The inner optimizer runs only if the step is accepted. JAX knows the loss of a step only
behind Keras' own part of it: there the gradients are put aside, and the inner optimizer runs behind that part. Within a
`LossScaleOptimizer`, and on several replicas of `tf.distribute`, it has to run in its place; then the old values are
put back (`guarded_step.py`), for which some of them are copied. Of several replicas the guard is the outermost: within
a `LossScaleOptimizer` it would run in a branch, where replicas can't agree.
"""

import threading
import types

import keras
from keras import ops

from keras_umd.backend import num_replicas, of_all_replicas
from keras_umd.backend.steps import in_scope_of, value_now
from keras_umd.models.guarded_optimizer import GuardedOptimizer
from keras_umd.utils.checks import check_integers, check_numbers

# Where all losses are equal, rounding would be a deviation: a step this much above the mean is never an outlier.
LEAST_DEVIATION = 0.01


class GuardState(keras.metrics.Metric):
    """What a guard remembers: the accepted losses and gradient norms, and how many steps were left out.

    A metric, since Keras hands the variables of metrics through its steps on all backends and keeps them out of the
    weights. It shows nothing itself, and epochs don't reset it. It is saved with the model, so that a run that resumes
    judges as one that was never stopped.

    Args:
        sigma: Positive float. Deviations above the mean of the window from which on a step is an outlier.
        window: Integer, at least 2. Accepted steps that are remembered.
    """

    def __init__(self, sigma, window):
        super().__init__(name="guard", dtype="float32")
        self.sigma, self.window = sigma, window

        def variable(name, shape=()):
            # Each replica of `tf.distribute` keeps its own, of equal values: it must not read their sum.
            return self.add_variable(shape, "zeros", dtype="float32", aggregation="only_first_replica", name=name)

        self.loss = variable("loss")  # of the step that runs
        self.norm = variable("norm")
        self.history = variable("history", (2, window))  # losses, norms of the gradients
        self.num_remembered = variable("num_remembered")
        self.num_accepted = variable("num_accepted")
        self.num_skipped = variable("num_skipped")
        self.in_a_row = variable("in_a_row")  # steps left out since the last that was accepted
        self.rejected = variable("rejected")  # 1 if the last step was left out
        self.last = types.SimpleNamespace(step=None, kept=None)  # what `report` tells, of the last execution
        self.keeps_first = False  # whether also of its first step that was left out (`UMD.make_train_function`)
        self.deferred = types.SimpleNamespace(is_wanted=False, gradients=None)  # on JAX, while a step is traced
        self.own = threading.local()  # the loss and norm of a replica alone, each of which is traced in a thread

    def reset_state(self):
        """Nothing is reset, or each epoch would begin without a window."""

    def result(self):
        return {}

    def judge(self, loss, norm):
        """Whether a step is accepted, a bool scalar; remembers it if so, and counts it.

        Not accepted is a step whose loss or gradient norm isn't finite, or lies more than `sigma` deviations above the
        mean of the window, once half of it is filled. What lies far below is no harm: a rate that is lowered does so.

        Args:
            loss, norm: Float32 scalars.
        """
        seen = ops.stack([loss, norm])
        places = ops.arange(self.window, dtype="float32")
        filled = ops.minimum(self.num_remembered, float(self.window))
        is_filled = ops.cast(places < filled, "float32")
        count = ops.maximum(filled, 1.0)
        mean = ops.sum(self.history * is_filled, axis=1) / count
        variance = ops.sum(is_filled * ops.square(self.history - mean[:, None]), axis=1) / count
        deviation = ops.maximum(ops.sqrt(variance), LEAST_DEVIATION * ops.abs(mean))
        is_outlier = ops.logical_and(filled >= max(self.window // 2, 2), ops.any(seen > mean + self.sigma * deviation))
        accepted = ops.logical_and(ops.all(ops.isfinite(seen)), ops.logical_not(is_outlier))
        is_place = ops.logical_and(places == self.num_remembered % self.window, accepted)
        self.history.assign(ops.where(is_place, seen[:, None], ops.convert_to_tensor(self.history)))
        self.norm.assign(norm)
        self.num_remembered.assign_add(ops.cast(accepted, "float32"))
        self._count(accepted)
        return accepted

    def _count(self, accepted):
        accepted = ops.cast(accepted, "float32")
        self.rejected.assign(1.0 - accepted)
        self.num_accepted.assign_add(accepted)
        self.num_skipped.assign_add(1.0 - accepted)
        self.in_a_row.assign((self.in_a_row + 1.0) * (1.0 - accepted))

    def count_unjudged(self, is_unjudged, scale):
        """Count a step that a `LossScaleOptimizer` left out, unless its scale was too large, which is no fault.

        It is one if the loss isn't finite, or the gradients aren't with a scale below 1 either.

        Args:
            is_unjudged: Bool scalar.
            scale: Float32 scalar, that of the next step.
        """
        is_at_fault = ops.logical_or(ops.logical_not(ops.isfinite(self.loss)), scale < 1.0)
        is_lost = ops.logical_and(is_unjudged, is_at_fault)
        lost = ops.cast(is_lost, "float32")
        self.rejected.assign_add(lost)
        self.num_skipped.assign_add(lost)
        self.in_a_row.assign_add(lost)

    def report(self, batch):
        """What the host needs to know of a step that was left out.

        Args:
            batch: Dictionary of its images, labels and draws.

        Returns:
            Dictionary of `batch` and scalars; of several replicas, of the scalars and `replicas`, a tuple of
            dictionaries with `batch`, `loss` and `norm` of each.
        """
        names = ("loss", "norm", "rejected", "in_a_row")
        scalars = {name: value_now(getattr(self, name)) for name in names}
        if num_replicas() == 1:
            return {"batch": batch, **scalars}
        return {"replicas": of_all_replicas({"batch": batch, "loss": self.own.loss, "norm": self.own.norm}), **scalars}

    def forget(self):
        """Begin to fill the window anew: for a training that goes on at another level."""
        self.num_remembered.assign(0.0)
        self.in_a_row.assign(0.0)

    def save_own_variables(self, store):
        for variable in self.variables:
            store[variable.name] = ops.convert_to_numpy(variable)

    def load_own_variables(self, store):
        """Load what was saved; nothing from a file of a training without a guard, or with another window."""
        saved = {key: store[key] for key in store.keys()}  # noqa: SIM118 (Keras' store can't be iterated)
        if "history" in saved and saved["history"].shape == self.history.shape:
            for variable in self.variables:
                variable.assign(saved[variable.name])


def guard_steps(model, sigma=6.0, window=128):
    """From now on leave out training steps that aren't finite or outliers, until the next `compile`.

    The optimizer is wrapped, as by Keras' `LossScaleOptimizer`, and keeps its state; files hold it as it was.
    `callbacks.Guard` calls this, and acts on what is left out.

    Example:

    >>> state = model.guard_steps(sigma=8.0)
    >>> model.fit(images, labels, batch_size=8, epochs=1)

    Args:
        sigma: Positive float. Deviations above the mean of the window from which on a step is an outlier.
        window: Integer, at least 2. Accepted steps that are remembered; once half of it is filled, outliers are
            left out.

    Returns:
        `GuardState`, with the counts.
    """
    check_numbers("(0, inf)", sigma=sigma)
    check_integers(2, window=window)
    if getattr(model, "optimizer", None) is None:
        raise ValueError("A guard is put around an optimizer; call `compile` first. Received: a model without one")
    with in_scope_of(model):  # new variables must lie where the model's do
        return _guard_steps(model, float(sigma), int(window))


def _guard_steps(model, sigma, window):
    state = next(iter(model.guards), None)
    if state is not None and (state.sigma, state.window) == (sigma, window):
        return state
    release(model)
    state = GuardState(sigma, window)
    is_scaled = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    outer = model.optimizer if is_scaled and num_replicas() == 1 else None
    inner = model.optimizer if outer is None else outer.inner_optimizer
    guarded = GuardedOptimizer(inner, state)
    if inner.built:
        guarded.build(model.trainable_variables)
    if outer is None:
        model.optimizer = guarded
    else:
        outer.inner_optimizer = guarded
    model.guards.append(state)
    model.train_function = model.test_function = None  # compiled without it
    return state


def release(model):
    """Train without a guard again, with the same optimizer."""
    if not model.guards:
        return
    model.guards.clear()
    outer = model.optimizer
    if isinstance(outer, GuardedOptimizer):
        model.optimizer = outer.inner_optimizer
    elif isinstance(getattr(outer, "inner_optimizer", None), GuardedOptimizer):
        outer.inner_optimizer = outer.inner_optimizer.inner_optimizer
    model.train_function = model.test_function = None
