"""Targets: values to predict for each patch."""

from keras_umd.objectives.targets.denoising import X0, Eps, Velocity
from keras_umd.objectives.targets.pixels import Pixels
from keras_umd.objectives.targets.target import Target

__all__ = ["Eps", "Pixels", "Target", "Velocity", "X0"]
