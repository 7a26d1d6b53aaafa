"""Weights from other codebases, and presets to others."""

from keras_umd.weights.diffusion import from_dit, from_jit, from_maskdit, from_sit
from keras_umd.weights.files import read_weights
from keras_umd.weights.sharing import upload
from keras_umd.weights.small_vision import load_small_vision

__all__ = ["from_dit", "from_jit", "from_maskdit", "from_sit", "load_small_vision", "read_weights", "upload"]
