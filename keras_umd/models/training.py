"""One training step: draw, corrupt, target, predict, compare.

    draw      the random numbers of a step      Corruption.draw               random, nothing else
    corrupt   images -> views                   Corruption.corrupt            pure
    target    what must be predicted            Objective.targets             no gradient can get here
    predict   views -> outputs                  UMD.call                      what is differentiated
    compare   outputs, targets -> losses        Objective.image_losses        pure but for the terms' heads

The first three run before Keras' own step, which does the rest: so its callbacks, jit, mixed precision, gradient
accumulation and distribution work as ever.
"""

import functools

import keras
from keras import ops

from keras_umd.backend import scale_for_replicas
from keras_umd.backend.steps import run_step, value_now
from keras_umd.corruption.view import network_inputs
from keras_umd.models import teacher
from keras_umd.models.fit_inputs import refuse_weights
from keras_umd.models.guarded_optimizer import innermost
from keras_umd.models.guarded_step import GuardedStep
from keras_umd.models.inputs import check_pairs
from keras_umd.utils.checks import check_bools, check_instances, check_numbers, require


def train_step(model, keras_step, args):
    """One step of `fit`. On JAX it takes and returns the state, too (`backend/steps.py`)."""
    before_step = {}

    def before(batch):
        images, labels = model.batch_checks.update(model, *_unpacked(model, batch))
        before_step["updates"] = value_now(innermost(model.optimizer)._iterations) // num_micro_batches(model)
        if not model.guards:
            return make_views(model, images, labels, model.seed_generator, model.label_dropout)
        draws = draw(model, images, model.seed_generator, model.label_dropout)
        before_step["guarded"] = GuardedStep(model, {"images": images, "labels": labels, "draws": draws})
        return make_views(model, images, labels, draws=draws, must_be_finite=False)

    def after(logs):
        if "guarded" in before_step:
            logs = before_step["guarded"].finish()
        for average in (*model.averages, *model.teacher_averages):
            average.update(_is_updated(model, before_step["updates"]))
        return logs

    return run_step(model, keras_step, args, before, after)


