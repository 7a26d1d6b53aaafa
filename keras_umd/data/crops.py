"""The part of an image that becomes the training image: one law, for NumPy and for TensorFlow's graphs."""

import dataclasses

from keras_umd.utils.checks import check_bools, check_one_of, is_between, is_list, is_number, require

RATIO_RANGE = (3 / 4, 4 / 3)
MAX_SIDE = 100_000  # pixels
NUM_DRAWS = 5  # area, ratio, top, left, flip


@dataclasses.dataclass(frozen=True)
class Crop:
    """Crops of images of any size, resized to one size.

    In training: a random resized crop, then a flip for half of the images. The crop's share of the area is uniform in
    `area_range`. Its ratio of width to height is log-uniform in [3/4, 4/3] times that of the result, as far as a crop
    of that area and ratio fits into the image; of an image so long that none fits, the crop is the nearest to it that
    does. Its place is uniform among those that fit. (Samplers that draw area and ratio anew until both fit prefer small
    areas: of tf.image's crops at 0.8 to 1.0, half lie below 0.84.) In evaluation: the largest crop in the middle that
    has the ratio of the result.

    Example:

    >>> crop = data.Crop(8, area_range=(0.5, 1.0), flip=False)
    >>> crop.image_size
    (8, 8)

    Args:
        image_size: Integer, height and width of the result, or a pair `(height, width)`.
        channels: 1, 3, or 4 with transparency.
        training: Bool.
        area_range: Pair of floats in (0, 1]. The paper has (0.8, 1.0) to pre-train, (0.95, 1.0) to fine-tune.
        flip: Bool. Whether to flip half of the images in training.
    """

    image_size: int | tuple
    _: dataclasses.KW_ONLY
    channels: int = 3
    training: bool = True
    area_range: tuple = (0.8, 1.0)
    flip: bool = True

    def __post_init__(self):
        object.__setattr__(self, "image_size", height_and_width(self.image_size))
        check_one_of((1, 3, 4), channels=self.channels)
        check_bools(training=self.training, flip=self.flip)
        is_pair = is_list(self.area_range) and len(self.area_range) == 2 and all(map(is_number, self.area_range))
        require(
            is_pair and 0 < self.area_range[0] <= self.area_range[1] <= 1,
            "`area_range` must be a pair (low, high) in (0, 1].",
            f"area_range={self.area_range}",
        )

    @property
    def image_shape(self):
        return (*self.image_size, self.channels)

    @property
    def ratio(self):
        """Width over height of the result."""
        return self.image_size[1] / self.image_size[0]

    def box(self, xp, height, width, draws):
        """The crop as `(top, left, height, width)`, integers as floats.

        Args:
            xp: `numpy` or `tensorflow`.
            height, width: Floats or float arrays, the size of the images.
            draws: Array or list, its first axis the `NUM_DRAWS` uniform random numbers in [0, 1).
        """
        if not self.training:
            crop_height = self._whole(xp, width / self.ratio, height)
            crop_width = self._whole(xp, height * self.ratio, width)
            top, left = xp.floor((height - crop_height) / 2), xp.floor((width - crop_width) / 2)
            return top, left, crop_height, crop_width
        low, high = self.area_range
        area = low + (high - low) * draws[0]
        # A crop of this area is as wide as the image at the widest ratio, and as high at the narrowest.
        narrowest, widest = area * width / height, width / height / area
        smallest, largest = (
            xp.minimum(xp.maximum(self.ratio * relative, narrowest), widest) for relative in RATIO_RANGE
        )
        ratio = smallest * (largest / smallest) ** draws[1]
        crop_height = self._whole(xp, (area * width * height / ratio) ** 0.5, height)
        crop_width = self._whole(xp, (area * width * height * ratio) ** 0.5, width)
        top = xp.minimum(xp.floor(draws[2] * (height - crop_height + 1)), height - crop_height)
        left = xp.minimum(xp.floor(draws[3] * (width - crop_width + 1)), width - crop_width)
        return top, left, crop_height, crop_width

    def is_flipped(self, draws):
        """Whether to flip: a bool, or an array of them."""
        return draws[4] < (0.5 if self.training and self.flip else 0.0)

    @staticmethod
    def _whole(xp, length, limit):
        return xp.minimum(xp.maximum(xp.floor(length + 0.5), 1.0), limit)


def height_and_width(image_size):
    """An `image_size`, an integer or a pair, as the pair `(height, width)` of integers."""
    sizes = tuple(image_size) if is_list(image_size) else (image_size,) * 2
    require(
        len(sizes) == 2 and all(is_between(size, 1, MAX_SIDE) for size in sizes),
        "`image_size` must be a positive integer or a pair (height, width) of them; data readers have two space axes.",
        f"image_size={image_size}",
    )
    return int(sizes[0]), int(sizes[1])


def is_at_least(height, width, image_size, factor=1):
    """Whether both sizes are at least `factor` times those of `image_size`, a pair; also of TensorFlow's tensors."""
    return (height >= factor * image_size[0]) & (width >= factor * image_size[1])
