"""From images to what the network sees of them: noise, and dropped patches."""

from keras_umd.corruption import changes, levels, masks, noise, ratios, schedules, weightings
from keras_umd.corruption.corruption import Corruption
from keras_umd.corruption.schedule import NoiseSchedule
from keras_umd.corruption.view import View

__all__ = [
    "Corruption",
    "NoiseSchedule",
    "View",
    "changes",
    "levels",
    "masks",
    "noise",
    "ratios",
    "schedules",
    "weightings",
]
