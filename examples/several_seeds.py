"""Models that differ in their seed alone, trained as one program on JAX: small ones leave a large device idle.

    models = [build(seed) for seed in (0, 1, 2)]                  # each compiled with an optimizer of its own
    losses = fit_together(models, [batches(seed) for seed in (0, 1, 2)], epochs=10)

Each model has its own weights, random numbers and order of images, and ends as `fit` would leave it, up to rounding. On
an accelerator whose kernels are longer to start than to run, three models take about as long as one.
"""

import itertools

import jax
import numpy as np


def fit_together(models, datasets, epochs=1, steps_per_epoch=None):
    """Train models of the same architecture on data of the same shapes, one data set each.

    Args:
        models: List of two or more compiled `UMD`. The step, and the steps of an execution, are those of the first.
        datasets: List of `data.on_device(...)` over the same images, one for each model.
        epochs: Integer.
        steps_per_epoch: Integer, a multiple of `steps_per_execution`; by default one pass over the data.

    Returns:
        List of dictionaries, the means of the losses over the last epoch.
    """
    for model, dataset in zip(models, datasets, strict=True):
        model.fit(dataset.copied(), initial_epoch=1, epochs=1, verbose=0)  # no step: checks, and makes all variables
    first, *others = models
    together = Together(first, others, datasets[1:], steps_per_epoch or len(datasets[0]))
    own_function, first.train_function = first.train_function, together
    options = {} if steps_per_epoch is None else {"steps_per_epoch": steps_per_epoch}
    batches = datasets[0].copied() if steps_per_epoch is None else datasets[0].copied().repeat()
    try:
        first.fit(batches, epochs=epochs, shuffle=False, verbose=0, **options)
    finally:
        first.train_function = own_function
    together.finish()
    return [{name: float(value) for name, value in model.get_metrics_result().items()} for model in models]


class Together:
    """Keras' function for an execution of the first model, which takes the steps of the others along.

    Args:
        first: `UMD`, the one that `fit` runs on.
        others: List of `UMD`.
        datasets: List of theirs.
        steps: Integer, in an epoch.
    """

    def __init__(self, first, others, datasets, steps):
        self.first = first
        self.others = others
        self.batches = [iter(dataset.copied().repeat()) for dataset in datasets]
        self.steps = steps
        self.done = 0
        self.state = tuple(
            [np.stack([variable.value for variable in same]) for same in zip(*groups, strict=True)]
            for groups in zip(*map(groups_of, others), strict=True)
        )
        self.fresh_metrics = self.state[-1]
        self.program = None

    def __call__(self, state, iterator):
        of_first = list(itertools.islice(iterator, self.first.steps_per_execution))
        if not of_first:
            raise StopIteration  # how Keras learns of the end
        if self.done % self.steps == 0:
            self.state = (*self.state[:-1], self.fresh_metrics)
        self.done += len(of_first)
        batches = [[mine, *map(next, self.batches)] for mine in of_first]
        if self.program is None:
            self.program = jax.jit(self._many_steps)
        logs, state, self.state = self.program(state, self.state, stacked([stacked(models) for models in batches]))
        return logs, state

    def _many_steps(self, of_first, of_others, batches):
        """Steps of all models: the images, which `fit` adds to the first one's variables, are everybody's."""
        added = [[None] * (len(mine) - len(theirs)) for mine, theirs in zip(of_first, of_others, strict=True)]
        axes = tuple([0] * len(theirs) + new for theirs, new in zip(of_others, added, strict=True))
        step = jax.vmap(lambda state, batch: self.first.train_step(state, batch), (axes, 0), (0, axes))
        state = tuple(
            [jax.numpy.concatenate([x[None], y]) for x, y in zip(mine, theirs, strict=False)] + mine[len(theirs) :]
            for mine, theirs in zip(of_first, of_others, strict=True)
        )
        logs = jax.eval_shape(step, state, jax.tree.map(lambda x: x[0], batches))[0]
        logs = jax.tree.map(lambda x: jax.numpy.zeros(x.shape, x.dtype), logs)
        (logs, state), _ = jax.lax.scan(lambda before, batch: (step(before[1], batch), None), (logs, state), batches)
        firsts = tuple(
            [x if axis is None else x[0] for x, axis in zip(group, where, strict=True)]
            for group, where in zip(state, axes, strict=True)
        )
        others = tuple(
            [x[1:] for x, axis in zip(group, where, strict=True) if axis is not None]
            for group, where in zip(state, axes, strict=True)
        )
        return jax.tree.map(lambda x: x[0], logs), firsts, others

    def finish(self):
        """Give the others what they have learned."""
        for number, model in enumerate(self.others):
            for variables, values in zip(groups_of(model), self.state, strict=True):
                for variable, value in zip(variables, values, strict=True):
                    variable.assign(value[number])


def groups_of(model):
    """The variables of a model in the order of Keras' state on JAX."""
    return model.trainable_variables, model.non_trainable_variables, model.optimizer.variables, model.metrics_variables


def stacked(trees):
    """Dictionaries of arrays as one, with a new first axis."""
    return jax.tree.map(lambda *arrays: np.stack([np.asarray(array) for array in arrays]), *trees)
