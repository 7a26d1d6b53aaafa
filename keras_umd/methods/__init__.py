"""The published methods as settings of one model: functions that return constructor arguments of `UMD`."""

from keras_umd.methods.denoising import dit, mae, maskdit, umd, umd_x0
from keras_umd.methods.flows import jit, sit
from keras_umd.methods.method import method

__all__ = ["dit", "jit", "mae", "maskdit", "method", "sit", "umd", "umd_x0"]
