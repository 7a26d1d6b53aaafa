"""One of two processes that train a small model together; `test_processes.py` starts them.

python -m tests.training.in_two_processes localhost:PORT 0|1 FOLDER start|resume
"""

import os
import sys

import keras
import numpy as np

from keras_umd import UMD, Corruption, callbacks, data, distribution, generate_to, recipes
from keras_umd.evaluation import TrackRank
from tests.training.helpers import KillAfter


def train(folder, *more):
    keras.utils.set_random_seed(0)
    sizes = {"image_shape": (8, 8, 1), "patch_size": 2, "hidden_dim": 16, "num_heads": 2}
    model = UMD(**sizes, num_layers=1, decoder_layers=1, corruption=Corruption.maskdit(), conditioning=None, seed=0)
    model.compile(recipes.AdamW(1e-3, ema_decay=0.9))
    images = np.random.default_rng(0).integers(0, 256, (24, 8, 8, 1)).astype("uint8")
    dataset = data.from_arrays(images, seed=3, **distribution.share(batch_size=8))

    def draw(model):
        return {"sample": np.repeat(model.generate(num_images=2, num_steps=2, seed=0)[0], 3, axis=-1)}

    monitor = callbacks.Monitor(folder, [draw, TrackRank(images)], tensorboard=False)
    run = callbacks.standard(folder, save_freq=2, dataset=dataset)
    model.fit(dataset, epochs=3, verbose=2 if distribution.is_first_process() else 0, callbacks=[monitor, *run, *more])
    generate_to(model, f"{folder}/samples", num_images=3, batch_size=2, num_steps=2, verbose=False)


if __name__ == "__main__":
    sys.modules["tensorflow"] = None  # Keras would import it, which takes seconds
    address, process_id, folder, part = sys.argv[1:]
    keras.distribution.initialize(address, num_processes=2, process_id=int(process_id))
    mesh = keras.distribution.DeviceMesh((4,), ["batch"])
    layout_map = UMD.layout_map(mesh)
    keras.distribution.set_distribution(distribution.ModelParallel(layout_map=layout_map, auto_shard_dataset=False))
    if part == "start":
        train(f"{folder}/whole")
        train(f"{folder}/killed", KillAfter(4, kill=lambda: os._exit(1)))  # as if the machine were gone
    train(f"{folder}/killed")
