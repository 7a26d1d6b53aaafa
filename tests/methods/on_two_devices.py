"""Trains a small model of each method on one device and on two; `test_two_devices.py` reads what it writes.

XLA_FLAGS=--xla_force_host_platform_device_count=2 python -m tests.methods.on_two_devices result.json
"""

import json
import sys

import jax
import keras
import numpy as np

from keras_umd import UMD, methods
from tests.methods.test_masked import MASKED, SMALL

PIXELS = {"image_shape": (16, 16, 3), "patch_size": 4, "value_range": (-1, 1), "num_classes": None}


def sizes_of(method):
    """The sizes of the test of this method's settings, or those that fit the others."""
    if method.name == "dmjd":  # whose histograms are of cells of 8 x 8
        return {**PIXELS, "patch_size": 8}
    return MASKED[method.name][0] if method.name in MASKED else PIXELS


def train(method, distribution):
    """The losses of two epochs of two steps each, and mean and deviation of what each weight became."""
    keras.backend.clear_session()
    keras.distribution.set_distribution(distribution)
    keras.utils.set_random_seed(0)
    model = UMD.from_preset(method.preset, **{**SMALL, **sizes_of(method), "seed": 0})
    model.compile(keras.optimizers.SGD(0.05))
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (16, *sizes_of(method)["image_shape"])).astype("uint8")
    history = model.fit(images, batch_size=8, epochs=2, shuffle=False, verbose=0).history
    weights = {v.path: np.asarray(v.value, "float64") for v in model.trainable_variables}
    spread = {len(v.value.sharding.device_set) for v in model.trainable_variables}
    return {"losses": history, "weights": {k: [v.mean(), v.std()] for k, v in weights.items()}, "devices": max(spread)}


if __name__ == "__main__":
    sys.modules["tensorflow"] = None  # Keras would import it, which takes seconds
    runs = {}
    for method in methods.list():
        ways = {"one": None, "two": keras.distribution.DataParallel()}
        runs[method.name] = {way: train(method, distribution) for way, distribution in ways.items()}
    assert len(jax.devices()) == 2
    with open(sys.argv[1], "w") as file:
        json.dump(runs, file)
