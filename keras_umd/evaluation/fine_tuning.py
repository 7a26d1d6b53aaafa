"""Fine-tune an encoder as a classifier."""

import functools
import uuid

import keras
import numpy as np

from keras_umd.data import Dataset
from keras_umd.evaluation.features import (
    ShuffledBatches,
    batches_of,
    check_data,
    check_model,
    extract,
    labelled,
    pairs_of,
)
from keras_umd.evaluation.results import Result, describe_model, describe_optimizer
from keras_umd.training.recipes import cosine_with_warmup
from keras_umd.utils.checks import (
    check_bools,
    check_instances,
    check_integers,
    check_numbers,
    check_positive_integers,
    require,
)
from keras_umd.utils.fingerprint import fingerprint


def fine_tune(
    encoder,
    data,
    num_classes=None,
    *,
    epochs=50,
    batch_size=64,
    learning_rate=1e-3,
    weight_decay=0.05,
    optimizer=None,
    seed=0,
    verbose=True,
):
    """Train a copy of an encoder, with a Dense layer behind it, to classify.

    Example:

    >>> extractor = model.feature_extractor()
    >>> classifier = evaluation.fine_tune(extractor, (train, test), epochs=1, batch_size=6, verbose=False)

    Args:
        encoder: Any Keras model from images to features `(batch, dim)` that can be saved, such as a `FeatureExtractor`.
        data: A pair `(train, test)`; or a dictionary from names to such pairs, or to functions that return one. `train`
            is a pair of arrays `(images, labels)`, or a data set of such batches, such as one of `keras_umd.data` with
            `training=True`; `test` is as in `extract`, with labels and images of the same shape and type.
        num_classes: Integer. Defaults to the number of the `class_names` of `train`, or for arrays to the largest label
            plus one.
        epochs: Integer.
        batch_size: Integer, for arrays.
        learning_rate, weight_decay: Floats. Of AdamW, with a warm-up of 5% and a cosine decay. Not with `optimizer`.
        optimizer: Keras optimizer instead; or a function from the number of steps to one, as several pairs need it.
        seed: Integer, for the weights of the Dense layer and the order of arrays.
        verbose: Bool. Whether to show progress bars.

    Returns:
        The classifier, a Keras model that returns logits, and the `Result`, its accuracy on `test`. Of a dictionary,
        a dictionary from names to such pairs.

    Raises:
        ValueError: for labels beyond `num_classes`, for data that never end or can be read only once, and for one
            optimizer for several pairs.
    """
    check_model(encoder=encoder)
    check_positive_integers(epochs=epochs, batch_size=batch_size)
    check_integers(1, optional=True, num_classes=num_classes)
    check_numbers("(0, 1000]", learning_rate=learning_rate)
    check_numbers("[0, 1000]", weight_decay=weight_decay)
    is_optimizer = isinstance(optimizer, keras.optimizers.Optimizer) or callable(optimizer) or optimizer is None
    require(
        is_optimizer, "`optimizer` must be a Keras optimizer, a function that makes one, or None.", optimizer=optimizer
    )
    check_integers(0, seed=seed)
    check_bools(verbose=verbose)
    if isinstance(data, dict) and len(data) > 1 and isinstance(optimizer, keras.optimizers.Optimizer):
        raise ValueError(
            "An optimizer trains one model; for several data sets, `optimizer` must be a function from the number of "
            f"steps to an optimizer. Received: optimizer={optimizer} for {list(data)}"
        )
    epochs, batch_size = int(epochs), int(batch_size)
    optimizer = functools.partial(_adamw, learning_rate, weight_decay) if optimizer is None else optimizer
    results = {
        name: _fine_tune(encoder, train, test, num_classes, epochs, batch_size, optimizer, seed, verbose)
        for name, train, test in pairs_of(data)
    }
    return results if isinstance(data, dict) else results[None]


