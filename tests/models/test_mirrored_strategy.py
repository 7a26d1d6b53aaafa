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
from keras_umd import UMD, Corruption, recipes
from keras_umd.backend import attention
from keras_umd.corruption import levels

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
images = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 1)).astype("uint8")
histories = []
for strategy in (None, tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])):
    attention._platform = lambda strategy=strategy: "gpu" if strategy else "cpu"  # with the matrix computed once more
    keras.utils.set_random_seed(0)
    with strategy.scope() if strategy else contextlib.nullcontext():
        sizes = {"image_shape": (8, 8, 1), "patch_size": 2, "hidden_dim": 16, "num_heads": 2}
        corruption = Corruption(levels=levels.Adaptive())  # whose history is of all replicas
        model = UMD(**sizes, num_layers=1, decoder_layers=1, corruption=corruption, seed=0)
        model.compile(recipes.AdamW(1e-3, ema_decay=0.9), jit_compile=False)
    history = model.fit(images, batch_size=8, epochs=3, shuffle=False, verbose=0).history
    history["learned"] = np.array(model.objective.terms[-1].error_sums).tolist()
    images_made = model.generate(num_images=2, num_steps=2, seed=0)  # with averaged weights
    histories.append({**history, "images": np.asarray(images_made).ravel().tolist()})
    # A last batch of one image, of which the other replica gets nothing.
    rest = model.fit(np.concatenate([images, images[:1]]), batch_size=8, verbose=0, validation_data=images[:9]).history
    assert all(np.isfinite(values).all() for values in rest.values()), rest
with open(sys.argv[1], "w") as file:
    json.dump(histories, file)
"""


GUARDED = """
import json, sys
import keras, numpy as np, tensorflow as tf
import keras_umd
from keras_umd import UMD, callbacks, recipes

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
images = np.random.default_rng(0).uniform(-1, 1, (32, 8, 8, 1)).astype("float32")
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])  # one: the collectives of a second get the same names
spoilt = images.copy()
spoilt[21] = np.nan  # of the third batch, of which the second replica gets it

class States(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        self.states = [self.state()]

    def on_train_batch_end(self, batch, logs=None):
        self.states.append(self.state())

    def state(self):
        model = self.model
        optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
        variables = [*model.trainable_variables, *model.averages[0].variables, *optimizer.variables]
        return [np.array(variable.numpy()) for variable in variables]

def train(images, guards, **settings):
    keras.utils.set_random_seed(0)
    with strategy.scope():
        sizes = {"image_shape": (8, 8, 1), "patch_size": 2, "hidden_dim": 16, "num_heads": 2}
        model = UMD(**sizes, num_layers=1, decoder_layers=1, seed=0, **settings)
        model.compile(recipes.AdamW(1e-3, ema_decay=0.9), jit_compile=False)
    states = States()
    data = tf.data.Dataset.from_tensor_slices(images).batch(8)
    history = model.fit(data, shuffle=False, verbose=0, callbacks=[*guards, states]).history
    return model, states.states, history

guard = callbacks.Guard(window=4, directory=sys.argv[1])
model, states, history = train(spoilt, [guard])
replay = keras_umd.replay(guard.black_boxes[0])
moved = [any((a != b).any() for a, b in zip(*pair)) for pair in zip(states, states[1:])]
copies = [v.value.values for v in [*model.trainable_variables, *model.guards[0].variables]]
_, plain, _ = train(images[:16], [])
half_guard = callbacks.Guard(window=4, directory=sys.argv[1])
half, half_states, half_history = train(spoilt, [half_guard], dtype="mixed_float16")
half_replay = keras_umd.replay(half_guard.black_boxes[0])
print(json.dumps({
    "replay": [replay.layer, replay.kind, replay.bad_images, replay.about["replica"], len(guard.black_boxes)],
    "half": {
        "replay": [half_replay.layer, half_replay.kind, half_replay.bad_images, half_replay.about["replica"]],
        "skipped": half_history["skipped_steps"],
        "finite": all(np.isfinite(value).all() for value in half_states[-1]),
        "iterations": int(half.optimizer.iterations.numpy()),
        "scale": float(half.optimizer.inner_optimizer.dynamic_scale.numpy()),
    },
    "moved": moved,
    "skipped": history["skipped_steps"],
    "loss": history["loss"],
    "finite": all(np.isfinite(value).all() for value in states[-1]),
    "iterations": int(model.optimizer.iterations.numpy()),
    "updates": float(model.averages[0].num_updates.numpy()),
    "accepted": float(model.guards[0].num_accepted.numpy()),
    "copies": all((one.numpy() == two.numpy()).all() for one, two in copies),
    "same": all((a == b).all() for a, b in zip(plain[2], states[2])),
}))
"""


def test_a_guard_leaves_out_a_step_on_all_replicas(tmp_path):
    """Though only one replica got an image of NaN. The two steps before are, bit for bit, those without a guard."""
    finished = subprocess.run(
        [sys.executable, "-c", GUARDED, tmp_path], env=os.environ, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    found = json.loads(finished.stdout.splitlines()[-1])
    assert found["moved"] == [True, True, False, True] and found["skipped"] == [1]
    assert found["iterations"] == found["updates"] == found["accepted"] == 3
    assert found["finite"] and np.isfinite(found["loss"]).all() and found["copies"] and found["same"]
    # One black box, with the part of the batch that the second replica got; and in float16 its scale is halved once,
    # though Keras asks the first replica alone whether gradients are finite.
    where = ["encoder/patch_embedding/projection", "output", [1], 1]
    assert found["replay"] == [*where, 1]
    assert found["half"] == {"replay": where, "skipped": [1], "finite": True, "iterations": 3, "scale": 2.0**14}


def test_two_replicas_have_the_losses_of_one_device(tmp_path):
    """Each replica draws other random numbers, those that its images have on one device."""
    command = [sys.executable, "-c", TWO_REPLICAS, tmp_path / "histories.json"]
    finished = subprocess.run(command, env=os.environ, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    one, two = json.loads((tmp_path / "histories.json").read_text())
    assert np.abs(np.subtract(one.pop("images"), two.pop("images"))).max() <= 1
    for name, losses in one.items():
        np.testing.assert_allclose(two[name], losses, rtol=1e-5)
