"""Two crops of an image, one inside the other."""

import keras
from keras import ops

from keras_umd.corruption.changes.change import Change
from keras_umd.utils.checks import is_list, is_number, is_pair, require

OF_A_BOX = 4  # draws: area, ratio of the sides, place along rows, place along columns


@keras.saving.register_keras_serializable("keras_umd")
class CropInCrop(Change):
    """A crop of each image, to look at as it is, and a crop of that crop, to mask (CropMAE; Eymael et al., 2024).

    Both are resized to the image's size, bilinearly. What is masked can be found in the other crop, elsewhere and at
    another scale: a view with this change needs a decoder that looks there, `decoders.CrossSelf`. For images with two
    space axes.

    Example:

    >>> view = View("clean", mask=masks.Random(0.985), change=CropInCrop())

    Args:
        area: Pair of floats in (0, 1], the range of a crop's share of the area that it is taken from; with (1, 1) both
            crops are the image. Uniform.
        aspect: Pair of positive, rising floats, the range of a crop's ratio of width to height, over that of the
            image; log-uniform, as far as a crop of that area and ratio fits.
    """

    gives_other = True

    def __init__(self, area=(0.2, 1.0), aspect=(3 / 4, 4 / 3)):
        require(
            is_list(area) and len(area) == 2 and all(map(is_number, area)) and 0 < area[0] <= area[1] <= 1,
            "`area` must be a pair of numbers (low, high) in (0, 1].",
            area=area,
        )
        require(is_pair(aspect, 1e-3, 1e3), "`aspect` must be a pair of rising numbers in [1e-3, 1e3].", aspect=aspect)
        self.area = tuple(map(float, area))
        self.aspect = tuple(map(float, aspect))

    def num_draws(self, grid):
        return 2 * OF_A_BOX

    def __call__(self, images, draws, patch_size, noise, hints=None):
        require(
            len(images.shape) == 4,
            "CropInCrop is for images with two space axes.",
            f"images of shape {tuple(images.shape)}",
        )
        outer, inner = self.boxes(draws)
        cropped = resized(images, inner)
        return {"images": cropped, "x0": cropped, "other": resized(images, outer)}

    def boxes(self, draws):
        """The outer and the inner crop, each a pair of `(start, length)` along rows and columns, shares of the image.

        Args:
            draws: Float32 tensor of shape `(n, 8)`, uniform in [0, 1).
        """
        outer, within = self._box(draws[:, :OF_A_BOX]), self._box(draws[:, OF_A_BOX:])
        inner = [
            (start + length * part, length * share)
            for (start, length), (part, share) in zip(outer, within, strict=True)
        ]
        return outer, inner

    def _box(self, draws):
        low, high = self.area
        area = low + (high - low) * draws[:, 0]
        # A crop of this area is as wide as the image at the widest ratio, and as high at the narrowest.
        smallest, largest = (ops.minimum(ops.maximum(area, ratio), 1.0 / area) for ratio in self.aspect)
        ratio = smallest * ops.exp(draws[:, 1] * ops.log(largest / smallest))
        lengths = [ops.minimum(ops.sqrt(x), 1.0) for x in (area / ratio, area * ratio)]
        return [((1.0 - length) * draws[:, 2 + axis], length) for axis, length in enumerate(lengths)]


def resized(images, box):
    """Crops of images at the size of the images, bilinear; what lies outside of an image is its border.

    By gathering, not by matrix products: those would round pixels on accelerators, and a crop of everything is the
    image.

    Args:
        images: Float tensor of shape `(n, height, width, channels)`.
        box: Pair of `(start, length)` along rows and columns, tensors `(n,)`, shares of the image.
    """
    for axis, (start, length) in enumerate(box, start=1):
        size, shape = images.shape[axis], [-1, *(1,) * (len(images.shape) - 1)]
        shape[axis] = images.shape[axis]
        centers = start[:, None] * size + (ops.arange(size, dtype="float32") + 0.5) * length[:, None] - 0.5
        lower = ops.floor(centers)
        share = ops.reshape(centers - lower, shape)
        nearest = [ops.cast(ops.clip(lower + step, 0, size - 1), "int32") for step in (0, 1)]
        first, second = (ops.take_along_axis(images, ops.reshape(index, shape), axis=axis) for index in nearest)
        images = first * (1.0 - share) + second * share
    return images
