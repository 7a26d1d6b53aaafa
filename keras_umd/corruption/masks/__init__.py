"""Masks: rules for which patches of an image stay visible."""

from keras_umd.corruption.masks.color_noise import ColorNoise
from keras_umd.corruption.masks.mask import Mask
from keras_umd.corruption.masks.random import Random

__all__ = ["ColorNoise", "Mask", "Random"]
