"""Checks of the arguments of `UMD`."""

import warnings

from keras_umd.corruption.corruption import Corruption
from keras_umd.layers.patches import MAX_AXES
from keras_umd.layers.transformer import CONDITIONINGS
from keras_umd.models.decoders.kind import DecoderKind
from keras_umd.models.teacher import Teacher, check_readings
from keras_umd.objectives.classification import Classification
from keras_umd.objectives.objective import Objective
from keras_umd.objectives.position import Position
from keras_umd.utils.checks import (
    check_instances,
    check_integers,
    check_numbers,
    check_one_of,
    check_positive_integers,
    is_list,
    is_pair,
    is_size,
    require,
)


def check_arguments(
    *,
    image_shape,
    num_classes,
    label_dropout,
    decoder_layers,
    num_cls_tokens,
    conditioning,
    corruption,
    value_range,
    objective,
    decoder,
    teacher,
    **sizes,
):
    """Check those arguments of the constructor that no layer checks; `sizes` must be positive integers."""
    require(
        is_shape(image_shape),
        "`image_shape` must be positive integers: one to four space axes and the channels, for images (height, "
        "width, channels).",
        image_shape=image_shape,
    )
    if len(image_shape) == 2 and image_shape[0] == image_shape[1]:
        warnings.warn(
            f"`image_shape` is that of a sequence, of length {image_shape[0]} with as many channels; images have "
            f"channels behind height and width, for example {(*image_shape, 1)}. Received: image_shape={image_shape}",
            stacklevel=3,
        )
    check_integers(1, optional=True, num_classes=num_classes)
    check_integers(0, decoder_layers=decoder_layers, num_cls_tokens=num_cls_tokens)
    check_positive_integers(**sizes)
    check_instances(Corruption, "a keras_umd.Corruption, for example Corruption.mae()", corruption=corruption)
    check_instances(Objective, "a keras_umd.Objective", optional=True, objective=objective)
    check_instances(DecoderKind, "a decoder, as decoders.Cross(),", optional=True, decoder=decoder)
    check_instances(Teacher, "a keras_umd.Teacher", optional=True, teacher=teacher)
    if objective is not None:
        views = {view.name for view in corruption.views}
        require(
            {term.view for term in objective.terms} <= views,
            f"The terms of `objective` must be of the corruption's views {sorted(views)}.",
            [term.loss_name for term in objective.terms],
        )
        _check_terms(objective.terms, {"num_classes": num_classes, "hidden_dim": sizes["hidden_dim"]})
    check_numbers("[0, 1)", label_dropout=label_dropout)
    check_one_of(CONDITIONINGS, conditioning=conditioning)
    require(
        num_classes is None or conditioning is not None,
        "A model with classes needs conditioning 'adaln_zero' or 'token'.",
        num_classes=num_classes,
        conditioning=conditioning,
    )
    require(
        value_range is None or is_pair(value_range),
        "`value_range` must be a pair (low, high) or None.",
        value_range=value_range,
    )


def _check_terms(terms, sizes):
    """Raise a ValueError for terms that map the encoder's tokens, made for a model of other sizes."""
    for term in terms:
        if isinstance(term, (Classification, Position)):
            own = {name: getattr(term, name) for name in sizes if hasattr(term, name)}
            expected = {name: sizes[name] for name in own}
            require(own == expected, f"The term {term.loss_name!r} must have the model's sizes, {expected}.", own)


def is_shape(image_shape):
    """Whether it is the shape of an image: one to four space axes and the channels."""
    return is_list(image_shape) and 2 <= len(image_shape) <= MAX_AXES + 1 and all(map(is_size, image_shape))


def warn_of_narrow_tokens(patch_dim, hidden_dim, corruption):
    """Warn where noise is predicted and a patch has more numbers than its token can carry.

    The samples of such a model are noise, while its reconstructions look fine. 192 numbers in tokens of 192 left 64% of
    the noise unexplained on emoji, in tokens of 384 33%; 48 numbers in tokens of 96 left 17%.
    """
    if 2 * patch_dim > hidden_dim and corruption.predicts_noise:
        warnings.warn(
            f"A patch has {patch_dim} numbers and its token {hidden_dim}, too few to carry noise: `generate` will give "
            f"noise. Take a smaller `patch_size`, or a `hidden_dim` of at least {2 * patch_dim}.",
            stacklevel=3,
        )


def num_decoder_heads(decoder_heads, decoder_hidden_dim, hidden_dim, num_heads):
    """The number of the decoder's heads: `decoder_heads` if given, else as many as are as wide as the encoder's."""
    check_integers(1, optional=True, decoder_heads=decoder_heads, decoder_hidden_dim=decoder_hidden_dim)
    width = hidden_dim if decoder_hidden_dim is None else int(decoder_hidden_dim)
    if decoder_heads is not None:
        require(
            width % decoder_heads == 0,
            f"`decoder_heads` must be a divisor of the decoder's width {width}.",
            decoder_heads=decoder_heads,
        )
        return int(decoder_heads)
    head_dim = hidden_dim // num_heads
    require(
        decoder_hidden_dim is None or width % head_dim == 0,
        f"`decoder_hidden_dim` must be a multiple of {head_dim}, the width of the encoder's heads "
        "(hidden_dim // num_heads), unless `decoder_heads` is given.",
        decoder_hidden_dim=decoder_hidden_dim,
    )
    return num_heads if decoder_hidden_dim is None else width // head_dim


def check_parts(grid, patch_size, channels, decoder_layers, corruption, objective, teacher):
    """Raise a ValueError where the parts of a model don't fit its images, or each other."""
    corruption.check_grid(grid)
    for target in objective.heads().values():
        target.check_patches(patch_size, channels)
    require(
        decoder_layers > 0 or all(view.mask is None for view in corruption.views),
        "A model that predicts masked patches needs a decoder, `decoder_layers` of at least 1; without one take a "
        "`corruption` that masks nothing, as Corruption.dit().",
        decoder_layers=decoder_layers,
        corruption=corruption,
    )
    check_readings(teacher, corruption, objective)
    objective.check_views(corruption)


def check_noise(kind, corruption):
    """Raise a ValueError where views show their noise to the decoder, and the decoder has no place for it."""
    showing = [view.name for view in corruption.views if view.shows_noise]
    require(
        not showing or kind is None or kind.takes_noise,
        "Views with `noise.OfMasked`, which the decoder sees, need decoder=None, decoders.Cross() or "
        "decoders.CrossSelf().",
        f"decoder={kind!r}, and the views {showing}",
    )


def check_other(decoder, corruption):
    """Raise a ValueError where views give another image, and the decoder doesn't look at one."""
    giving = [view.name for view in corruption.views if view.change is not None and view.change.gives_other]
    require(
        getattr(decoder, "takes_other", False) or not giving,
        "Views whose `change` gives another image need decoder=decoders.CrossSelf().",
        f"{type(decoder).__name__}, and the views {giving}",
    )
