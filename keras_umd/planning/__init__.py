"""Plan a training before it starts: FLOPs, memory and time; and see what decides the speed here."""

from keras_umd.planning.devices import DEVICES, Device
from keras_umd.planning.doctor import doctor
from keras_umd.planning.plan import plan

__all__ = ["DEVICES", "Device", "doctor", "plan"]
