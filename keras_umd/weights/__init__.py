"""Weights from other codebases, and presets to others."""

from keras_umd.weights.files import read_weights
from keras_umd.weights.sharing import upload
from keras_umd.weights.small_vision import load_small_vision
from keras_umd.weights.transfer import start_from

__all__ = ["load_small_vision", "read_weights", "start_from", "upload"]
