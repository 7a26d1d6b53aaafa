"""What a file may cost: bounds that are looked at before memory is taken."""

import dataclasses

import numpy as np

from keras_umd.utils.checks import is_between, require


class BadImage(ValueError):
    """An image that can't be used."""


@dataclasses.dataclass(frozen=True)
class Limits:
    """Bounds for files from strangers, checked before anything is read or decoded; the `limits` of all readers.

    A PNG of half a megabyte can hold 13000x13000 pixels, a file of a terabyte can take no place on the disk, and a
    label of two billion asks for as many names of classes. An image beyond `max_pixels` or `max_bytes` is a bad image,
    which is counted and left out; more records or classes are an error. Of images that stay above 16 million pixels
    when they are decoded, one is in memory at a time.

    Example:

    >>> scans = data.Limits(max_pixels=150_000_000)
    >>> dataset = data.from_folder("photos", image_size=8, batch_size=2, labels=False, limits=scans)

    Args:
        max_pixels: Integer, height times width of an image file. Of the default, 67 million, the decoder takes up to
            half a gigabyte. Pillow's own limit, `PIL.Image.MAX_IMAGE_PIXELS`, holds as well.
        max_bytes: Integer, of a file with an image, or of a record.
        max_records: Integer, images in a data set.
        max_classes: Integer. Labels of classes without names are at most this.
    """

    max_pixels: int = 2**26
    max_bytes: int = 2**28
    max_records: int = 2**30
    max_classes: int = 2**20

    def __post_init__(self):
        for name, value in dataclasses.asdict(self).items():
            require(is_between(value, 1, np.inf), f"`{name}` must be a positive integer.", **{name: value})

    def check_bytes(self, size):
        """Raise a `BadImage` for a file or record of more than `max_bytes`."""
        if size > self.max_bytes:
            raise BadImage(f"{size} bytes are too many; {self.max_bytes} are allowed (Limits.max_bytes)")

    def check_pixels(self, height, width):
        """Raise a `BadImage` for an image of more than `max_pixels`."""
        if height * width > self.max_pixels:
            raise BadImage(f"{height}x{width} pixels are too many; {self.max_pixels} are allowed (Limits.max_pixels)")

    def check_records(self, count, where):
        """Raise a ValueError for more than `max_records` records, which `where` names."""
        require(
            count <= self.max_records,
            f"There may be {self.max_records} records; `limits=Limits(max_records=...)` allows more.",
            f"{where} with at least {count}",
        )

    def check_label(self, label, where):
        """Raise a ValueError for a class index beyond `max_classes`, in `where`."""
        require(
            0 <= label < self.max_classes,
            f"A class index must be at least 0 and below {self.max_classes}; `limits=Limits(max_classes=...)` allows "
            "more.",
            f"{label} in {where}",
        )


DEFAULT_LIMITS = Limits()
