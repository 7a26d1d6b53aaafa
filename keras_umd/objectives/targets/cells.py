"""Targets of cells of patches, and several of one kind in one objective."""

import math

import keras
from keras import ops

from keras_umd.layers.patches import as_tuple, patch_grid
from keras_umd.objectives.targets.target import Target
from keras_umd.utils.checks import check_instances, check_integers, is_list, require


@keras.saving.register_keras_serializable("keras_umd")
class Cells(Target):
    """Another target, of cells of patches: each patch is to predict that of the cell in which it lies.

    An error that is averaged over masked patches then counts a cell by its masked share (LocalMIM; Wang et al., "Masked
    Image Modeling with Local Multi-Scale Reconstruction", 2023, section 3.2). With a cell of one patch it is the other
    target under another name, so that an objective may have more than one of a kind.

    Example:

    >>> targets.Cells(targets.HOG(cell=32), "hog_32", unit=2)          # for patches of 16 pixels

    Args:
        target: `Target`, whose values of a patch as large as a cell are predicted.
        name: String, of the prediction.
        unit: Integer, or tuple of integers, one for each space axis. Patches of a cell along each axis; an integer is
            for images with two space axes.
    """

    def __init__(self, target, name, unit=1):
        check_instances(Target, "a Target, as HOG(),", target=target)
        check_instances(str, "the name of the prediction, a string", name=name)
        for value in unit if is_list(unit) else [unit]:
            check_integers(1, 1000, unit=value)
        require(not is_list(unit) or len(unit) > 0, "`unit` must be a positive integer or a tuple of them.", unit=unit)
        self.target = target
        self.name = name
        self.unit = tuple(map(int, unit)) if is_list(unit) else int(unit)

    @property
    def is_of_noise(self):
        return self.target.is_of_noise

    @property
    def is_pixels(self):
        return self.target.is_pixels and math.prod(self._units(2)) == 1

    @property
    def normalize(self):
        """Whether predictions have no brightness of their own."""
        return getattr(self.target, "normalize", False)

    def _units(self, num_axes):
        return self.unit if isinstance(self.unit, tuple) else (self.unit,) * num_axes

    def num_values(self, patch_dim):
        return self.target.num_values(patch_dim * math.prod(self._units(2)))

    def check_patches(self, patch_size, channels):
        units = self._units(len(patch_size))
        self.target.check_patches(tuple(size * unit for size, unit in zip(patch_size, units, strict=False)), channels)

    def __call__(self, view, patch_size, teacher=None):
        shape = view["x0"].shape[1:]
        sizes = as_tuple(patch_size, len(shape) - 1)
        units = self._units(len(sizes))
        require(
            len(units) == len(sizes) and (isinstance(self.unit, tuple) or self.unit == 1 or len(sizes) == 2),
            "`unit` must have a number for each space axis.",
            f"unit={self.unit} for images of shape {tuple(shape)}",
        )
        patches = patch_grid(shape, sizes)
        require(
            all(number % unit == 0 for number, unit in zip(patches, units, strict=True)),
            "`unit` must be a divisor of the patches along each axis.",
            f"unit={self.unit} for a grid of {patches} patches",
        )
        cell = tuple(size * unit for size, unit in zip(sizes, units, strict=True))
        values = self.target(view, cell, teacher)  # (n, cells, num_values)
        grid = patch_grid(shape, cell)
        values = ops.reshape(values, (-1, *grid, values.shape[-1]))
        for axis, unit in enumerate(units, start=1):
            values = ops.repeat(values, unit, axis=axis) if unit > 1 else values
        return ops.reshape(values, (-1, math.prod(patches), values.shape[-1]))

    def errors(self, prediction, target):
        return self.target.errors(prediction, target)

    def as_pixels(self, prediction, patches):
        return self.target.as_pixels(prediction, patches)
