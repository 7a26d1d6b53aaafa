"""Unified Masked Diffusion for Keras 3: one pre-training for representations and for generation."""

import sys

# The backend first: where none is installed, it says what to install.
from keras_umd import (
    backend,
    corruption,
    data,
    distribution,
    evaluation,
    latents,
    layers,
    methods,
    objectives,
    plots,
    weights,
)
from keras_umd.corruption import Corruption, NoiseSchedule, View
from keras_umd.models import UMD, FeatureExtractor, Teacher, decoders
from keras_umd.objectives import Objective
from keras_umd.planning import Device, doctor, plan
from keras_umd.sampling import generate_to, guidance, samplers
from keras_umd.training import callbacks, recipes
from keras_umd.training.black_box import replay

__version__ = "0.1.0"
__all__ = [
    "UMD",
    "Corruption",
    "Device",
    "FeatureExtractor",
    "NoiseSchedule",
    "Objective",
    "Teacher",
    "View",
    "callbacks",
    "corruption",
    "data",
    "decoders",
    "distribution",
    "doctor",
    "evaluation",
    "generate_to",
    "guidance",
    "latents",
    "layers",
    "methods",
    "objectives",
    "plan",
    "plots",
    "recipes",
    "replay",
    "samplers",
    "weights",
]

# So that `from keras_umd.callbacks import Monitor` works as `keras_umd.callbacks.Monitor` does.
for _module in (callbacks, decoders, guidance, recipes, samplers):
    sys.modules[f"{__name__}.{_module.__name__.rpartition('.')[2]}"] = _module


def __dir__():
    return [*__all__, "__version__"]
