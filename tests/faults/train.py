"""A training that may be killed and started again.

python -m tests.faults.train SOURCE DATA RUN [STEPS_BETWEEN_CHECKPOINTS]

Source is folder, tfrecords, arrays or latents; `make_data` writes the data. The end leaves `RUN/end.npz`.
"""

import os
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if __name__ == "__main__" and sys.argv[1] != "tfrecords":
    import tests.lean  # noqa: F401

import keras
import numpy as np

from keras_umd import UMD, callbacks, data, latents
from tests.latents.helpers import tiny_autoencoder

EPOCHS, SIZE = 3, 8


def make_data(folder, sources=("folder", "tfrecords", "arrays", "latents")):
    """The same 24 images for each source, in `folder / source`."""
    from PIL import Image

    images = np.random.default_rng(0).integers(0, 256, (24, SIZE, SIZE, 3)).astype("uint8")
    for name in ("folder", *sources):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for index, image in enumerate(images):
        Image.fromarray(image).save(folder / "folder" / f"{index:02}.png")
    if "arrays" in sources:
        np.save(folder / "arrays" / "images.npy", images)
    if "tfrecords" in sources:
        _write_tfrecords(folder / "folder", folder / "tfrecords" / "all.tfrecord")
    if "latents" not in sources:
        return
    cached = data.from_arrays(np.repeat(np.repeat(images, 2, 1), 2, 2), batch_size=8, training=False)
    latents.cache_latents(cached, tiny_autoencoder(latent_channels=3), folder / "latents" / "cache", verbose=False)


def _write_tfrecords(images, path):
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(path)) as writer:
        for image in sorted(images.iterdir()):
            encoded = tf.train.Feature(bytes_list=tf.train.BytesList(value=[image.read_bytes()]))
            features = tf.train.Features(feature={"image/encoded": encoded})
            writer.write(tf.train.Example(features=features).SerializeToString())


def dataset(source, folder):
    path = os.path.join(folder, source)
    options = {"batch_size": 4, "seed": 1}
    if source == "arrays":
        return data.from_arrays(np.load(os.path.join(path, "images.npy")), **options)
    if source == "latents":
        return latents.from_latents(os.path.join(path, "cache"), labels=False, **options)
    options |= {"image_size": SIZE, "labels": False}
    if source == "folder":
        return data.from_folder(path, **options)
    return data.from_tfrecords(os.path.join(path, "all.tfrecord"), **options)


class Slow(keras.callbacks.Callback):
    """Tells that the training has begun, and leaves time to kill it."""

    def __init__(self, path):
        super().__init__()
        self.path = path

    def on_train_batch_begin(self, batch, logs=None):
        open(self.path, "a").close()
        time.sleep(0.02)


def train(source, folder, run, save_freq=2, epochs=EPOCHS, more=()):
    keras.utils.set_random_seed(0)
    value_range = None if source == "latents" else (-1.0, 1.0)
    model = UMD(
        image_shape=(SIZE, SIZE, 3),
        patch_size=4,
        hidden_dim=16,
        num_layers=1,
        num_heads=2,
        decoder_layers=1,
        seed=0,
        value_range=value_range,
    )
    optimizer = keras.optimizers.AdamW(1e-3)
    model.compile(optimizer, run_eagerly=os.environ["KERAS_BACKEND"] == "tensorflow")
    train = dataset(source, folder)
    standard = callbacks.standard(run, dataset=train, save_freq=save_freq)
    model.fit(train, epochs=epochs, verbose=0, callbacks=[*standard, *more])
    return model


if __name__ == "__main__":
    source, folder, run, *save_freq = sys.argv[1:]
    model = train(source, folder, run, int(*save_freq or [2]), more=[Slow(f"{run}.begun")])
    names = [variable.path for variable in model.trainable_variables]
    np.savez(os.path.join(run, "end.npz"), **dict(zip(names, model.get_weights()[: len(names)], strict=False)))
