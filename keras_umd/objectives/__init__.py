"""What is predicted, and which errors count."""

from keras_umd.objectives import targets
from keras_umd.objectives.objective import Objective
from keras_umd.objectives.reconstruction import Reconstruction
from keras_umd.objectives.term import Term

__all__ = ["Objective", "Reconstruction", "Term", "targets"]
