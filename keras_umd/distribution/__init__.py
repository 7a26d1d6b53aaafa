"""Training on several devices and hosts: what `keras.distribution` leaves to the model and to its data."""

from keras_umd.backend.processes import is_first_process
from keras_umd.distribution.layout import ModelParallel, layout_map
from keras_umd.distribution.share import share