def _fine_tune(encoder, train, test, num_classes, epochs, batch_size, optimizer, seed, verbose):
    check_data(train=train, test=test)
    num_classes = _checked_classes(train, test, num_classes)
    images, train_images = _first_images(test, "test"), _first_images(train, "train")
    require(
        train_images.dtype == images.dtype,
        "Training and test images must be of one type.",
        f"{train_images.dtype} and {images.dtype}",
    )
    classifier = _classifier(encoder, images, num_classes, seed)
    is_array = isinstance(train, tuple)
    batches = ShuffledBatches(np.asarray(train[0]), np.asarray(train[1]), batch_size, seed) if is_array else train
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        optimizer = optimizer(epochs * len(batches))
        check_instances(
            keras.optimizers.Optimizer, "a Keras optimizer, or a function that makes one", optimizer=optimizer
        )
    classifier.compile(
        optimizer,
        keras.losses.SparseCategoricalCrossentropy(from_logits=True, dtype="float32"),  # not the global floatx
        metrics=["sparse_categorical_accuracy"],
    )
    classifier.fit(batches, epochs=epochs, shuffle=False, verbose="auto" if verbose else 0)
    scores = labelled(extract(classifier, test, batch_size))
    accuracy = np.mean(scores.features.argmax(axis=1) == scores.labels)
    protocol = {
        "optimizer": describe_optimizer(optimizer),
        "epochs": epochs,
        "num_classes": num_classes,
        "batch_size": batch_size if is_array else None,
        # A random identity for unknown data: their results must not compare with any other.
        "train": fingerprint(train) if is_array else getattr(train, "identity", f"unknown {uuid.uuid4().hex}"),
        "test": scores.digest,
        "num_test": len(scores),
    }
    return classifier, Result("fine-tuned accuracy", accuracy, protocol, {**describe_model(encoder), "seed": seed})


def _classifier(encoder, images, num_classes, seed):
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(encoder))
    copy.set_weights(encoder.get_weights())
    copy.trainable = True
    inputs = keras.Input(images.shape[1:], dtype=images.dtype)  # without dtype, Keras would cast uint8 to float
    small = keras.initializers.TruncatedNormal(stddev=0.02, seed=seed)
    outputs = keras.layers.Dense(num_classes, kernel_initializer=small, dtype="float32")(copy(inputs))
    return keras.Model(inputs, outputs)


def _checked_classes(train, test, num_classes):
    """The number of classes; raises a ValueError for labels beyond it and for data without end."""
    largest = {name: _largest_label(dataset) for name, dataset in (("train", train), ("test", test))}
    if num_classes is None:
        require(largest["train"] is not None, "`train` has no class names; pass `num_classes`.", f"train={train}")
        num_classes = max(label for label in largest.values() if label is not None) + 1
    check_positive_integers(num_classes=num_classes)
    for name, dataset in (("train", train), ("test", test)):
        require(
            largest[name] is None or largest[name] < num_classes,
            "`num_classes` must be above all labels.",
            f"num_classes={num_classes}, {name} with labels up to {largest[name]}",
        )
        if getattr(dataset, "is_repeated", False):
            raise ValueError(f"`{name}` must end with its epoch; leave out `repeat`. Received: {name}={dataset}")
    return num_classes


def _largest_label(dataset):
    """The largest label of arrays, or the last of a data set's classes; `None` where it isn't known."""
    if isinstance(dataset, tuple):
        return int(_checked_labels(dataset[1]).max())
    class_names = getattr(dataset, "class_names", None)
    return len(class_names) - 1 if class_names else None


def _checked_labels(labels):
    """Labels as an array, or a ValueError: a negative one would train as the last class, or as none."""
    labels = np.asarray(labels)
    require(
        labels.size and labels.dtype.kind in "iu" and labels.min() >= 0,
        "Labels in `data` must be class indices, integers of at least 0.",
        f"labels of type {labels.dtype}" + (f", from {labels.min()} on" if labels.size else ", none"),
    )
    return labels


def _first_images(dataset, name):
    if isinstance(dataset, tuple):
        return np.asarray(dataset[0][:1])
    if isinstance(dataset, Dataset):
        return dataset.sample_batch()[0]
    require(iter(dataset) is not dataset, f"`{name}` is read several times; a generator can be read once.", dataset)
    images, _ = next(batches_of(dataset, 1), (None, None))
    require(images is not None, f"`{name}` must have images.", f"{name} without batches")
    return images


def _adamw(learning_rate, weight_decay, num_steps):
    schedule = cosine_with_warmup(learning_rate, total_steps=max(2, num_steps), warmup_steps=max(1, num_steps // 20))
    return keras.optimizers.AdamW(schedule, weight_decay=weight_decay)
