"""Unified Masked Diffusion for Keras 3: one pre-training for representations and for generation."""

from keras_umd import checkpoints, data, distribution, evaluation, latents, layers, plots
from keras_umd.devices import Device
from keras_umd.diffusion import Corruption, NoiseSchedule, guidance, samplers
from keras_umd.models import UMD, FeatureExtractor
from keras_umd.planner import plan
from keras_umd.sample_files import generate_to
from keras_umd.training import callbacks, recipes

__version__ = "0.1.0"
