"""What the device can do at most: matrix products, and reading and writing its memory."""

import contextlib
import dataclasses
import platform

import common
import keras
import numpy as np
from keras import ops

import keras_umd
from device.models import DTYPE
from keras_umd.backend import full_precision
from keras_umd.planning.devices import device_of_kind

CHAIN = 4  # products in one program, so that starting it doesn't count
REPEATS = 10


def rates(setting):
    """Rates of the device, beside its data sheet; and what `keras_umd.doctor` says of the process."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(DTYPE)  # that of the steps
    doctor = keras_umd.doctor()
    keras.config.set_dtype_policy(policy)
    print(doctor)
    rows, numbers = (128, 2**16) if setting.tiny else (8192, 2**29)
    result = {
        "doctor": dataclasses.asdict(doctor),
        "page": str(doctor),
        "machine": platform.platform(),
        "bfloat16_flops": product_rate(rows, "bfloat16"),
        "float32_flops": product_rate(rows, "float32"),
        "full_float32_flops": product_rate(rows // 2, "float32", full_precision),
        "bandwidth": bandwidth(numbers),
    }
    known = device_of_kind(doctor.devices["kinds"][0])
    if known is not None:
        result["data_sheet"] = dataclasses.asdict(known)
    return result


def measured_device(setting):
    """A `Device` with the measured rates, or `None` where they weren't."""
    found = setting.results.get("rates")
    if found is None:
        return None
    return keras_umd.Device(
        "this device",
        bfloat16=found["bfloat16_flops"],
        float32=found["float32_flops"],
        memory=1e9,  # not asked for
        bandwidth=found["bandwidth"],
        product_share=1.0,
    )


def product_rate(rows, dtype, precision=contextlib.nullcontext):
    """FLOP/s of products of square matrices; of random numbers, since zeros are faster."""
    matrix = keras.random.normal((rows, rows), stddev=rows**-0.5, dtype=dtype, seed=0)

    def chain(x, matrix):
        for _ in range(CHAIN):
            x = ops.matmul(x, matrix)
        return x

    with precision():
        return CHAIN * 2 * rows**3 / median_seconds(common.compiled(chain), matrix, matrix)


def bandwidth(numbers):
    """Bytes/s of a pass that reads and writes so many numbers of four bytes."""
    x = keras.random.normal((numbers // 1024, 1024), dtype="float32", seed=0)
    return 2 * 4 * numbers / median_seconds(common.compiled(lambda x: x * 1.5), x)


def median_seconds(function, *args):
    """Wall seconds of a call until its result is there."""
    seconds = [common.timed(lambda: wait(function(*args)))[1] for _ in range(REPEATS + 2)]
    return float(np.median(seconds[2:]))


def wait(x):
    """Wait for a tensor without copying it."""
    if common.BACKEND == "jax":
        x.block_until_ready()
    elif common.BACKEND == "torch":
        import torch

        if torch.cuda.is_available():
            torch.cuda.synchronize()
    else:
        ops.convert_to_numpy(x[0, 0])
