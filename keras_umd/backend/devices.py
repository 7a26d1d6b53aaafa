"""The backend's version, and the devices that it trains on."""

import keras

from keras_umd.backend.frameworks import jax, tf, torch


def backend_version():
    """Name and version of the backend, for example `"jax 0.10.2"`."""
    return f"{keras.backend.backend()} {(jax or tf or torch).__version__}"


def training_devices():
    """The kind of the devices that train, by the name of their maker, and their number.

    Returns:
        Pair of a string, for example `"TPU v4"` or `"NVIDIA H100 80GB HBM3"`, or `None` where no accelerator is known;
        and an integer.
    """
    if jax:
        device, distribution = jax.devices()[0], keras.distribution.distribution()
        kind = None if device.platform == "cpu" else device.device_kind
        return kind, 1 if distribution is None else distribution.device_mesh.devices.size
    if tf:
        gpus = tf.config.get_visible_devices("GPU")
        kind = tf.config.experimental.get_device_details(gpus[0]).get("device_name") if gpus else None
        return kind, tf.distribute.get_strategy().num_replicas_in_sync
    return torch.cuda.get_device_name() if torch.cuda.is_available() else None, 1