def _is_updated(model, updates_before):
    """Whether the step has updated the weights; `None` where every step does.

    Not every one does with gradient accumulation, and where a guard or the scaling of float16's loss leaves steps out.
    """
    optimizer = innermost(model.optimizer)
    if optimizer is model.optimizer and num_micro_batches(model) == 1:
        return None
    return ops.not_equal(value_now(optimizer._iterations) // num_micro_batches(model), updates_before)


def test_step(model, keras_step, args):
    """One step of `evaluate`: the losses of training, with no label dropped."""
    return run_step(
        model,
        keras_step,
        args,
        before=lambda batch: make_views(
            model, *model.batch_checks.update(model, *_unpacked(model, batch)), model.evaluation_seed_generator
        ),
    )


def make_views(model, images, labels=None, seed=None, label_dropout=0.0, draws=None, must_be_finite=True, hints=None):
    """A batch as the network sees it in training, and what it must predict.

    With it, a loop of one's own is `x, y = model.make_views(images)` and `model.compute_loss(x, y, model(x))`.

    Example:

    >>> x, y = model.make_views(images, labels, seed=0)
    >>> sorted(x["views"]), sorted(y)
    (['clean', 'noisy'], ['clean_x0_loss', 'noisy_eps_loss', 'noisy_x0_loss'])

    Args:
        images: uint8 or float batch `(batch, *image_shape)`.
        labels: Int batch `(batch,)`, or `None`. With a term such as `Classification`, -1 for images without one.
        seed: Integer, `keras.random.SeedGenerator` or `None`, for noise, timesteps and masks.
        label_dropout: Float in [0, 1). Share of the labels that are dropped.
        draws: Dictionary of all random numbers, as `Corruption.draw` returns it. Drawn where it is not given.
        must_be_finite: Bool. Whether images with NaN or infinities raise.
        hints: Dictionary of tensors about the images `(batch, ...)`, for masks that read them, or `None`.

    Returns:
        Pair `(x, y)` of dictionaries of tensors: the views, and the targets by the name of their loss.
    """
    check_numbers("[0, 1)", label_dropout=label_dropout)
    check_bools(must_be_finite=must_be_finite)
    check_instances(dict, "a dictionary, as of `Corruption.draw`,", optional=True, draws=draws)
    if draws is not None:
        needed = {"timesteps", "noise", "mask_noise", "label_drop"}
        require(needed <= set(draws), f"`draws` must have {sorted(needed)}.", f"draws with {sorted(draws)}")
    require(
        hints is None or (isinstance(hints, dict) and all(hasattr(hint, "shape") for hint in hints.values())),
        "`hints` must be a dictionary of tensors `(batch, ...)`, or None.",
        hints=hints,
    )
    images = model.prepare_images(images, must_be_finite, may_have_gaps=model.corruption.hides_gaps)
    labels = model.prepare_labels(labels, model.objective.takes_unlabelled)
    if labels is not None:
        check_pairs(images, labels)
    draws = draw(model, images, seed, label_dropout) if draws is None else draws
    look = functools.partial(teacher.look, model)
    views = model.corruption.corrupt(images, draws, model.patch_size, labels, hints, look)
    targets = model.objective.targets(views, model.patch_size, functools.partial(teacher.tokens_of, model))
    # Keras weighs the logged loss by the size of the first leaf of x, keys sorted: it must be that of the whole batch.
    return {"batch": draws["timesteps"], "views": {name: network_inputs(view) for name, view in views.items()}}, targets


def draw(model, images, seed=None, label_dropout=0.0):
    """The random numbers of a step on these images."""
    learned = model.objective.probabilities()
    options = {"probabilities": learned} if learned else {}
    return model.corruption.draw(ops.shape(images), model.patch_size, seed, label_dropout, **options)


def compute_loss(model, x=None, y=None, y_pred=None, sample_weight=None, training=True):
    """The loss of what `make_views` gave, `x` and `y`, and of `call(x)`, with those that layers added: a scalar.

    Its parts are logged, and with `training=True` terms learn from it what isn't learned by gradients.

    Example:

    >>> x, y = model.make_views(images, labels, seed=0)
    >>> loss = model.compute_loss(x, y, model(x))
    """
    losses = model.objective.image_losses(y_pred, y)
    for tracker in model.loss_part_trackers:
        if tracker.name in losses:  # a batch of one image has only one view
            tracker.update_state(ops.stop_gradient(losses[tracker.name]))
    if training:
        model.objective.observe(losses, y)
    total = model.objective.total(losses, ops.shape(x["batch"])[0])
    total = total + sum(ops.sum(ops.cast(loss, "float32")) for loss in model.losses)
    for guard in model.guards:
        guard.loss.assign(ops.stop_gradient(total))
    return scale_for_replicas(total)


def loss_of(model, images, labels=None):
    """The training loss of a batch, to add to the loss of another model: `self.add_loss(umd.loss_of(images))`.

    Example:

    >>> model.loss_of(images, labels).shape
    ()

    Args:
        images: uint8 or float batch `(batch, *image_shape)`.
        labels: Int batch `(batch,)`, or `None`.

    Returns:
        Float32 scalar.
    """
    x, y = model.make_views(images, labels, model.seed_generator, model.label_dropout)
    return model.objective.total(model.objective.image_losses(model(x), y), ops.shape(x["batch"])[0])


def num_micro_batches(model):
    """The steps whose gradients are one update of the weights."""
    return innermost(model.optimizer).gradient_accumulation_steps or 1


def _unpacked(model, batch):
    """Images and labels of a batch."""
    images, labels, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
    refuse_weights(sample_weight=sample_weight)
    if not isinstance(images, dict):
        return images, labels
    if not model._device_layers:
        raise ValueError(
            f"Batches must be images, or images and labels. Received: a dictionary with the keys {sorted(images)}"
        )
    return model._device_layers[0](images)
