"""What decides how fast this process trains, in one page: `print(keras_umd.doctor())`."""

import dataclasses
import glob
import importlib.util
import os
import platform

import keras

from keras_umd.backend import report
from keras_umd.backend.attention import attention_kernel
from keras_umd.backend.devices import backend_version, training_devices
from keras_umd.planning.devices import device_of_kind
from keras_umd.planning.hints import Hint, hints
from keras_umd.utils.checks import require

DECODERS = {"OpenCV": "cv2", "Pillow": "PIL", "TensorFlow": "tensorflow"}
HEAD_DIM = 64  # of all presets
ACCELERATORS = {"NVIDIA GPU": "/dev/nvidia[0-9]*", "TPU": "/dev/accel[0-9]*"}  # what drivers put there


def doctor(model=None) -> "Diagnosis":
    """Describe what decides the speed of a training in this process, and what to change.

    Nothing is measured, compiled or imported; `benchmarks/on_device.py` measures.

    Example:

    >>> print(keras_umd.doctor())
    >>> [hint.change for hint in keras_umd.doctor(model).hints]

    Args:
        model: `UMD`, whose precision and heads count; or `None`, for Keras' global precision and heads of 64.

    Returns:
        `Diagnosis`, which prints as a page; `dataclasses.asdict` makes a dictionary of it.
    """
    require(model is None or hasattr(model, "network_layers"), "`model` must be a keras_umd.UMD or None.", model=model)
    policy = keras.config.dtype_policy() if model is None else model.dtype_policy
    head_dim = HEAD_DIM if model is None else model.hidden_dim // model.encoder.num_heads
    facts = {
        "versions": _versions(),
        "devices": _devices(),
        "attention": _attention(head_dim, policy.compute_dtype),
        "precision": {
            "policy": policy.name,
            "compute_dtype": policy.compute_dtype,
            "variable_dtype": policy.variable_dtype,
            "float32_products": report.float32_products(),
        },
        "compilation": {
            "flags": report.flags(),
            "cache": report.compilation_cache(),
            "slow_modes": report.slow_modes(),
        },
        "data": _data(),
    }
    return Diagnosis(**facts, hints=tuple(hints(facts)))


def _versions():
    import keras_umd

    return {
        "keras_umd": keras_umd.__version__,
        "keras": keras.__version__,
        "backend": backend_version(),
        "python": platform.python_version(),
    }


def _devices():
    kinds = report.device_kinds()
    known = device_of_kind(kinds[0])
    return {
        "platform": report.platform(),
        "kinds": kinds,
        "in_use": training_devices()[1],
        "known_as": None if known is None else known.name,
        "on_the_machine": [name for name, files in ACCELERATORS.items() if glob.glob(files)],
    }


def _attention(head_dim, dtype):
    kernel, reason = attention_kernel(head_dim=head_dim, dtype=dtype)
    return {
        "kernel": kernel,
        "reason": reason,
        "head_dim": head_dim,
        "is_switched_off": keras.config.is_flash_attention_enabled() is False,
    }


def _data():
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found = [name for name, module in DECODERS.items() if importlib.util.find_spec(module) is not None]
    return {"decoders": found, "cpu_cores": cores}


@dataclasses.dataclass(frozen=True, repr=False)
class Diagnosis:
    """The result of `doctor`.

    Args:
        versions: Dictionary of strings: of keras_umd, Keras, backend and Python.
        devices: Dictionary. `platform`, `"cpu"`, `"gpu"` or `"tpu"`; `kinds`, the name of each device of this process;
            `in_use`, how many of all processes train; `known_as`, their name in `keras_umd.planning.DEVICES` or `None`;
            `on_the_machine`, accelerators whose driver is there, whether the backend sees them or not.
        attention: Dictionary. The `kernel` that will be taken and the `reason`; `head_dim`; `is_switched_off`.
        precision: Dictionary. Name of the `policy`, `compute_dtype`, `variable_dtype`; `float32_products`, how the
            device multiplies what is float32.
        compilation: Dictionary. `flags` that are set in the environment; `cache`, a folder or `None`; `slow_modes`.
        data: Dictionary. `decoders` of images that are installed; `cpu_cores`.
        hints: Tuple of `Hint`s, what to change and why.
    """

    versions: dict
    devices: dict
    attention: dict
    precision: dict
    compilation: dict
    data: dict
    hints: tuple[Hint, ...]

    def __str__(self):
        lines = {
            "versions": ", ".join(
                value if name == "backend" else f"{name} {value}" for name, value in self.versions.items()
            ),
            "devices": self._device_line(),
            "attention": f"{self.attention['kernel']}: {self.attention['reason']}",
            "precision": "policy {policy}, products in {compute_dtype}, weights in {variable_dtype}; float32 products "
            "in {float32_products}".format(**self.precision),
            "compilation": self._compilation_line(),
            "data": f"images are decoded by {' or '.join(self.data['decoders']) or 'nothing'}; "
            f"{self.data['cpu_cores']} CPU cores",
        }
        table = "\n".join(f"{name:12} {line}" for name, line in lines.items())
        changes = [f"- {hint.change}\n  ({hint.reason})" for hint in self.hints] or ["Nothing to change."]
        return "\n".join([table, "", *changes])

    __repr__ = __str__  # at a prompt, `keras_umd.doctor()` is the page

    def _device_line(self):
        kinds = self.devices["kinds"]
        named = ", ".join(f"{kinds.count(kind)} x {kind}" for kind in dict.fromkeys(kinds))
        planned = self.devices["known_as"]
        known = f"; `plan` knows it as {planned!r}" if planned else ""
        return f"{self.devices['platform']}: {named}; {self.devices['in_use']} in use{known}"

    def _compilation_line(self):
        flags = " ".join(f"{name}={value}" for name, value in self.compilation["flags"].items()) or "no flags"
        return f"{flags}; programs are kept in {self.compilation['cache'] or 'no folder'}"
