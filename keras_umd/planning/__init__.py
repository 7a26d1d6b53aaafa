"""Plan a training before it starts: FLOPs, memory and time."""

from keras_umd.planning.devices import DEVICES, Device
from keras_umd.planning.plan import plan

__all__ = ["DEVICES", "Device", "plan"]
