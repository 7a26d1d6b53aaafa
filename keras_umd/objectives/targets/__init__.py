"""Targets: values to predict for each patch."""

from keras_umd.objectives.targets.band_ratios import BandRatios
from keras_umd.objectives.targets.bordered import Bordered
from keras_umd.objectives.targets.cells import Cells
from keras_umd.objectives.targets.channels import Channels
from keras_umd.objectives.targets.denoising import X0, Eps, Velocity
from keras_umd.objectives.targets.fourier import Fourier
from keras_umd.objectives.targets.hog import HOG
from keras_umd.objectives.targets.pixels import Pixels
from keras_umd.objectives.targets.target import Target

__all__ = ["HOG", "BandRatios", "Bordered", "Cells", "Channels", "Eps", "Fourier", "Pixels", "Target", "Velocity", "X0"]
