"""Data sets that stay in the accelerator's memory: batches are made in the training step, and no loader runs."""

import keras
import numpy as np
from keras import ops

from keras_umd.data.image_dataset import PreparedDataset
from keras_umd.data.options import Options, description_of, names_or_numbers
from keras_umd.data.sources import ArraySource


def on_device(images, labels=None, image_size=None, batch_size=64, class_names=None, **options):
    """Training data that are copied to the accelerator once, and gathered, cropped and flipped inside `UMD.fit`'s step.

    For what fits into the memory of each device: ImageNet at 64x64 is 15.7 GB.

    Example:

    >>> images, labels = keras_umd.data.from_folder("imagenet/train", 64, batch_size=256, training=False).as_arrays()
    >>> model.fit(keras_umd.data.on_device(images, batch_size=1024), epochs=800)

    Args:
        images: uint8 array `(n, height, width, 1 or 3)`.
        labels: Int array `(n,)`, or `None`.
        image_size: Integer. Defaults to the height of the images.
        batch_size: Integer.
        class_names: List of strings. Defaults to "0", "1", ...
        **options: As of `from_folder`: `area_range`, `flip`, `seed`, ... (not `training`, `on_error` and what is about
            reading).

    Returns:
        `ImageDataset`, for `UMD.fit` and `UMD.evaluate`. Its batches say what to take from where.
    """
    source = ArraySource(images, labels)
    image_size = images.shape[1] if image_size is None else image_size
    settings = Options(image_size, batch_size, labels=labels is not None, channels=images.shape[-1], **options)
    if not settings.training:
        raise ValueError("Evaluation data need no crops in the step; take `from_arrays`. Received: training=False")
    order = settings.order(len(source))
    loader = DrawLoader(order, settings.crop(), images.shape[1:3])
    class_names = names_or_numbers(class_names, source.labels)
    dataset = settings.dataset(loader, order, class_names, description_of(source), kind=PreparedDataset)
    dataset.device_layer = DeviceImages(images, source.labels, image_size, name="device_images")
    return dataset


class DrawLoader:
    """What `DeviceImages` makes batches from: indices, crops and flips, a few bytes for each image."""

    def __init__(self, order, crop, image_size):
        self.order = order
        self.crop = crop
        self.image_size = image_size
        self.num_batches = order.num_batches

    def batches(self, epoch, start):
        records = self.order.records(epoch)
        height, width = (np.float32(length) for length in self.image_size)
        for number in range(start, self.num_batches):
            indices = self.order.in_batch(records, number).astype("int32")
            draws = self.order.draws(epoch, number, len(indices)).T
            box = np.stack(self.crop.box(np, height, width, draws), axis=1)
            yield {"indices": indices, "box": box.astype("float32"), "is_flipped": self.crop.is_flipped(draws)}


class DeviceImages(keras.layers.Layer):
    """Images in the accelerator's memory; gives the batches that it is told to make of them.

    Args:
        images: uint8 array `(n, height, width, channels)`.
        labels: int32 array `(n,)`, or `None`.
        image_size: Integer, height and width of the result.
        **kwargs: As of `keras.layers.Layer`.
    """

    def __init__(self, images, labels, image_size, **kwargs):
        super().__init__(trainable=False, dtype="float32", **kwargs)  # boxes are numbers of pixels
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
        """uint8 images `(batch, image_size, image_size, channels)`, and their labels or `None`.

        Args:
            batch: Dictionary of `indices` `(batch,)`; `box` `(batch, 4)`, the top, left, height and width of the crops;
                and `is_flipped` `(batch,)`.
        """
        indices, box = batch["indices"], ops.cast(batch["box"], "float32")
        images = ops.cast(ops.take(self.images, indices, axis=0), "float32")
        rows = resize_weights(box[:, 0], box[:, 2], images.shape[1], self.image_size)
        columns = resize_weights(box[:, 1], box[:, 3], images.shape[2], self.image_size)
        columns = ops.where(batch["is_flipped"][:, None, None], ops.flip(columns, axis=1), columns)
        images = ops.einsum("bph,bhwc->bpwc", rows, images)
        images = ops.einsum("bqw,bpwc->bpqc", columns, images)
        images = ops.cast(ops.round(images), "uint8")
        return images, None if self.labels is None else ops.take(self.labels, indices, axis=0)

    def save_own_variables(self, store):
        """Nothing: the data are not the model's."""

    def load_own_variables(self, store):
        """Nothing: the data are not the model's."""


def resize_weights(start, length, size, new_size):
    """What each pixel of a line contributes to each pixel of its crop, resized bilinearly, smoothed if it shrinks.

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
    is_inside = ops.logical_and(pixels >= start, pixels < start + length)
    weights = ops.where(is_inside, weights, 0.0)
    return weights / ops.sum(weights, axis=-1, keepdims=True)
