"""What a view changes in the values of its images, where the encoder sees all patches."""

from keras_umd.corruption.changes.change import Change
from keras_umd.corruption.changes.channels import HideChannels
from keras_umd.corruption.changes.color_adapt import ColorAdapt
from keras_umd.corruption.changes.crop_in_crop import CropInCrop
from keras_umd.corruption.changes.fill import Fill
from keras_umd.corruption.changes.frequency import Frequency

__all__ = ["Change", "ColorAdapt", "CropInCrop", "Fill", "Frequency", "HideChannels"]
