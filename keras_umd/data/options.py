"""What all kinds of data have in common: their options, checked, and the parts that these make."""

import dataclasses
import zlib

import numpy as np

from keras_umd.data.crops import Crop
from keras_umd.data.image_dataset import ImageDataset
from keras_umd.data.order import Order
from keras_umd.data.python_loader import PythonLoader

ON_ERROR = ("skip", "raise")
MANY = 2**62  # records: enough for a batch of any size


@dataclasses.dataclass(frozen=True)
class Options:
    """What all kinds of data have in common; the arguments are explained at `from_folder`."""

    image_size: int
    batch_size: int
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

    def __post_init__(self):
        """Before anything is read: folders may take minutes."""
        self.crop()
        self.order(MANY)
        if self.workers is not None and (not isinstance(self.workers, (int, np.integer)) or self.workers < 1):
            raise ValueError(f"`workers` must be a positive integer or None. Received: workers={self.workers}")
        if self.on_error not in ON_ERROR:
            raise ValueError(f"`on_error` must be one of {ON_ERROR}. Received: on_error={self.on_error!r}")
        if not isinstance(self.max_bad_share, (int, float)) or not 0 <= self.max_bad_share <= 1:
            raise ValueError(f"`max_bad_share` must lie in [0, 1]. Received: max_bad_share={self.max_bad_share}")

    @property
    def shuffles(self):
        return self.training if self.shuffle is None else self.shuffle

    @property
    def drops_remainder(self):
        return self.training if self.drop_remainder is None else self.drop_remainder

    def crop(self):
        area_range = tuple(self.area_range) if np.ndim(self.area_range) else self.area_range
        return Crop(self.image_size, self.channels, self.training, area_range, self.flip)

    def order(self, num_records):
        return Order(
            num_records,
            self.batch_size,
            self.shuffles,
            self.drops_remainder,
            self.seed,
            self.shard_index,
            self.num_shards,
        )

    def dataset(self, loader, order, class_names, source, kind=ImageDataset):
        """The data set of a loader; `source` is a string that tells where the images are from."""
        names = ("image_size", "channels", "area_range", "flip", "seed", "shard_index", "num_shards")
        identity = {name: getattr(self, name) for name in names}
        identity.update(shuffle=self.shuffles, source=source)
        return kind(
            loader,
            num_images=order.num_own_records,
            image_shape=self.crop().image_shape,
            class_names=class_names if self.labels else None,
            batch_size=self.batch_size,
            training=self.training,
            drop_remainder=self.drops_remainder,
            identity=identity,
            on_error=self.on_error,
            max_bad_share=self.max_bad_share,
        )

    def in_any_order(self, source, class_names, description):
        """The data set of a source whose records can be read in any order, without TensorFlow."""
        order = self.order(len(source))
        loader = PythonLoader(source, order, self.crop(), self.workers)
        return self.dataset(loader, order, class_names, description)


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


def description_of(source):
    """What tells one array from another, without reading all of it."""
    checksum = zlib.crc32(b"" if source.labels is None else source.labels.tobytes())
    for image in some(source.images):
        checksum = zlib.crc32(np.ascontiguousarray(image).tobytes(), checksum)
    return f"array {source.images.shape} {checksum:08x}"


def some(items, count=1000):
    """At most so many items, at equal distances."""
    return items[:: -(-len(items) // count)]
