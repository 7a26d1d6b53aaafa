"""Many steps of `fit` and `evaluate` as one program, on JAX."""

import itertools

import keras

from keras_umd.backend.frameworks import jax


def in_one_program(model, step, keras_function, can_scan, weights=None):
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
        weights: List of Keras variables, or `None`. With it, the logs have a key `"step"`, a dictionary, and get
            `"kept"`: that of the first step with `step["rejected"]`, and these variables as it left them (`_kept`).

    Returns:
        A callable as `keras_function`; that itself where there is one step in an execution, on other backends, and
        where the model isn't compiled.
    """
    if not jax or model.steps_per_execution == 1:
        return keras_function
    one_by_one = keras_function if weights is None else _keeping_one(model, keras_function, weights)
    if model.run_eagerly or not model.jit_compile:
        return one_by_one
    program = scan_of_steps(model, step, weights)

    def run(state, iterator):
        first = next(iterator)  # StopIteration is how Keras learns of the end
        if not can_scan(first):
            return one_by_one(state, itertools.chain([first], iterator))
        batches = [first, *itertools.islice(iterator, model.steps_per_execution - 1)]
        if len(batches) < model.steps_per_execution or any(_shapes(batch) != _shapes(first) for batch in batches):
            return one_by_one(state, iter(batches))
        return program(state, jax.tree.map(_stacked, *batches))

    return run


def scan_of_steps(model, step, weights=None):
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
        kept = None if weights is None else _kept(logs["step"], _values_in(state, model, weights))

        def body(before, batch):
            state, _, kept, number = before
            logs, state = one_step(state, batch)
            if shardings is not None:  # or XLA could gather weights that lie on several devices, for the loop
                state = jax.lax.with_sharding_constraint(state, shardings)
            if kept is not None:
                kept = _updated(kept, number, logs["step"], _values_in(state, model, weights))
            return (state, logs, kept, number + 1), None

        (state, logs, kept, _), _ = jax.lax.scan(body, (state, logs, kept, jax.numpy.int32(0)), batches)
        return (logs if kept is None else {**logs, "kept": kept}), state

    return jax.jit(many_steps, donate_argnums=0, out_shardings=None if shardings is None else (None, shardings))


def _keeping_one(model, keras_function, weights):
    """Keras' function, which runs an execution step by step, with what `in_one_program` adds to the logs."""
    update = jax.jit(_updated, donate_argnums=0)
    memory = {}  # what was kept last, by the shapes of its batch: the last batch of an epoch may have others

    def run(state, iterator):
        logs, kept_of = None, {}
        for number, batch in enumerate(itertools.islice(iterator, model.steps_per_execution)):
            logs, state = keras_function(state, iter([batch]))
            seen, values = logs["step"], _values_in(state, model, weights)
            shapes = str(_shapes(seen))
            if shapes not in kept_of:
                before = memory.pop(shapes, None) or _kept(*jax.tree.map(_zeros, (seen, values)))
                kept_of[shapes] = {**before, "is_kept": jax.numpy.zeros((), bool)}
            kept_of[shapes] = update(kept_of[shapes], number, seen, values)
        if logs is None:
            raise StopIteration
        memory.update(kept_of)
        first, *others = kept_of.values()
        is_first = not others or first["is_kept"]
        return {**logs, "kept": first if is_first else others[0]}, state

    return run


def _kept(step, values):
    """What is kept before any step was: whether one is, its place in the execution, what it reported, and weights."""
    return {"is_kept": jax.numpy.zeros((), bool), "number": jax.numpy.int32(0), "step": step, "weights": values}


def _updated(kept, number, step, values):
    """What is kept behind a step: its own if it is the first that was left out, which has left the weights alone."""
    own = {**_kept(step, values), "is_kept": jax.numpy.ones((), bool), "number": jax.numpy.int32(number)}
    is_first = jax.numpy.logical_and(step["rejected"] > 0, jax.numpy.logical_not(kept["is_kept"]))
    return jax.lax.cond(is_first, lambda: own, lambda: kept)


def _zeros(x):
    """Zeros of the type of an array, on its devices."""
    return jax.numpy.zeros(x.shape, x.dtype, device=x.sharding)


def _values_in(state, model, variables):
    """The values of variables of a model in the state of a step."""
    groups = (model.trainable_variables, model.non_trainable_variables)
    values = {
        id(variable): value
        for group, of_group in zip(groups, state[:2], strict=True)
        for variable, value in zip(group, of_group, strict=True)
    }
    return [values[id(variable)] for variable in variables]


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
