"""Noise schedules, corruptions, the objective, samplers and guidance."""

from keras_umd.diffusion.corruption import Corruption
from keras_umd.diffusion.schedule import NoiseSchedule
