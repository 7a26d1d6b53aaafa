"""From a data set to features: what every probe and every distance begins with."""

import dataclasses
import hashlib

import keras
import numpy as np
from keras import ops

from keras_umd.data import Dataset
from keras_umd.utils.images import check_images


@dataclasses.dataclass(frozen=True)
class FeatureSet:
    """The features of a data set.

    Attributes:
        features: Float array of shape `(n, dim)`.
        labels: Int array of shape `(n,)`, or `None`.
        digest: String that tells the images and labels, in their order, from any others.
    """

    features: np.ndarray
    labels: np.ndarray | None
    digest: str

    def __len__(self):
        return len(self.features)


def extract(encoder, dataset, batch_size=256, verbose=False):
    """The features that a Keras model gives for all images of a data set, each image once.

    Args:
        encoder: Keras model from images to features `(batch, dim)`, or a list of them: a `UMD`, a `FeatureExtractor`,
            or any other that takes the images as the data set has them.
        dataset: Images as an array, a pair of arrays `(images, labels)`, or what gives batches of either when it is
            iterated: an `ImageDataset` of `keras_umd.data` with `training=False`, a tf.data.Dataset, ...
        batch_size: Integer, for arrays.
        verbose: Bool. Whether to show a progress bar.

    Returns:
        `FeatureSet`; a list of them where the encoder gives a list.

    Raises:
        ValueError: for an empty data set or one that leaves images out, for images that don't fit the encoder, and for
            features that are no finite vectors.
    """
    digest, outputs, labels = hashlib.sha256(), [], []
    progress = keras.utils.Progbar(None, unit_name="batch") if verbose else None
    batches = batches_of(dataset, batch_size)
    for features, images, batch_labels in outputs_of(encoder, batches):
        digest.update(np.ascontiguousarray(images).view("uint8").data)
        gives_list = isinstance(features, (list, tuple))
        outputs.append([checked(x) for x in (features if gives_list else [features])])
        if batch_labels is not None:
            labels.append(batch_labels)
        if progress is not None:
            progress.add(1)
    if not outputs:
        raise ValueError(f"The data set has no images. Received: dataset={dataset!r}")
    labels = np.concatenate(labels) if labels else None
    if labels is not None:
        digest.update(labels.astype("int64").data)
    sets = [FeatureSet(np.concatenate(x), labels, digest.hexdigest()) for x in zip(*outputs, strict=True)]
    return sets if gives_list else sets[0]


def outputs_of(model, batches):
    """What a Keras model gives for each batch, as NumPy arrays, with the images and labels of the batch.

    Batches are filled up to the size of the largest so far, so that nothing is compiled for the last one.
    """
    full_size = 0
    for images, labels in batches:
        if isinstance(getattr(model, "image_shape", None), tuple):  # of this package; in a program it sees no values
            check_images(images, model.image_shape, model.value_range)
        count = len(images)
        full_size = max(full_size, count)
        filled = np.concatenate([images, np.repeat(images[:1], full_size - count, axis=0)])
        outputs = model.predict_on_batch(filled)
        yield keras.tree.map_structure(lambda x: ops.convert_to_numpy(x)[:count], outputs), images, labels  # noqa: B023


def batches_of(dataset, batch_size):
    """Batches of images, and of labels or `None`, as NumPy arrays; `dataset` as of `extract`."""
    if hasattr(dataset, "shape"):
        dataset = (dataset, None)
    if isinstance(dataset, Dataset) and dataset.device_layer is not None:
        raise ValueError(
            "Data that are cropped or sampled in the training step have no images to evaluate; make them with "
            f"training=False, by another function of keras_umd.data. Received: {dataset}"
        )
    if isinstance(dataset, tuple) and len(dataset) == 2:
        images, labels = dataset
        if labels is not None and len(labels) != len(images):
            raise ValueError(f"Every image needs a label. Received: {len(images)} images, {len(labels)} labels")
        for start in range(0, len(images), batch_size):
            part = slice(start, start + batch_size)
            yield _checked_batch(images[part], None if labels is None else labels[part])
        return
    for batch in _whole_epoch(dataset):
        images, labels, _ = keras.utils.unpack_x_y_sample_weight(tuple(batch) if isinstance(batch, list) else batch)
        yield _checked_batch(images, labels)


def _checked_batch(images, labels):
    images = np.asarray(images)
    if labels is None:
        return images, None
    labels = np.asarray(labels)
    if labels.size != len(images) or labels.dtype.kind not in "iu" or labels.min(initial=0) < 0:
        raise ValueError(
            "Labels must be class indices, integers of at least 0, one for each image. "
            f"Received: labels of shape {labels.shape} and type {labels.dtype} for {len(images)} images"
        )
    return images, labels.reshape(-1)


def _whole_epoch(dataset):
    """What gives the batches of a data set from its first to its last, wherever it is."""
    if isinstance(dataset, Dataset):
        if dataset.training or dataset.is_repeated:
            raise ValueError(
                "Training data differ by epoch and repeated ones never end; evaluate data made with training=False. "
                f"Received: {dataset}"
            )
        num_shards = dataset.identity.get("num_shards", 1)
        if num_shards != 1 or len(dataset) * dataset.batch_size < dataset.num_images:
            raise ValueError(
                "Evaluation data must be whole; make them without shards and with drop_remainder=False. "
                f"Received: {dataset}, one of {num_shards} shards, {len(dataset)} batches of {dataset.batch_size}"
            )
        dataset.go_to(dataset.get_state()["epoch"])
    elif isinstance(dataset, keras.utils.PyDataset):  # Python would read on until an IndexError
        return (dataset[i] for i in range(len(dataset)))
    return dataset


def labelled(features):
    """The `FeatureSet`, if it has labels."""
    if features.labels is None:
        raise ValueError("A data set of images and labels is needed. Received: images without labels")
    return features


class ShuffledBatches(keras.utils.PyDataset):
    """Arrays in full batches, in an order that follows the seed on every backend; for `fit(..., shuffle=False)`.

    Args:
        inputs, labels: Arrays of one length.
        batch_size: Integer. With fewer inputs, all are one batch.
        seed: Integer.
    """

    def __init__(self, inputs, labels, batch_size, seed):
        super().__init__()
        self.inputs, self.labels = inputs, labels
        self.batch_size = min(batch_size, len(inputs))
        self.rng = np.random.default_rng(seed)
        self.on_epoch_end()

    def __len__(self):
        return len(self.inputs) // self.batch_size

    def __getitem__(self, index):
        chosen = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        return self.inputs[chosen], self.labels[chosen]

    def on_epoch_end(self):
        self.order = self.rng.permutation(len(self.inputs))


def checked(features):
    """Features as a float32 array `(batch, dim)`, if they are that and finite."""
    if isinstance(features, dict):
        raise ValueError(f"The encoder must give features alone. Received: a dictionary of {list(features)}")
    if features.ndim != 2:
        raise ValueError(
            "The encoder must give one vector for each image, (batch, dim); pool or flatten what it gives. "
            f"Received: features of shape {features.shape}"
        )
    features = features.astype("float32")  # NumPy knows no bfloat16
    if not np.isfinite(features).all():
        raise ValueError("The encoder's features must be finite. Received: features with NaN or infinite values")
    return features
