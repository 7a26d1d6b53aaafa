"""The memory of the device, as the backend counts it; `None` where it doesn't."""

import keras


def limit():
    """Bytes that the backend may take."""
    return _of("bytes_limit")


def peak():
    """The most bytes that this process has had so far."""
    return _of("peak_bytes_in_use")


def _of(name):
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        return (jax.devices()[0].memory_stats() or {}).get(name)
    if backend == "torch":
        import torch

        if not torch.cuda.is_available():
            return None
        return torch.cuda.max_memory_allocated() if name.startswith("peak") else torch.cuda.mem_get_info()[1]
    import tensorflow as tf

    has_gpu = bool(tf.config.get_visible_devices("GPU"))
    return tf.config.experimental.get_memory_info("GPU:0")["peak"] if has_gpu and name.startswith("peak") else None
