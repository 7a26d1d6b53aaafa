"""Masks: rules for which patches of an image stay visible."""

from keras_umd.corruption.masks.block import Block
from keras_umd.corruption.masks.center import Center
from keras_umd.corruption.masks.coarse import Coarse, Shared
from keras_umd.corruption.masks.color_noise import ColorNoise
from keras_umd.corruption.masks.disjoint import Disjoint
from keras_umd.corruption.masks.given import Given
from keras_umd.corruption.masks.hints import Adaptive, Attention, HardPatches
from keras_umd.corruption.masks.in_place import InPlace
from keras_umd.corruption.masks.inverse_block import InverseBlock
from keras_umd.corruption.masks.mask import Mask
from keras_umd.corruption.masks.product import Product
from keras_umd.corruption.masks.random import Random
from keras_umd.corruption.masks.running_cell import RunningCell
from keras_umd.corruption.masks.varying import Varying

__all__ = [
    "Adaptive",
    "Attention",
    "Block",
    "Center",
    "Coarse",
    "ColorNoise",
    "Disjoint",
    "Given",
    "HardPatches",
    "InPlace",
    "InverseBlock",
    "Mask",
    "Product",
    "Random",
    "RunningCell",
    "Shared",
    "Varying",
]
