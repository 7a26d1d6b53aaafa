"""Many steps of `fit` and `evaluate` as one program, on JAX."""

import itertools

import keras

from keras_umd.backend.frameworks import jax


def in_one_program(model, step, keras_function, can_scan):
    """Keras' function for one execution, with its steps as one `jax.lax.scan` where they can be.

    With `steps_per_execution`, Keras starts a program for each step, and the host must keep up with an accelerator. A
    scan is started once for all of them; it is traced and compiled once, whatever their number. The rest of an epoch,
    and batches of different sizes, are left to Keras' own function, step by step.

    Only the last step's logs are given back, as by Keras: of batches and random numbers in them, one copy is kept.

    Args:
        model: Compiled `keras.Model`.
        step: callable, its `train_step` or `test_step`, `(state, batch) -> (logs, state)`.
        keras_function: callable, `(state, iterator) -> (logs, state)`, what Keras has made of `step`.
        can_scan: callable, `batch -> bool`. All batches of an execution are in memory at once.

    Returns:
        A callable as `keras_function`; that itself where there is one step in an execution, on other backends, and
        where the model isn't compiled.
    """
    if not jax or model.steps_per_execution == 1 or model.run_eagerly or not model.jit_compile:
        return keras_function
    program = scan_of_steps(model, step)

    def run(state, iterator):
        first = next(iterator)  # StopIteration is how Keras learns of the end
        if not can_scan(first):
            return keras_function(state, itertools.chain([first], iterator))
        batches = [first, *itertools.islice(iterator, model.steps_per_execution - 1)]
        if len(batches) < model.steps_per_execution or any(_shapes(batch) != _shapes(first) for batch in batches):
            return keras_function(state, iter(batches))
        return program(state, jax.tree.map(_stacked, *batches))

    return run


def scan_of_steps(model, step):
    """The compiled function `(state, batches) -> (logs, state)`; the arrays of batches have a leading axis of steps."""
    shardings = None
    if keras.distribution.distribution() is not None:
        groups = [model.trainable_variables, model.non_trainable_variables, model.metrics_variables]
        if step == model.train_step:
            groups.insert(2, model.optimizer.variables)
        shardings = tuple([variable.value.sharding for variable in group] for group in groups)

    def many_steps(state, batches):
        one_step = jax.jit(step, inline=True)  # traced once for its shapes and for the loop
        one_batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), batches)
        logs, _ = jax.eval_shape(one_step, state, one_batch)
        logs = jax.tree.map(lambda x: jax.numpy.zeros(x.shape, x.dtype), logs)

        def body(before, batch):
            logs, state = one_step(before[0], batch)
            if shardings is not None:  # or XLA could gather weights that lie on several devices, for the loop
                state = jax.lax.with_sharding_constraint(state, shardings)
            return (state, logs), None

        (state, logs), _ = jax.lax.scan(body, (state, logs), batches)
        return logs, state

    return jax.jit(many_steps, donate_argnums=0, out_shardings=None if shardings is None else (None, shardings))


def _shapes(batch):
    return [getattr(x, "shape", None) for x in jax.tree.leaves(batch)]


def _stacked(*values):
    """Arrays with a new first axis, which is on no device of its own."""
    stacked = jax.numpy.stack(values)
    sharding = getattr(values[0], "sharding", None)
    if isinstance(sharding, jax.sharding.NamedSharding):
        spec = jax.sharding.PartitionSpec(None, *sharding.spec)
        stacked = jax.device_put(stacked, jax.sharding.NamedSharding(sharding.mesh, spec))
    return stacked
