"""The encoder as the beginning of a classifier that is trained as a whole."""

import uuid

import keras
import numpy as np

from keras_umd.data import Dataset
from keras_umd.evaluation.features import ShuffledBatches, batches_of, extract, labelled
from keras_umd.evaluation.provenance import Result, describe_model, describe_optimizer
from keras_umd.training.recipes import cosine_with_warmup
from keras_umd.utils.checks import check_positive_integers
from keras_umd.utils.fingerprint import fingerprint


def fine_tune(
    encoder,
    train,
    test,
    num_classes,
    epochs=50,
    batch_size=64,
    learning_rate=1e-3,
    weight_decay=0.05,
    optimizer=None,
    seed=0,
    verbose=True,
):
    """Train a copy of an encoder, with a Dense behind it, to classify.

    Args:
        encoder: Any Keras model from images to features `(batch, dim)` that can be saved, such as a `FeatureExtractor`.
        train: A pair of arrays `(images, labels)`, or a data set that gives such batches, such as one of
            `keras_umd.data` with `training=True`.
        test: Labelled images, as of `extract`, of the same shape and type.
        num_classes: Integer.
        epochs: Integer.
        batch_size: Integer, for arrays.
        learning_rate, weight_decay: Floats. Of AdamW, with a warm-up of 5% and a cosine decay. Not with `optimizer`.
        optimizer: Keras optimizer, to train otherwise.
        seed: Integer, for the Dense's weights and the order of arrays.
        verbose: Bool. Whether to show progress bars.

    Returns:
        The classifier, a Keras model that gives logits; and the `Result`, its accuracy on the test set.

    Raises:
        ValueError: for arrays and data sets with more classes than `num_classes`, and for data that never end.
    """
    check_positive_integers(num_classes=num_classes, epochs=epochs, batch_size=batch_size)
    _check_classes(train, num_classes, "train")
    _check_classes(test, num_classes, "test")
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(encoder))
    copy.set_weights(encoder.get_weights())
    copy.trainable = True
    images, train_images = _first_images(test, "test"), _first_images(train, "train")
    if train_images.dtype != images.dtype:
        raise ValueError(
            f"Training and test images must be of one type. Received: {train_images.dtype} and {images.dtype}"
        )
    inputs = keras.Input(images.shape[1:], dtype=images.dtype)  # else Keras makes floats of uint8
    small = keras.initializers.TruncatedNormal(stddev=0.02, seed=seed)
    outputs = keras.layers.Dense(num_classes, kernel_initializer=small, dtype="float32")(copy(inputs))
    classifier = keras.Model(inputs, outputs)
    is_array = isinstance(train, tuple)
    batches = ShuffledBatches(np.asarray(train[0]), np.asarray(train[1]), batch_size, seed) if is_array else train
    if optimizer is None:
        optimizer = _adamw(epochs * len(batches), learning_rate, weight_decay)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    classifier.compile(optimizer, loss, metrics=["sparse_categorical_accuracy"])
    classifier.fit(batches, epochs=epochs, shuffle=False, verbose="auto" if verbose else 0)
    scores = labelled(extract(classifier, test, batch_size))
    accuracy = np.mean(scores.features.argmax(axis=1) == scores.labels)
    protocol = {
        "optimizer": describe_optimizer(optimizer),
        "epochs": epochs,
        "num_classes": num_classes,
        "batch_size": batch_size if is_array else None,
        # Data that don't tell what they are have an identity of their own: they compare with nothing.
        "train": fingerprint(train) if is_array else getattr(train, "identity", f"unknown {uuid.uuid4().hex}"),
        "test": scores.digest,
        "num_test": len(scores),
    }
    subject = {**describe_model(encoder), "seed": seed}
    return classifier, Result("fine-tuned accuracy", accuracy, protocol, subject)


def _check_classes(dataset, num_classes, name):
    if isinstance(dataset, tuple):
        largest = int(np.max(dataset[1]))
    else:
        largest = len(getattr(dataset, "class_names", None) or ()) - 1
    if largest >= num_classes:
        raise ValueError(
            f"`num_classes` must be above all labels. Received: num_classes={num_classes}, {name} with labels up to "
            f"{largest}"
        )
    if getattr(dataset, "is_repeated", False):
        raise ValueError(f"`{name}` must end with its epoch; leave out `repeat`. Received: {name}={dataset}")


def _first_images(dataset, name):
    if isinstance(dataset, tuple):
        return np.asarray(dataset[0][:1])
    if isinstance(dataset, Dataset):
        return dataset.sample_batch()[0]
    if iter(dataset) is dataset:
        raise ValueError(f"`{name}` is read several times; a generator can be read once. Received: {dataset}")
    images, _ = next(batches_of(dataset, 1), (None, None))
    if images is None:
        raise ValueError(f"`{name}` must have images. Received: {name} without batches")
    return images


def _adamw(num_steps, learning_rate, weight_decay):
    schedule = cosine_with_warmup(learning_rate, total_steps=max(2, num_steps), warmup_steps=max(1, num_steps // 20))
    return keras.optimizers.AdamW(schedule, weight_decay=weight_decay)
