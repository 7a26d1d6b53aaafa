"""What the backend says of itself: its devices and the settings that decide how fast they are."""

import os

import keras

from keras_umd.backend.frameworks import jax, tf, torch

FLAGS = {  # the variables of the environment that each backend's compiler reads
    "jax": ("XLA_FLAGS", "LIBTPU_INIT_ARGS", "XLA_PYTHON_CLIENT_PREALLOCATE", "XLA_PYTHON_CLIENT_MEM_FRACTION"),
    "tensorflow": ("XLA_FLAGS", "TF_XLA_FLAGS", "TF_FORCE_GPU_ALLOW_GROWTH", "NVIDIA_TF32_OVERRIDE"),
    "torch": ("PYTORCH_CUDA_ALLOC_CONF", "TORCHINDUCTOR_MAX_AUTOTUNE", "NVIDIA_TF32_OVERRIDE"),
}


def platform():
    """`"cpu"`, `"gpu"` or `"tpu"`, where the backend computes."""
    if jax:
        return {"cuda": "gpu", "rocm": "gpu"}.get(jax.default_backend(), jax.default_backend())
    if tf:
        return next((kind.lower() for kind in ("TPU", "GPU") if tf.config.get_visible_devices(kind)), "cpu")
    return "gpu" if torch.cuda.is_available() else "cpu"


def device_kinds():
    """The names of the devices that this process can use, a list with one for each."""
    if jax:
        return [device.device_kind for device in jax.local_devices()]
    if tf:
        gpus = tf.config.get_visible_devices("GPU")
        named = [tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name) for gpu in gpus]
        return named or ["cpu"]
    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] or ["cpu"]


def flags():
    """Dictionary of the compiler's variables of the environment that are set."""
    return {name: os.environ[name] for name in FLAGS[keras.backend.backend()] if name in os.environ}


def compilation_cache():
    """The folder in which compiled programs outlive the process, or `None`."""
    if jax:
        return jax.config.jax_compilation_cache_dir
    return os.environ.get("TORCHINDUCTOR_CACHE_DIR") if torch else None


def float32_products():
    """How float32 matrices are multiplied, a string: `"float32"`, or in what fewer bits."""
    on = platform()
    if on == "cpu":
        return "float32"
    if jax:
        chosen = jax.config.jax_default_matmul_precision
        return chosen or {"gpu": "tensorfloat32", "tpu": "bfloat16"}[on]
    if tf:
        return "tensorfloat32" if tf.config.experimental.tensor_float_32_execution_enabled() else "float32"
    return {"highest": "float32", "high": "tensorfloat32"}.get(torch.get_float32_matmul_precision(), "bfloat16")


def slow_modes():
    """The names of settings for finding errors that are on, and that make every step slow."""
    if jax:
        names = ("jax_disable_jit", "jax_debug_nans", "jax_enable_checks", "jax_enable_x64")
        return [name for name in names if getattr(jax.config, name)]
    if tf:
        return ["tf.config.run_functions_eagerly"] if tf.config.functions_run_eagerly() else []
    return ["torch.autograd.set_detect_anomaly"] if torch.is_anomaly_enabled() else []
