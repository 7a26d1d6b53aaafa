"""Steps that would spoil a training are left out: the optimizer around the optimizer, and what it remembers.

`UMD.guard_steps` puts `GuardedOptimizer` around the model's own, inside of a `LossScaleOptimizer`; Keras' step stays as
it is. `compute_loss` hands the loss over, the optimizer sees the norm of the gradients, and `GuardState.judge` compares
both with the steps before. The inner optimizer runs only if the step is accepted. JAX knows the loss of a step only
behind Keras' own part of it: there the gradients are put aside, and the inner optimizer runs behind that part. Within a
`LossScaleOptimizer`, and on several replicas of `tf.distribute`, it has to run in its place; then the old values are
put back (`guarded_step.py`), for which some of them are copied.
"""

import types

import keras
from keras import ops

from keras_umd.backend import mean_over_replicas, num_replicas
from keras_umd.backend.steps import STATE_IS_VALUES, global_norm, in_scope_of, value_now

# Where all losses are equal, rounding would be a deviation: a step this much above the mean is never an outlier.
LEAST_DEVIATION = 0.01


def judges_behind_the_update():
    """Whether a step's update runs before it is judged, and is undone if it must be."""
    return STATE_IS_VALUES or num_replicas() > 1  # a collective can't stand in a branch


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

    def count_unjudged(self, is_unjudged):
        """Count a step that a `LossScaleOptimizer` left out if its loss isn't finite; a scale too large is no fault."""
        is_lost = ops.logical_and(is_unjudged, ops.logical_not(ops.isfinite(self.loss)))
        lost = ops.cast(is_lost, "float32")
        self.rejected.assign_add(lost)
        self.num_skipped.assign_add(lost)
        self.in_a_row.assign_add(lost)

    def report(self, batch):
        """What the host needs to know of a step that was left out.

        Args:
            batch: Dictionary of its images, labels and draws.
        """
        scalars = ("loss", "norm", "rejected", "in_a_row")
        return {"batch": batch, **{name: value_now(getattr(self, name)) for name in scalars}}

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


@keras.saving.register_keras_serializable("keras_umd")
class GuardedOptimizer(keras.optimizers.Optimizer):
    """Runs an optimizer for the steps that a `GuardState` accepts; the others change neither weights nor its state.

    Files hold the inner optimizer alone: a model that was trained with a guard loads without, and the other way round.

    Args:
        inner_optimizer: Keras optimizer, built or not.
        state: `GuardState`, with the loss of the step.
    """

    def __init__(self, inner_optimizer, state):
        super().__init__(learning_rate=0.0, name="guarded")
        self.inner_optimizer = inner_optimizer
        self._state = lambda: state  # the model's, which it saves

    def __dir__(self):
        # Keras saves what it finds here; the inner optimizer is saved as this one's own state, and not once more.
        return [name for name in super().__dir__() if name != "inner_optimizer"]

    def build(self, variables):
        if not self.inner_optimizer.built:
            self.inner_optimizer.build(variables)
        self.gradient_norm = self.add_variable(
            (), dtype="float32", aggregation="only_first_replica", name="gradient_norm"
        )
        super().build(variables)

    @property
    def variables(self):
        return [*self.inner_optimizer.variables, self.gradient_norm] if self.built else []

    def apply(self, grads, trainable_variables=None):
        norm = global_norm([gradient for gradient in grads if gradient is not None])
        # Each replica has gradients of its own, of its part of the batch: a root mean square of their norms.
        norm = ops.sqrt(mean_over_replicas(ops.square(norm))) if num_replicas() > 1 else norm
        if judges_behind_the_update():
            self.gradient_norm.assign(norm)
            self.inner_optimizer.apply(grads, trainable_variables)
            return
        state = self._state()
        ops.cond(
            state.judge(value_now(state.loss), norm),
            lambda: self.inner_optimizer.apply(grads, trainable_variables),
            lambda: None,
        )

    def stateless_apply(self, optimizer_variables, grads, trainable_variables):
        """On JAX, of Keras' step: as the outermost optimizer, leaves the update to `GuardedStep`."""
        state = self._state()
        if not state.deferred.is_wanted:
            return super().stateless_apply(optimizer_variables, grads, trainable_variables)
        state.deferred.gradients = grads
        norm = global_norm([gradient for gradient in grads if gradient is not None])
        return trainable_variables, [*optimizer_variables[:-1], norm]

    @property
    def iterations(self):
        return self.inner_optimizer.iterations

    @property
    def learning_rate(self):
        return self.inner_optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, learning_rate):
        self.inner_optimizer.learning_rate = learning_rate

    def scale_loss(self, loss):
        return self.inner_optimizer.scale_loss(loss)

    def finalize_variable_values(self, var_list):
        self.inner_optimizer.finalize_variable_values(var_list)

    def save_own_variables(self, store):
        self.inner_optimizer.save_own_variables(store)

    def load_own_variables(self, store):
        self.inner_optimizer.load_own_variables(store)

    def get_config(self):
        return {"inner_optimizer": keras.saving.serialize_keras_object(self.inner_optimizer)}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """The inner optimizer: a guard belongs to a training, and `guard_steps` puts it around again."""
        return keras.saving.deserialize_keras_object(config["inner_optimizer"], custom_objects=custom_objects)


def guard_steps(model, sigma, window):
    """Leave out the steps of a compiled model that aren't finite or outliers; see `UMD.guard_steps`."""
    if getattr(model, "optimizer", None) is None:
        raise ValueError("A guard is put around an optimizer; call `compile` first. Received: a model without one")
    with in_scope_of(model):  # new variables must lie where the model's do
        return _guard_steps(model, sigma, window)


def _guard_steps(model, sigma, window):
    if num_replicas() > 1 and isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer):
        raise NotImplementedError(
            "A guard can't work with float16's scaled loss on several replicas of `tf.distribute`; train in bfloat16, "
            f"or with JAX and keras.distribution. Received: {num_replicas()} replicas"
        )
    state = next(iter(model.guards), None)
    if state is not None and (state.sigma, state.window) == (sigma, window):
        return state
    release(model)
    state = GuardState(sigma, window)
    outer = model.optimizer if hasattr(model.optimizer, "inner_optimizer") else None  # a LossScaleOptimizer
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


def innermost(optimizer):
    """The optimizer that updates the weights, without those around it."""
    while hasattr(optimizer, "inner_optimizer"):
        optimizer = optimizer.inner_optimizer
    return optimizer
