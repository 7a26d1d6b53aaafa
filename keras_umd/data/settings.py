"""The settings that all kinds of data share, and data sets made from settings and a source of records."""

import dataclasses

import numpy as np

from keras_umd.data.crops import Crop
from keras_umd.data.image_dataset import ImageDataset
from keras_umd.data.loading import PythonLoader
from keras_umd.data.order import Order
from keras_umd.data.tf_loader import TFLoader
from keras_umd.utils.checks import check_bools, check_integers, check_numbers, check_one_of, is_list, require

ON_ERROR = ("skip", "raise")
MAX_WORKERS = 1000  # threads
MANY = 2**62  # records: enough for a batch of any size, when only settings are checked


@dataclasses.dataclass
class Settings:
    """The settings that all kinds of data share, with their defaults filled in; `from_folder` explains them."""

    image_size: int | tuple
    batch_size: int
    _: dataclasses.KW_ONLY
    training: bool = True
    labels: bool = True
    channels: int = 3
    area_range: tuple = (0.8, 1.0)
    flip: bool = True
    shuffle: bool | None = None
    drop_remainder: bool | None = None
    seed: int = 0
    shard_index: int = 0
    num_shards: int = 1
    workers: int | None = None
    on_error: str = "skip"
    max_bad_share: float = 0.01

    @classmethod
    def among(cls, arguments):
        """Those that are among a function's `arguments`, a dictionary."""
        return cls(**{field.name: arguments[field.name] for field in dataclasses.fields(cls)})

    def __post_init__(self):
        """Checks all of them now: reading a folder may take minutes."""
        check_bools(training=self.training, labels=self.labels, flip=self.flip)
        check_bools(optional=True, shuffle=self.shuffle, drop_remainder=self.drop_remainder)
        self.shuffle = self.training if self.shuffle is None else self.shuffle
        self.drop_remainder = self.training if self.drop_remainder is None else self.drop_remainder
        self.crop()
        order = self.order(MANY)
        self.num_shards, self.shard_index = order.num_shards, order.shard_index
        check_integers(1, MAX_WORKERS, optional=True, workers=self.workers)
        check_one_of(ON_ERROR, on_error=self.on_error)
        check_numbers("[0, 1]", max_bad_share=self.max_bad_share)

    def crop(self):
        """The `Crop` of the images."""
        return Crop(
            self.image_size,
            channels=self.channels,
            training=self.training,
            area_range=tuple(self.area_range) if is_list(self.area_range) else self.area_range,
            flip=self.flip,
        )

    def order(self, num_records):
        """The `Order` of so many records."""
        return Order(
            num_records,
            self.batch_size,
            self.shuffle,
            self.drop_remainder,
            self.seed,
            self.shard_index,
            self.num_shards,
        )


def image_dataset(settings, loader, class_names, source):
    """The `ImageDataset` of a loader whose batches are `Batch`.

    Args:
        settings: `Settings`.
        loader: As of `ImageDataset`.
        class_names: List of strings or `None`.
        source: String that tells these images from others, without reading all of them.
    """
    return ImageDataset(
        loader,
        on_error=settings.on_error,
        max_bad_share=settings.max_bad_share,
        **dataset_arguments(settings, class_names, source),
    )


def random_access_dataset(settings, source, class_names, description):
    """The `ImageDataset` of records that can be read in any order, without TensorFlow.

    Args:
        settings: `Settings`.
        source: Object with `len(source)` and as `PythonLoader` wants it.
        class_names: List of strings or `None`.
        description: String that tells these images from others.
    """
    loader = PythonLoader(source, settings.order(len(source)), settings.crop(), settings.workers)
    return image_dataset(settings, loader, class_names, description)


def tf_dataset(settings, records, order, class_names, description, **reading):
    """The `ImageDataset` of records that TensorFlow reads in an order of their own.

    Args:
        settings: `Settings`.
        records, **reading: As of `TFLoader`.
        order: `Order` of the records' number.
        class_names: List of strings or `None`.
        description: String that tells these images from others.
    """
    loader = TFLoader(records, order, settings.crop(), settings.workers, **reading)
    return image_dataset(settings, loader, class_names, description)


def dataset_arguments(settings, class_names, source):
    """The arguments of `Dataset` that follow from settings."""
    image_shape = settings.crop().image_shape
    height, width, channels = image_shape
    return {
        "image_shape": image_shape,
        "class_names": class_names if settings.labels else None,
        "training": settings.training,
        "identity": {
            "image_size": height if height == width else [height, width],
            "channels": channels,
            "area_range": settings.area_range,
            "flip": settings.flip,
            "source": source,
        },
    }


def names_or_numbers(class_names, labels):
    """The names of the classes, or "0", "1", ... for labels whose classes have none."""
    if labels is not None and class_names is None:
        return [str(label) for label in range(int(labels.max()) + 1)]
    if labels is not None and labels.max() >= len(class_names):
        raise ValueError(
            f"`class_names` must have a name for each label. "
            f"Received: {len(class_names)} names, and labels up to {labels.max()}"
        )
    return class_names


def checked_labels(labels, num_images):
    """Class indices as an int32 array of shape `(num_images,)`."""
    labels = np.asarray(labels)
    require(
        labels.shape in {(num_images,), (num_images, 1)} and labels.dtype.kind in "iu" and labels.min() >= 0,
        f"`labels` must be class indices of shape ({num_images},).",
        f"labels of shape {labels.shape} and type {labels.dtype}",
    )
    return labels.reshape(-1).astype("int32")


def some(items, count=1000):
    """At most so many items, at equal distances."""
    return items[:: -(-len(items) // count)]
