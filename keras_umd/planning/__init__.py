"""What a training will take: FLOPs, memory and time, before it starts."""

from keras_umd.planning.devices import Device
from keras_umd.planning.plan import plan
