"""Data sets in the accelerator's memory: batches are made in the training step, and no loader runs."""

import keras
import numpy as np
from keras import ops

from keras_umd.data.dataset import Dataset
from keras_umd.data.readers.arrays import ArraySource
from keras_umd.data.settings import dataset_arguments, names_or_numbers
from keras_umd.utils.checks import check_names, require


def on_device(images, labels=None, *, image_size=None, batch_size=64, class_names=None, **options):
    """Training data that are copied to the accelerator once, and gathered, cropped and flipped inside `UMD.fit`'s step.

    For what fits into the memory of each device: ImageNet at 64x64 is 15.7 GB.

    Example:

    >>> batches = data.on_device(images, labels, batch_size=8)
    >>> model.fit(batches, epochs=1)

    Args:
        images: uint8 array `(n, height, width, 1, 3 or 4)`.
        labels: Int array `(n,)`, or `None`.
        image_size: Integer or pair `(height, width)`. Defaults to that of the images.
        batch_size: Integer.
        class_names: List of strings. Defaults to "0", "1", ...
        **options: As of `from_folder`: `area_range`, `flip`, `shuffle`, `drop_remainder`, `seed`, `shard_index`,
            `num_shards`.

    Returns:
        `Dataset`, for `UMD.fit` and `UMD.evaluate`. Its batches are indices and crops, from which its `device_layer`
        makes the images.
    """
    source = ArraySource(images, labels)
    check_names(optional=True, class_names=class_names)
    settings = source.settings(image_size, batch_size, **options)
    require(settings.training, "Evaluation data need no crops in the step; take `from_arrays`.", "training=False")
    require(
        settings.augment is None,
        "Images on the device are cropped and flipped there; take `from_arrays` for an `augment` of your own.",
        f"augment={settings.augment}",
    )
    settings.check_no_split()
    crop = settings.crop()
    class_names = names_or_numbers(class_names, source.labels, settings.limits)
    return Dataset(
        DrawLoader(settings.order(len(source)), crop, images.shape[1:3]),
        device_layer=DeviceImages(images, source.labels, crop.image_size, name="device_images"),
        **dataset_arguments(settings, class_names, source.description()),
    )


class DrawLoader:
    """The batches that `DeviceImages` takes: indices, crops and flips, a few bytes for each image.

    Args:
        order: `Order`.
        crop: `Crop`.
        image_size: Pair `(height, width)` of the images.
    """

    def __init__(self, order, crop, image_size):
        self.order = order
        self.crop = crop
        self.image_size = image_size

    def batches(self, epoch, start):
        """The batches of an epoch, from batch `start` on."""
        height, width = (np.float32(length) for length in self.image_size)
        for records, draws in self.order.batches(epoch, start):
            box = np.stack(self.crop.box(np, height, width, draws.T), axis=1)
            yield {
                "indices": records.astype("int32"),
                "box": box.astype("float32"),
                "is_flipped": self.crop.is_flipped(draws.T),
            }


class DeviceImages(keras.layers.Layer):
    """Images in the accelerator's memory: gathers, crops and flips those of a batch.

    Args:
        images: uint8 array `(n, height, width, channels)`.
        labels: int32 array `(n,)`, or `None`.
        image_size: Pair `(height, width)` of the result.
        **kwargs: As of `keras.layers.Layer`.
    """

    def __init__(self, images, labels, image_size, **kwargs):
        super().__init__(
            trainable=False, dtype="float32", **kwargs
        )  # pixel coordinates need float32 whatever the policy
        self.image_size = image_size
        self.images = self._constant(images, "images")
        self.labels = None if labels is None else self._constant(labels, "labels")
        self.built = True

    def _constant(self, values, name):
        return self.add_weight(
            shape=values.shape,
            dtype=values.dtype.name,
            initializer=lambda shape, dtype: ops.convert_to_tensor(values, dtype),
            trainable=False,
            name=name,
        )

    def call(self, batch):
        """uint8 images `(batch, height, width, channels)`, and their labels or `None`.

        Args:
            batch: Dictionary of `indices` `(batch,)`; `box` `(batch, 4)`, the top, left, height and width of the crops;
                and `is_flipped` `(batch,)`.
        """
        indices, box = batch["indices"], ops.cast(batch["box"], "float32")
        images = ops.cast(ops.take(self.images, indices, axis=0), "float32")
        rows = resize_weights(box[:, 0], box[:, 2], images.shape[1], self.image_size[0])
        columns = resize_weights(box[:, 1], box[:, 3], images.shape[2], self.image_size[1])
        columns = ops.where(batch["is_flipped"][:, None, None], ops.flip(columns, axis=1), columns)
        images = ops.einsum("bph,bhwc->bpwc", rows, images)
        images = ops.einsum("bqw,bpwc->bpqc", columns, images)
        images = ops.cast(ops.round(images), "uint8")
        return images, None if self.labels is None else ops.take(self.labels, indices, axis=0)

    def save_own_variables(self, store):
        """Saves nothing: the data are not the model's."""

    def load_own_variables(self, store):
        """Loads nothing: the data are not the model's."""


def resize_weights(start, length, size, new_size):
    """Weights of the pixels of a line in each pixel of its resized crop: bilinear, with antialiasing if it shrinks.

    Args:
        start, length: Float tensors `(batch,)`, the crops' first pixel and their number of pixels.
        size: Integer, the pixels of the line.
        new_size: Integer, the pixels of the result.

    Returns:
        Float tensor of shape `(batch, new_size, size)`; each row adds up to 1.
    """
    start, length = start[:, None, None], length[:, None, None]
    step = length / new_size
    centers = start + (ops.arange(new_size, dtype="float32")[None, :, None] + 0.5) * step - 0.5
    pixels = ops.arange(size, dtype="float32")[None, None, :]
    weights = ops.maximum(1.0 - ops.abs(pixels - centers) / ops.maximum(step, 1.0), 0.0)
    weights = ops.where(ops.logical_and(pixels >= start, pixels < start + length), weights, 0.0)
    return weights / ops.sum(weights, axis=-1, keepdims=True)
