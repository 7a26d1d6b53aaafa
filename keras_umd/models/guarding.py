"""Steps that would spoil a training are left out: the optimizer around the optimizer, and what it remembers.

`UMD.guard_steps` puts `GuardedOptimizer` around the model's own, inside of a `LossScaleOptimizer`; Keras' step stays as
it is. `compute_loss` hands the loss over, the optimizer sees the norm of the gradients, and `GuardState.judge` compares
both with the steps before. The inner optimizer runs only if the step is accepted. JAX knows the loss of a step only
behind Keras' own part of it: there the gradients are put aside, and the inner optimizer runs behind that part. Within a
`LossScaleOptimizer` it has to run in its place; then the old values are put back, for which XLA copies some of them.
"""

import types

import keras
from keras import ops

from keras_umd.backend.steps import STATE_IS_VALUES, global_norm, num_replicas, value_now

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
            return self.add_variable(shape, "zeros", dtype="float32", name=name)

        self.loss = variable("loss")  # of the step that runs
        self.norm = variable("norm")
        self.history = variable("history", (2, window))  # losses, norms of the gradients
        self.num_remembered = variable("num_remembered")
        self.num_accepted = variable("num_accepted")
        self.num_skipped = variable("num_skipped")
        self.in_a_row = variable("in_a_row")  # steps left out since the last that was accepted
        self.rejected = variable("rejected")  # 1 if the last step was left out
        self.last = types.SimpleNamespace(batch=None)  # images, labels and draws of the last step
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
        self.gradient_norm = self.add_variable((), dtype="float32", name="gradient_norm")
        super().build(variables)

    @property
    def variables(self):
        return [*self.inner_optimizer.variables, self.gradient_norm] if self.built else []

    def apply(self, grads, trainable_variables=None):
        norm = global_norm([gradient for gradient in grads if gradient is not None])
        if STATE_IS_VALUES:  # `finish_step` judges, when it knows the loss
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
    if num_replicas(model) > 1:
        raise NotImplementedError(
            "A guard can't work under `tf.distribute` with several replicas; train on one device, or with JAX and "
            f"keras.distribution. Received: {num_replicas(model)} replicas"
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


class GuardedStep:
    """What a step of `fit` must know of the values before it, to put them back.

    Args:
        model: Model with a guard.
        batch: Dictionary of the images, labels and draws of the step, for `GuardState.last`.
    """

    def __init__(self, model, batch):
        self.model, self.state, self.batch = model, model.guards[0], batch
        self.optimizer = innermost(model.optimizer)
        own = {id(variable) for variable in self.state.variables}
        kept = [variable for variable in model.metrics_variables if id(variable) not in own]
        # Statistics, such as those of a BatchNormalization in a term's head; the network itself has none.
        kept += model.objective.non_trainable_variables
        self.state.deferred.is_wanted = STATE_IS_VALUES and isinstance(model.optimizer, GuardedOptimizer)
        if STATE_IS_VALUES and not self.state.deferred.is_wanted:
            kept += model.trainable_variables + self.optimizer.variables
        self.kept = [(variable, value_now(variable)) for variable in kept]
        self.iterations = value_now(self.optimizer._iterations)
        self.state.rejected.assign(0.0)

    def finish(self):
        """Judge the step where that is still to be done, and put back what it changed if it is left out.

        Returns:
            Dictionary, the logs of the step.
        """
        state = self.state
        if state.deferred.is_wanted:
            self._apply_deferred()
        else:
            is_applied = ops.not_equal(self.optimizer._iterations, self.iterations)
            # Else a LossScaleOptimizer has found gradients that aren't finite, and has not handed the step on.
            is_judged = ops.logical_or(is_applied, state.rejected > 0)
            if STATE_IS_VALUES:
                self._judge(is_judged)
            state.count_unjudged(ops.logical_not(is_judged))
        is_rejected = state.rejected > 0
        for variable, value in self.kept:
            variable.assign(ops.where(is_rejected, value, ops.convert_to_tensor(variable)))
        skipped = ops.cast(state.num_skipped, "int32")
        return {**self.model.get_metrics_result(), "skipped_steps": skipped, "batch": self.batch}

    def _apply_deferred(self):
        """Run the inner optimizer on the gradients that Keras' step has handed over, if the step is accepted."""
        state, optimizer, weights = self.state, self.optimizer, self.model.trainable_variables
        gradients = state.deferred.gradients
        state.deferred.is_wanted, state.deferred.gradients = False, None  # a loop of one's own gets its update at once
        accepted = state.judge(value_now(state.loss), value_now(self.model.optimizer.gradient_norm))
        old = [[value_now(variable) for variable in group] for group in (weights, optimizer.variables)]
        new = ops.cond(accepted, lambda: optimizer.stateless_apply(old[1], gradients, old[0]), lambda: tuple(old))
        for group, values in zip((weights, optimizer.variables), new, strict=True):
            for variable, value in zip(group, values, strict=True):
                variable.assign(value)

    def _judge(self, condition):
        norm = next(variable for variable in self.model.optimizer.variables if variable.name == "gradient_norm")
        before = [(variable, value_now(variable)) for variable in self.state.variables]
        self.state.judge(value_now(self.state.loss), value_now(norm))
        for variable, value in before:
            variable.assign(ops.where(condition, ops.convert_to_tensor(variable), value))


def keeping_the_batch(train_function, state):
    """The compiled training function, with the batch taken from its logs and kept in `state.last`."""

    def run(*args):
        result = train_function(*args)
        logs = result[0] if isinstance(result, tuple) else result  # JAX gives the state, too
        state.last.batch = logs.pop("batch")
        return result

    return run
