"""Images and labels as the network takes them."""

import numpy as np
from keras import ops

from keras_umd.backend import ensure_shape
from keras_umd.utils.checks import check_labels, require
from keras_umd.utils.images import check_images, scale_images


def prepare_images(model, images, must_be_finite=True, may_have_gaps=False):
    """Images, uint8 or float, checked and as a float32 tensor in the model's `value_range`.

    With `may_have_gaps`, NaN says that something is missing, and stays.

    Example:

    >>> float(ops.max(model.prepare_images(np.full((1, 8, 8, 1), 255, "uint8"))))
    1.0
    """
    images = images if hasattr(images, "shape") else np.asarray(images)
    images = ensure_shape(images, (None,) * (len(model.image_shape) + 1))
    check_images(images, model.image_shape, model.value_range, must_be_finite, may_have_gaps)
    images = ensure_shape(images, (None, *model.image_shape))
    return scale_images(ops.convert_to_tensor(images), model.value_range)


def prepare_labels(model, labels, may_lack=False):
    """Class indices, checked and as an int32 tensor of shape `(batch,)`; `None` stays `None`, the null label.

    With `may_lack`, -1 becomes the null label of its image, the index `num_classes`.

    Example:

    >>> model.prepare_labels([0, 2]).shape
    (2,)
    """
    if labels is None:
        return None
    labels = labels if hasattr(labels, "shape") else np.asarray(labels)
    check_labels(labels, model.num_classes, may_lack)
    labels = ops.reshape(ops.cast(ops.convert_to_tensor(labels), "int32"), (-1,))
    return ops.where(labels < 0, model.num_classes, labels) if may_lack else labels


def check_pairs(images, labels):
    """Raise a ValueError unless there is a label for each image, as far as the shapes are known."""
    num_images, num_labels = images.shape[0], labels.shape[0]
    require(
        None in (num_images, num_labels) or num_images == num_labels,
        f"There must be one label for each of the {num_images} images.",
        f"{num_labels} labels",
    )
