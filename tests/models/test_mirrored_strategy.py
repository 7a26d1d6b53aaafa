"""Two replicas of TensorFlow's MirroredStrategy compute what one device does."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

marks = pytest.mark
pytestmark = [marks.system, marks.devices, marks.backends("tensorflow"), marks.slow]  # TensorFlow's own

TWO_REPLICAS = """
import contextlib, json, sys
import keras, numpy as np, tensorflow as tf
from keras_umd import UMD, recipes
from keras_umd.backend import attention

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
images = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 1)).astype("uint8")
histories = []
for strategy in (None, tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])):
    attention._platform = lambda strategy=strategy: "gpu" if strategy else "cpu"  # with the matrix computed once more
    keras.utils.set_random_seed(0)
    with strategy.scope() if strategy else contextlib.nullcontext():
        sizes = {"image_shape": (8, 8, 1), "patch_size": 2, "hidden_dim": 16, "num_heads": 2}
        model = UMD(**sizes, num_layers=1, decoder_layers=1, seed=0)
        model.compile(recipes.AdamW(1e-3, ema_decay=0.9), jit_compile=False)
    history = model.fit(images, batch_size=8, epochs=3, shuffle=False, verbose=0).history
    images_made = model.generate(num_images=2, num_steps=2, seed=0)  # with averaged weights
    histories.append({**history, "images": np.asarray(images_made).ravel().tolist()})
    # A last batch of one image, of which the other replica gets nothing.
    rest = model.fit(np.concatenate([images, images[:1]]), batch_size=8, verbose=0, validation_data=images[:9]).history
    assert all(np.isfinite(values).all() for values in rest.values()), rest
with open(sys.argv[1], "w") as file:
    json.dump(histories, file)
"""


def test_two_replicas_have_the_losses_of_one_device(tmp_path):
    """Each replica draws other random numbers, those that its images have on one device."""
    command = [sys.executable, "-c", TWO_REPLICAS, tmp_path / "histories.json"]
    finished = subprocess.run(command, env=os.environ, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    one, two = json.loads((tmp_path / "histories.json").read_text())
    assert np.abs(np.subtract(one.pop("images"), two.pop("images"))).max() <= 1
    for name, losses in one.items():
        np.testing.assert_allclose(two[name], losses, rtol=1e-5)
