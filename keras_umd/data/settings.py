"""The settings that all kinds of data share, checked before anything is read."""

import dataclasses

import numpy as np

from keras_umd.data.crops import Crop
from keras_umd.data.order import Order

ON_ERROR = ("skip", "raise")
MANY = 2**62  # records: enough for a batch of any size, when only settings are checked


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings that all kinds of data share; `from_folder` explains them."""

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
        """The `Crop` of the images."""
        return Crop(
            self.image_size,
            channels=self.channels,
            training=self.training,
            area_range=tuple(self.area_range) if np.ndim(self.area_range) else self.area_range,
            flip=self.flip,
        )

    def order(self, num_records):
        """The `Order` of so many records."""
        return Order(
            num_records,
            self.batch_size,
            self.shuffles,
            self.drops_remainder,
            self.seed,
            self.shard_index,
            self.num_shards,
        )

    def identity(self, source):
        """The settings that saved states are compared by; `source` is a string that stands for the images."""
        height, width = self.crop().image_size
        names = ("channels", "area_range", "flip", "seed", "shard_index", "num_shards")
        return {
            "image_size": height if height == width else [height, width],
            **{name: getattr(self, name) for name in names},
            "shuffle": self.shuffles,
            "source": source,
        }
