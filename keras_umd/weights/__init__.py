"""Weights from other codebases."""

from keras_umd.weights.small_vision import load_small_vision

__all__ = ["load_small_vision"]
