"""The settings that all kinds of data share, and data sets made from settings and a source of records."""

import dataclasses
from collections.abc import Callable

import numpy as np

from keras_umd.data.crops import Crop
from keras_umd.data.image_dataset import ImageDataset
from keras_umd.data.limits import DEFAULT_LIMITS, Limits
from keras_umd.data.loading import PythonLoader
from keras_umd.data.order import Order
from keras_umd.data.tf_loader import TFLoader
from keras_umd.utils.checks import check_bools, check_integers, check_numbers, check_one_of, is_list, require

ON_ERROR = ("skip", "raise")
SUBSETS = ("training", "validation")
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
    limits: Limits | None = None
    augment: Callable | None = None
    validation_split: float | None = None
    subset: str | None = None

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
        self.limits = DEFAULT_LIMITS if self.limits is None else self.limits
        require(
            isinstance(self.limits, Limits),
            "`limits` must be `keras_umd.data.Limits` or None.",
            f"limits={self.limits!r}",
        )
        self.crop()
        order = self.order(MANY)
        self.num_shards, self.shard_index = order.num_shards, order.shard_index
        check_integers(1, MAX_WORKERS, optional=True, workers=self.workers)
        check_one_of(ON_ERROR, on_error=self.on_error)
        check_numbers("[0, 1]", max_bad_share=self.max_bad_share)

        require(
            self.augment is None or (callable(self.augment) and self.training),
            "`augment` must be a function for training data, or None.",
            f"augment={self.augment}, training={self.training}",
        )
        self._check_split()

    def _check_split(self):
        split, subset = self.validation_split, self.subset
        require(
            (split is None) == (subset is None),
            "`validation_split` and `subset` belong together.",
            f"validation_split={split}, subset={subset!r}",
        )
        if split is not None:
            require(
                isinstance(split, (int, float)) and 0 < split < 1,
                "`validation_split` must lie between 0 and 1.",
                f"validation_split={split!r}",
            )
            check_one_of(SUBSETS, subset=subset)

    def part(self, num_records):
        """The records of the `subset`, an int array in order; `None` for all.

        Which they are depends on their number alone: the two subsets never share one, whatever the other settings are.
        """
        if self.validation_split is None:
            return None
        order = np.random.default_rng(num_records).permutation(num_records)
        num_validation = round(self.validation_split * num_records)
        chosen = order[:num_validation] if self.subset == "validation" else order[num_validation:]
        require(
            len(chosen),
            "There must be images in the subset.",
            f"{num_records} images, validation_split={self.validation_split}, subset={self.subset!r}",
        )
        return np.sort(chosen)

    def check_no_split(self):
        """Raise a ValueError for a `validation_split`, of data that have splits or files of their own."""
        require(
            self.validation_split is None,
            "These data have splits of their own, or files to choose from; leave out `validation_split`.",
            f"validation_split={self.validation_split}",
        )

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


def image_dataset(settings, loader, class_names, source, left_out=None):
    """The `ImageDataset` of a loader whose batches are `Batch`.

    Args:
        settings: `Settings`.
        loader: As of `ImageDataset`.
        class_names: List of strings or `None`.
        source: String that tells these images from others, without reading all of them.
        left_out: `LeftOut`, what was left out before; its share is checked here.
    """
    if left_out is not None:
        left_out.check(loader.order.num_records, settings.on_error, settings.max_bad_share)
    return ImageDataset(
        loader,
        not_read={} if left_out is None else left_out.names,
        augment=settings.augment,
        on_error=settings.on_error,
        max_bad_share=settings.max_bad_share,
        **dataset_arguments(settings, class_names, source),
    )


def random_access_dataset(settings, source, class_names, description):
    """The `ImageDataset` of records that can be read in any order, without TensorFlow.

    Args:
        settings: `Settings`.
        source: Object with `len(source)` and as `PythonLoader` wants it; `source.left_out`, a `LeftOut`, is optional.
        class_names: List of strings or `None`.
        description: String that tells these images from others.
    """
    settings.limits.check_records(len(source), description)
    left_out = getattr(source, "left_out", None)
    part = settings.part(len(source))
    if part is not None:
        source = Part(source, part)
        description += f" {settings.subset} part of {settings.validation_split}"
    loader = PythonLoader(source, settings.order(len(source)), settings.crop(), settings.workers, settings.limits)
    return image_dataset(settings, loader, class_names, description, left_out)


class Part:
    """Some of the records of a source.

    Args:
        source: As of `random_access_dataset`.
        records: Int array.
    """

    def __init__(self, source, records):
        self.source, self.records = source, records

    def __len__(self):
        return len(self.records)

    def read(self, record):
        return self.source.read(self.records[record])

    def name(self, record):
        return self.source.name(self.records[record])


def tf_dataset(settings, records, order, class_names, description, left_out=None, **reading):
    """The `ImageDataset` of records that TensorFlow reads in an order of their own.

    Args:
        settings: `Settings`.
        records: As of `TFLoader`.
        order: `Order` of the records' number.
        class_names: List of strings or `None`.
        description: String that tells these images from others.
        left_out: As of `image_dataset`.
        **reading: As of `TFLoader`.
    """
    settings.check_no_split()
    loader = TFLoader(records, order, settings.crop(), settings.workers, settings.limits, **reading)
    return image_dataset(settings, loader, class_names, description, left_out)


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
            **({} if settings.augment is None else {"augment": getattr(settings.augment, "__qualname__", "object")}),
        },
    }


def names_or_numbers(class_names, labels, limits=None):
    """The names of the classes, or "0", "1", ... for labels whose classes have none."""
    if class_names is not None:
        class_names = checked_names(class_names)
    if labels is None:
        return class_names
    largest = int(labels.max())
    if class_names is None:
        (limits or DEFAULT_LIMITS).check_label(largest, "the labels, without `class_names`")
        return [str(label) for label in range(largest + 1)]
    require(
        largest < len(class_names),
        "`class_names` must have a name for each label.",
        f"{len(class_names)} names, and labels up to {largest}",
    )
    return class_names


def checked_names(class_names):
    """A list of different names of classes."""
    is_list = isinstance(class_names, (list, tuple)) and class_names
    require(
        is_list and all(isinstance(name, str) for name in class_names) and len(set(class_names)) == len(class_names),
        "`class_names` must be a list of strings, each once.",
        f"class_names={class_names!r}"[:300],
    )
    return list(class_names)


def checked_labels(labels, num_images):
    """Class indices as an int32 array of shape `(num_images,)`."""
    labels = np.asarray(labels)
    # Before they are cast, which would make a 1 of 2**32 + 1.
    require(
        labels.shape in {(num_images,), (num_images, 1)}
        and labels.dtype.kind in "iu"
        and 0 <= labels.min() <= labels.max() < 2**31,
        f"`labels` must be from 0 to 2**31 - 1, class indices of shape ({num_images},).",
        f"labels of shape {labels.shape} and type {labels.dtype}"
        + (f", from {labels.min()} to {labels.max()}" if labels.dtype.kind in "iu" and labels.size else ""),
    )
    return labels.reshape(-1).astype("int32")


def some(items, count=1000):
    """At most so many items, at equal distances."""
    return items[:: -(-len(items) // count)]
