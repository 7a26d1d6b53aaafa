"""The optimizer around the optimizer, which runs it for the steps that a guard accepts."""

import keras
from keras import ops

from keras_umd.backend import mean_over_replicas, not_finite_on_all_replicas, num_replicas
from keras_umd.backend.steps import STATE_IS_VALUES, global_norm, value_now


def judges_behind_the_update():
    """Whether a step's update runs before it is judged, and is undone if it must be."""
    return STATE_IS_VALUES or num_replicas() > 1  # a collective can't stand in a branch


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
        if num_replicas() > 1:
            grads, norm = self._agreed(grads, norm)
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

    def _agreed(self, grads, norm):
        """Gradients and norm of a replica, so that all replicas take the step or none.

        Each has gradients of its own, of its part of the batch; the norm is the root mean square of theirs.
        """
        is_scaled = hasattr(self.inner_optimizer, "dynamic_scale")
        norm = norm / self.inner_optimizer.dynamic_scale if is_scaled else norm
        self._state().own.norm = norm
        norm = ops.sqrt(mean_over_replicas(ops.square(norm)))
        return not_finite_on_all_replicas(grads, norm) if is_scaled else grads, norm

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


def innermost(optimizer):
    """The optimizer that updates the weights, without those around it: a guard's, or Keras' `LossScaleOptimizer`."""
    while hasattr(optimizer, "inner_optimizer"):
        optimizer = optimizer.inner_optimizer
    return optimizer
