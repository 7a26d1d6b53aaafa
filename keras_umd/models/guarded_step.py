"""What a guard does before and behind Keras' own part of a step, and what it hands to the host."""

from keras import ops

from keras_umd.backend import assign_on_each_replica, mean_over_replicas, num_replicas
from keras_umd.backend.steps import STATE_IS_VALUES, value_now
from keras_umd.models.guarded_optimizer import GuardedOptimizer, innermost, judges_behind_the_update


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
        if judges_behind_the_update() and not self.state.deferred.is_wanted:
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
            if judges_behind_the_update():
                self._judge(is_judged)
            state.count_unjudged(ops.logical_not(is_judged), self._loss_scale())
        is_rejected = state.rejected > 0
        variables = [variable for variable, _ in self.kept]
        values = [ops.where(is_rejected, value, ops.convert_to_tensor(variable)) for variable, value in self.kept]
        assign_on_each_replica(variables, values)
        logs = {**self.model.get_metrics_result(), "skipped_steps": ops.cast(state.num_skipped, "int32")}
        return {**logs, "step": state.report(self.batch)}

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

    def _loss_scale(self):
        """The scale of float16's loss in the next step, or 1."""
        optimizer = self.model.optimizer
        while optimizer is not self.optimizer:
            if hasattr(optimizer, "dynamic_scale"):
                return value_now(optimizer.dynamic_scale)
            optimizer = optimizer.inner_optimizer
        return 1.0

    def _judge(self, condition):
        norm = next(variable for variable in self.model.optimizer.variables if variable.name == "gradient_norm")
        if num_replicas() > 1:
            self.state.own.loss = value_now(self.state.loss)
            self.state.loss.assign(mean_over_replicas(self.state.own.loss))  # all must judge alike
        before = [(variable, value_now(variable)) for variable in self.state.variables]
        self.state.judge(value_now(self.state.loss), value_now(norm))
        for variable, value in before:
            variable.assign(ops.where(condition, ops.convert_to_tensor(variable), value))


def kept_weights(model):
    """The variables that a step which was left out has to be run again with, if later ones were not; or `None`.

    A group of steps that run together ends with other weights than those with which such a step began.
    """
    is_wanted = any(state.keeps_first for state in model.guards)
    return black_box_weights(model) if is_wanted else None


def black_box_weights(model):
    """The weights of the network and of the objective's terms, without averages."""
    return [*model.network_weights, *model.objective.weights]


def keeping_the_report(train_function, state):
    """The compiled training function, with the report of the step taken from its logs and kept in `state.last`."""

    def run(*args):
        result = train_function(*args)
        logs = result[0] if isinstance(result, tuple) else result  # JAX gives the state, too
        state.last.step, state.last.kept = logs.pop("step", None), logs.pop("kept", None)
        return result

    return run
