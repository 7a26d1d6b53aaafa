"""Noise on the pixels of a view."""

from keras_umd.corruption.noise.gaussian import Gaussian
from keras_umd.corruption.noise.graded import Graded
from keras_umd.corruption.noise.noise import Noise
from keras_umd.corruption.noise.of_masked import OfMasked

__all__ = ["Gaussian", "Graded", "Noise", "OfMasked"]
