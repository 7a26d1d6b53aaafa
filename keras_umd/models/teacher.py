"""A teacher: the moving average of the model, which looks at images before a step begins."""

import contextlib
import math

import keras
from keras import ops

from keras_umd.corruption.masks.hints import ATTENTION, DIFFICULTY, UPDATES
from keras_umd.models.averages import WeightAverage
from keras_umd.utils.checks import check_integers, check_numbers, require
from keras_umd.utils.configurable import Configurable


@keras.saving.register_keras_serializable("keras_umd")
class Teacher(Configurable):
    """The moving average of a model's own weights (mean teacher; Tarvainen and Valpola, 2017).

    It looks at the clean images before each training step: masks read from it where the class token looks and what is
    hard to predict, of all patches, and `objectives.Alignment` what it makes of masked ones. No gradient passes. Until
    the first update it is the model itself; then it is `decay` of what it was and the rest the new weights. It lives in
    the model's file and is updated with every update of the weights; averages for generation are others.

    Example:

    >>> keras_umd.UMD(teacher=Teacher(0.996), corruption=Corruption(views=[View("clean", mask=masks.Attention())]))

    Args:
        decay: Float in [0, 1).
        final_decay: Float in [0, 1], to which the decay goes along half a cosine, or `None`.
        steps: Integer, the updates after which it is reached; needed with `final_decay`.
    """

    def __init__(self, decay=0.996, final_decay=None, steps=None):
        check_numbers("[0, 1)", decay=decay)
        check_numbers("[0, 1]", optional=True, final_decay=final_decay)
        check_integers(1, optional=True, steps=steps)
        require(
            (final_decay is None) == (steps is None),
            "`final_decay` and `steps` need each other.",
            final_decay=final_decay,
            steps=steps,
        )
        self.decay = decay
        self.final_decay = final_decay
        self.steps = steps

    def newest_weight(self, num_updates):
        """The weight of the newest weights, after so many updates: all of it at the first."""
        decay = self.decay
        if self.steps is not None:
            progress = ops.minimum(num_updates / self.steps, 1.0)
            decay = self.final_decay - (self.final_decay - self.decay) * (ops.cos(math.pi * progress) + 1.0) / 2.0
        return ops.where(num_updates <= 1.0, 1.0, 1.0 - decay)


def follow(model):
    """Let the teacher follow the weights that the model has now, which LoRA may have added to."""
    if model.teacher is None:
        return
    weights = model.network_weights
    if not model.teacher_averages:
        model.teacher_averages.append(WeightAverage(model.teacher, weights, name="teacher_average"))
    elif not model.teacher_averages[0].is_of(weights):
        model.teacher_averages[:] = [model.teacher_averages[0].renewed(weights)]


def check_readings(teacher, corruption, objective):
    """Raise a ValueError for masks that read what nothing gives."""
    read = {name for view in corruption.views if view.mask is not None for name in view.mask.reads}
    given = set(objective.hint_names)
    if teacher is not None:
        given |= {ATTENTION, UPDATES} | ({DIFFICULTY} & set(objective.heads()))
    require(
        read <= given,
        "A mask of `corruption` reads what nothing gives: hints of a network need `teacher=Teacher()`, and difficulty "
        "a term Difficulty in the `objective`, too.",
        sorted(read - given),
    )


def look(model, images, names):
    """What masks read of images, as the teacher sees them.

    Args:
        model: `UMD`.
        images: Float tensor `(n, *image_shape)`, clean.
        names: List of names of hints.

    Returns:
        Dictionary of float32 tensors with `n` rows.
    """
    hints = model.objective.hints(images, model.patch_size, names)
    own = [name for name in names if name not in hints]
    if not own:
        return hints
    num_updates = model.teacher_averages[0].num_updates.value
    with _averaged(model):
        readings = {
            ATTENTION: lambda: _class_attention(model, images),
            DIFFICULTY: lambda: _difficulty(model, images),
            UPDATES: lambda: ops.broadcast_to(ops.convert_to_tensor(num_updates), (ops.shape(images)[0],)),
        }
        seen = {name: readings[name]() for name in own}
    return {**hints, **{name: ops.stop_gradient(ops.cast(hint, "float32")) for name, hint in seen.items()}}


def tokens_of(model, images, patches):
    """What the encoder makes of some patches of clean images, of which it sees no others: `(n, k, hidden_dim)`.

    It has the weights of the teacher, or those of the moment in a model without one. No gradient passes.

    Args:
        model: `UMD`.
        images: Float tensor `(n, *image_shape)`, clean.
        patches: Int tensor `(n, k)`.
    """
    with _averaged(model) if model.teacher_averages else contextlib.nullcontext():
        condition = model.condition(ops.zeros((1,), "int32"))
        return ops.stop_gradient(model.encoder(images, condition=condition, visible=patches)[1])


def _averaged(model):
    """A context in which the network has the weights of its teacher."""
    (average,) = model.teacher_averages
    # Values first: the scope would look past one that is around it.
    values = _values(average, model.network_weights)
    return keras.StatelessScope(state_mapping=list(zip(model.network_weights, values, strict=True)))


def _values(average, variables):
    is_begun = average.num_updates > 0
    return [
        ops.where(is_begun, ops.cast(mean.value, variable.dtype), ops.convert_to_tensor(variable))
        for mean, variable in zip(average.averages, variables, strict=True)
    ]


def _class_attention(model, images):
    """`(n, num_patches)`."""
    return model.encoder.class_attention(images, condition=model.condition(ops.zeros((1,), "int32")))


def _difficulty(model, images):
    """`(n, num_patches)`, of the patches that are all seen."""
    view = {"images": images, "timesteps": ops.zeros((1,), "int32")}
    return model.predict_view(view, {DIFFICULTY: "all"})[DIFFICULTY][:, :, 0]
