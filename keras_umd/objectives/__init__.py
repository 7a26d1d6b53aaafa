"""Targets of prediction, and the terms of the loss that compare with them."""

from keras_umd.objectives import targets
from keras_umd.objectives.alignment import Alignment
from keras_umd.objectives.classification import Classification
from keras_umd.objectives.difficulty import Difficulty
from keras_umd.objectives.objective import Objective
from keras_umd.objectives.position import Position
from keras_umd.objectives.reconstruction import Reconstruction
from keras_umd.objectives.sampling_policy import SamplingPolicy
from keras_umd.objectives.spectrum import Spectrum
from keras_umd.objectives.term import Term
from keras_umd.objectives.variational_bound import VariationalBound

__all__ = [
    "Alignment",
    "Classification",
    "Difficulty",
    "Objective",
    "Position",
    "Reconstruction",
    "SamplingPolicy",
    "Spectrum",
    "Term",
    "VariationalBound",
    "targets",
]
