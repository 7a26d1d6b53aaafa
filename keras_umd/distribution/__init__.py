"""Training on several devices and hosts: layouts of weights, and shards of data, for `keras.distribution`."""

from keras_umd.backend.processes import is_first_process
from keras_umd.distribution.layout import ModelParallel, layout_map
from keras_umd.distribution.share import share

__all__ = ["ModelParallel", "is_first_process", "layout_map", "share"]
