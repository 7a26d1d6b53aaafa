"""Shared by the benchmarks: arguments, clocks, compiled functions, data, a classifier that judges images, JSON files.

Import it before Keras: it chooses the backend, JAX where KERAS_BACKEND isn't set.
"""

import argparse
import functools
import json
import os
import time

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

from keras_umd import data, evaluation
from keras_umd.utils.atomic import make_folder, write_text

BACKEND = keras.backend.backend()


def parser(description, output):
    result = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("--output", default=output)
    return result


def versions():
    """Versions, device and date, as a string."""
    return ", ".join(f"{name} {value}" if name == "keras" else value for name, value in _versions())


def _versions():
    found = evaluation.versions()
    return [(name, found[name]) for name in ("keras", "backend", "device", "date")]


def write_json(path, **values):
    """Write values as JSON, with the versions; an atomic write."""
    make_folder(os.path.dirname(os.path.abspath(path)))
    write_text(path, json.dumps({"versions": dict(_versions()), **values}, indent=1))


# Time


def now():
    """Seconds of wall time and of CPU time, of all cores together."""
    return np.array([time.perf_counter(), time.process_time()])


def timed(function, *args):
    """The result of a function, and its seconds of wall and of CPU time."""
    start = now()
    result = function(*args)
    return result, *(now() - start)


def in_turns(cases, repeats):
    """Time functions in turns, so that all see the same machine, after a first round that compiles.

    Args:
        cases: Dictionary of functions without arguments.
        repeats: Integer.

    Returns:
        Dictionary of float arrays `(repeats, 2)`, seconds of wall and of CPU time.
    """
    times = {name: [] for name in cases}
    progress = keras.utils.Progbar((repeats + 1) * len(cases), unit_name="run")
    for number in range(repeats + 1):
        for name, run in cases.items():
            _, *seconds = timed(run)
            if number:
                times[name].append(seconds)
            progress.add(1)
    return {name: np.array(values) for name, values in times.items()}


def compiled(function, variables=()):
    """Compile `function(*tensors)`, which reads Keras variables; their values are those of now."""

    def run(values, *args):
        with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
            return function(*args)

    if BACKEND == "jax":
        import jax

        run = jax.jit(run)
    elif BACKEND == "tensorflow":
        import tensorflow as tf

        run = tf.function(run)
    else:
        import torch

        run = torch.no_grad()(run)
    return functools.partial(run, [variable.value for variable in variables])


# Data and judges


def digits():
    """Images and labels to train on and to test on, the split of the demo."""
    from sklearn.datasets import load_digits

    loaded = load_digits()
    images = np.round(loaded.images[..., None] * (255 / 16)).astype("uint8")
    labels = loaded.target.astype("int32")
    order = np.random.default_rng(0).permutation(len(images))
    return (images[order[:1527]], labels[order[:1527]]), (images[order[1527:]], labels[order[1527:]])


def fashion_mnist(folder):
    """The same, from the idx files of Fashion-MNIST."""
    kinds = ("images-idx3", "labels-idx1")
    return tuple(
        data.read_idx(*(os.path.join(folder, f"{part}-{kind}-ubyte.gz") for kind in kinds))
        for part in ("train", "t10k")
    )


class RandomBatches(keras.utils.PyDataset):
    """Batches drawn at random, so that an epoch can be any number of steps."""

    def __init__(self, arrays, steps, batch_size, seed):
        super().__init__()
        self.arrays, self.steps, self.batch_size = arrays, steps, batch_size
        self.rng = np.random.default_rng(seed)

    def __len__(self):
        return self.steps

    def __getitem__(self, index):
        chosen = self.rng.integers(0, len(self.arrays[0]), self.batch_size)
        return tuple(x[chosen] for x in self.arrays)


def train_classifier(images, labels, test_images, test_labels):
    """Train a small convolutional network; returns it, its features, and its accuracy."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    classifier = keras.Sequential(
        [
            layers.Input(images.shape[1:]),
            layers.Rescaling(1 / 127.5, offset=-1),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dropout(0.3),
            layers.Dense(64, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    classifier.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    classifier.fit(images, labels, epochs=30, batch_size=64, verbose=0)
    accuracy = classifier.evaluate(test_images, test_labels, verbose=0)[1]
    return classifier, keras.Model(classifier.inputs, classifier.layers[-2].output), accuracy


def generate(model, labels, batch_size=250, **options):
    """Generate in batches that stay in the processor's cache."""
    batches = np.split(np.arange(len(labels)), range(batch_size, len(labels), batch_size))
    return np.concatenate([model.generate(labels[i], image_indices=i, **options) for i in batches])
