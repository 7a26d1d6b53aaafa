"""Images in memory, or in a memory-mapped file."""

import zlib

import numpy as np

from keras_umd.data.settings import Settings, checked_labels, names_or_numbers, random_access_dataset, some
from keras_umd.utils.checks import check_names, require


def from_arrays(images, labels=None, *, image_size=None, batch_size=64, class_names=None, **options):
    """Images in memory, or in a memory-mapped file.

    `on_device` is faster where they fit into the accelerator's memory.

    Example:

    >>> dataset = data.from_arrays(images, labels, batch_size=8)  # cropped and flipped at random
    >>> len(dataset), dataset.image_shape
    (3, (8, 8, 1))

    Args:
        images: uint8 array `(n, height, width, 1, 3 or 4)`.
        labels: Int array `(n,)`, or `None`.
        image_size: Integer or pair `(height, width)`. Defaults to that of the images.
        batch_size: Integer.
        class_names: List of strings. Defaults to "0", "1", ...
        **options: As of `from_folder`, without `labels`, `channels` and `loader`.

    Returns:
        `ImageDataset`.
    """
    source = ArraySource(images, labels)
    check_names(optional=True, class_names=class_names)
    settings = source.settings(image_size, batch_size, **options)
    class_names = names_or_numbers(class_names, source.labels, settings.limits)
    return random_access_dataset(settings, source, class_names, source.description())


class ArraySource:
    """Images and labels in memory, or in a memory-mapped file.

    Args:
        images: uint8 array `(n, height, width, 1, 3 or 4)`.
        labels: Int array `(n,)`, or `None`.
    """

    def __init__(self, images, labels=None):
        is_array = isinstance(images, np.ndarray) and images.ndim == 4 and images.size > 0
        require(
            is_array and images.dtype == np.uint8 and images.shape[-1] in (1, 3, 4),
            "`images` must be a NumPy array of uint8 images (n, height, width, 1, 3 or 4), and not empty; signals, "
            "volumes and videos go to `fit` as they are.",
            f"{type(images).__name__} of shape {getattr(images, 'shape', None)} "
            f"and type {getattr(images, 'dtype', None)}",
        )
        self.images = images
        self.labels = None if labels is None else checked_labels(labels, len(images))

    def __len__(self):
        return len(self.images)

    def read(self, record):
        return self.images[record], None if self.labels is None else self.labels[record]

    def name(self, record):
        return f"image {record}"

    def settings(self, image_size, batch_size, **options):
        """The `Settings` for these images; `image_size` defaults to theirs."""
        image_size = self.images.shape[1:3] if image_size is None else image_size
        return Settings(
            image_size, batch_size, labels=self.labels is not None, channels=self.images.shape[-1], **options
        )

    def description(self):
        """A string that tells these images and labels from others, without reading all images."""
        checksum = zlib.crc32(b"" if self.labels is None else self.labels.tobytes())
        for image in some(self.images):
            checksum = zlib.crc32(np.ascontiguousarray(image).tobytes(), checksum)
        return f"array {self.images.shape} {checksum:08x}"
