"""Weights from other codebases."""

from keras_umd.checkpoints.small_vision import load_small_vision
