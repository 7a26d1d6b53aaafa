"""Data sets from their parts: settings, a loader or a source of records, and the names of the classes."""

import zlib

import numpy as np

from keras_umd.data.image_dataset import ImageDataset
from keras_umd.data.python_loader import PythonLoader


def image_dataset(settings, loader, order, class_names, source):
    """The `ImageDataset` of a loader whose batches are `Batch`.

    Args:
        settings: `Settings`.
        loader: Object with `batches(epoch, start)` and `num_batches`.
        order: `Order` of the loader's records.
        class_names: List of strings or `None`.
        source: String that tells these images from others, without reading all of them.
    """
    errors = {"on_error": settings.on_error, "max_bad_share": settings.max_bad_share}
    return ImageDataset(loader, **errors, **dataset_arguments(settings, order, class_names, source))


def random_access_dataset(settings, source, class_names, description):
    """The `ImageDataset` of records that can be read in any order, without TensorFlow.

    Args:
        settings: `Settings`.
        source: Object with `len(source)` and as `PythonLoader` wants it.
        class_names: List of strings or `None`.
        description: String that tells these images from others.
    """
    order = settings.order(len(source))
    loader = PythonLoader(source, order, settings.crop(), settings.workers)
    return image_dataset(settings, loader, order, class_names, description)


def dataset_arguments(settings, order, class_names, source):
    """The arguments of `Dataset` that follow from settings."""
    return {
        "num_images": order.num_own_records,
        "image_shape": settings.crop().image_shape,
        "class_names": class_names if settings.labels else None,
        "batch_size": settings.batch_size,
        "training": settings.training,
        "drop_remainder": settings.drops_remainder,
        "identity": settings.identity(source),
    }


def names_or_numbers(class_names, labels):
    """The names of the classes, or "0", "1", ... for labels whose classes have none."""
    if labels is None:
        return class_names
    if class_names is not None:
        if labels.max() >= len(class_names):
            raise ValueError(
                f"`class_names` must have a name for each label. "
                f"Received: {len(class_names)} names, and labels up to {labels.max()}"
            )
        return class_names
    return [str(label) for label in range(int(labels.max()) + 1)]


def checked_labels(labels, num_images):
    """Class indices as an int32 array of shape `(num_images,)`."""
    labels = np.asarray(labels)
    if labels.shape not in {(num_images,), (num_images, 1)} or labels.dtype.kind not in "iu" or labels.min() < 0:
        raise ValueError(
            f"`labels` must be class indices of shape ({num_images},). "
            f"Received: labels of shape {labels.shape} and type {labels.dtype}"
        )
    return labels.reshape(-1).astype("int32")


def array_description(images, labels):
    """A string that tells one array from another, without reading all of it."""
    checksum = zlib.crc32(b"" if labels is None else labels.tobytes())
    for image in some(images):
        checksum = zlib.crc32(np.ascontiguousarray(image).tobytes(), checksum)
    return f"array {images.shape} {checksum:08x}"


def some(items, count=1000):
    """At most so many items, at equal distances."""
    return items[:: -(-len(items) // count)]
