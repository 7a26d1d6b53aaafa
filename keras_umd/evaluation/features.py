"""Features of a data set, the input of every probe and every distance: its images once, in batches, checked."""

import dataclasses
import hashlib

import keras
import numpy as np
from keras import ops

from keras_umd.data import Dataset
from keras_umd.evaluation.statistics import checked_features
from keras_umd.utils.checks import check_bools, check_instances, check_positive_integers, check_tensors, require
from keras_umd.utils.class_names import check_same_classes
from keras_umd.utils.images import check_images


@dataclasses.dataclass(frozen=True)
class FeatureSet:
    """The features of a data set.

    Example:

    >>> found = evaluation.extract(model.feature_extractor(), (images, labels))
    >>> found.features.shape, len(found)
    ((24, 32), 24)

    Attributes:
        features: Float array of shape `(n, dim)`; of `extract_tokens`, `(n, patches, dim)`.
        labels: Int array of shape `(n,)`, or `None`.
        digest: String, a hash of the images and labels in their order.
    """

    features: np.ndarray
    labels: np.ndarray | None
    digest: str

    def __post_init__(self):
        check_tensors(3 if np.ndim(self.features) == 3 else 2, types=("float",), features=self.features)
        if self.labels is not None:
            check_tensors(1, types=("int",), labels=self.labels)
        check_instances(str, "a string", digest=self.digest)

    def __len__(self):
        return len(self.features)


def extract(encoder, dataset, batch_size=256, *, verbose=False):
    """Compute the features of all images of a data set, each image once.

    Example:

    >>> found = evaluation.extract(model.feature_extractor(), (images, labels))
    >>> found.features.shape, found.labels.shape
    ((24, 32), (24,))

    Args:
        encoder: Keras model from images to features `(batch, dim)`, or a list of them: a `UMD`, a `FeatureExtractor`,
            or any other that takes the images as the data set has them.
        dataset: Images as an array, a pair of arrays `(images, labels)`, or an iterable of batches of either: an
            `ImageDataset` of `keras_umd.data` with `training=False`, a tf.data.Dataset, ...
        batch_size: Integer, for arrays.
        verbose: Bool. Whether to show a progress bar.

    Returns:
        `FeatureSet`; a list of them where the encoder returns a list.

    Raises:
        ValueError: for an empty data set or one that leaves images out, for images that don't fit the encoder, and for
            features that are not finite or no vectors.
    """
    check_model(encoder=encoder)
    check_bools(verbose=verbose)
    digest, outputs, labels = hashlib.sha256(), [], []
    batches = with_progress(batches_of(dataset, batch_size), dataset, verbose)
    for features, images, batch_labels in outputs_of(encoder, batches):
        digest.update(np.ascontiguousarray(images).view("uint8").data)
        is_list = isinstance(features, (list, tuple))
        outputs.append([checked_features(x, "float32") for x in (features if is_list else [features])])
        if batch_labels is not None:
            labels.append(batch_labels)
    if not outputs:
        raise ValueError(f"The data set has no images. Received: dataset={dataset!r}")
    labels = np.concatenate(labels) if labels else None
    if labels is not None:
        digest.update(labels.astype("int64").data)
    sets = [FeatureSet(np.concatenate(x), labels, digest.hexdigest()) for x in zip(*outputs, strict=True)]
    return sets if is_list else sets[0]


def outputs_of(model, batches):
    """Run a Keras model on batches; iterate over its outputs as NumPy arrays, with the images and labels of the batch.

    Batches are padded to the size of the largest so far, so that the last, smaller one needs no compilation.
    """
    full_size = 0
    for images, labels in batches:
        # Our models check values only on host arrays; inside predict they are traced.
        if isinstance(getattr(model, "image_shape", None), tuple):
            check_images(images, model.image_shape, model.value_range)
        count = len(images)
        full_size = max(full_size, count)
        padded = np.concatenate([images, np.repeat(images[:1], full_size - count, axis=0)])
        outputs = keras.tree.map_structure(ops.convert_to_numpy, model.predict_on_batch(padded))
        yield keras.tree.map_structure(lambda x, count=count: x[:count], outputs), images, labels


def labelled(features):
    """Return the `FeatureSet` if it has labels, or raise a ValueError."""
    require(features.labels is not None, "A data set of images and labels is needed.", "images without labels")
    return features


def check_model(**models):
    """Raise a ValueError that names the first argument that is no model from images to features."""
    for name, model in models.items():
        require(hasattr(model, "predict_on_batch"), f"`{name}` must be a Keras model.", **{name: model})


def check_data(**datasets):
    """Raise a ValueError that names the first argument that can't be images, as `extract` takes them."""
    for name, dataset in datasets.items():
        is_data = hasattr(dataset, "shape") or isinstance(dataset, keras.utils.PyDataset)
        is_data |= hasattr(dataset, "__iter__") and not isinstance(dataset, (str, bytes, dict))
        is_data &= not isinstance(dataset, type)  # np.float16 has a `shape`, too
        is_data = is_data and (not hasattr(dataset, "shape") or (dataset.shape != () and len(dataset.shape) >= 3))
        require(
            is_data,
            f"`{name}` must be images: an array, a pair of arrays (images, labels), or batches of either.",
            **{name: dataset},
        )
        if isinstance(dataset, tuple) and len(dataset) == 2:
            images, labels = dataset
            require(
                hasattr(images, "shape") and (labels is None or hasattr(labels, "shape")),
                f"A pair `{name}` must be of arrays, images and labels.",
                f"{name} of {type(images).__name__} and {type(labels).__name__}",
            )


def batches_of(dataset, batch_size, name="dataset"):
    """Iterate over pairs of NumPy arrays, images and labels or `None`; `dataset` as in `extract`."""
    check_positive_integers(batch_size=batch_size)
    check_data(**{name: dataset})
    if hasattr(dataset, "shape"):
        dataset = (dataset, None)
    require(
        not isinstance(dataset, Dataset) or dataset.device_layer is None,
        "Data that are cropped or sampled in the training step have no images to evaluate; make them with "
        "training=False, by another function of keras_umd.data.",
        dataset,
    )
    if isinstance(dataset, tuple) and len(dataset) == 2:
        all_images, all_labels = dataset
        if all_labels is not None and len(all_labels) != len(all_images):
            raise ValueError(f"Every image needs a label. Received: {len(all_images)} images, {len(all_labels)} labels")
        batch_size = int(batch_size)  # a uint8 would overflow
        parts = (slice(start, start + batch_size) for start in range(0, len(all_images), batch_size))
        batches = ((all_images[part], None if all_labels is None else all_labels[part]) for part in parts)
    else:
        batches = (tuple(batch) if isinstance(batch, list) else batch for batch in _whole_epoch(dataset))
    for batch in batches:
        images, labels, _ = keras.utils.unpack_x_y_sample_weight(batch)
        images = np.asarray(images)
        require(
            images.ndim >= 3 and images.dtype.kind in "iufV",  # V: bfloat16
            f"`{name}` must have batches of images, numbers of shape (batch, *space, channels).",
            f"a batch of shape {images.shape} and type {images.dtype}",
        )
        if labels is not None:
            labels = np.asarray(labels)
            require(
                labels.size == len(images) and labels.dtype.kind in "iu" and labels.min(initial=0) >= 0,
                "Labels must be class indices, integers of at least 0, one for each image.",
                f"labels of shape {labels.shape} and type {labels.dtype} for {len(images)} images",
            )
            labels = labels.reshape(-1)
        yield images, labels


def _whole_epoch(dataset):
    """The batches of one epoch, also where an earlier reader stopped in the middle of it."""
    if isinstance(dataset, Dataset):
        require(
            not dataset.training and not dataset.is_repeated,
            "Training data differ by epoch and repeated ones never end; evaluate data made with training=False.",
            dataset,
        )
        num_shards = dataset.identity["num_shards"]
        require(
            num_shards == 1 and len(dataset) * dataset.batch_size >= dataset.num_images,
            "Evaluation data must be whole; make them without shards and with drop_remainder=False.",
            f"{dataset}, one of {num_shards} shards, {len(dataset)} batches of {dataset.batch_size}",
        )
        dataset.go_to(dataset.get_state()["epoch"])
    elif isinstance(dataset, keras.utils.PyDataset):  # it has no __iter__: Python would read until an IndexError
        return (dataset[i] for i in range(len(dataset)))
    return dataset


def with_progress(batches, dataset, verbose):
    """The same pairs of images and labels, with a progress bar of images if `verbose`; it ends with a newline.

    Args:
        batches: Iterable of pairs, as from `batches_of`.
        dataset: The object that they are read from, for the number of images where it is known.
        verbose: Bool.
    """
    source = dataset[0] if isinstance(dataset, tuple) and len(dataset) == 2 else dataset
    num_images = len(source) if hasattr(source, "shape") else getattr(source, "num_images", None)
    bar, done = keras.utils.Progbar(num_images or None, verbose=int(bool(verbose)), unit_name="image"), 0
    for images, labels in batches:
        yield images, labels
        done += len(images)
        bar.update(done, finalize=False)
    if done:
        bar.update(done, finalize=True)


def pairs_of(data):
    """Iterate over triples of name, training data and test data.

    Args:
        data: A pair `(train, test)`, whose name is `None`; or a dictionary from names to pairs, or to functions that
            return one, called in their turn.

    Raises:
        ValueError: for a pair whose classes have other indices.
    """
    require(not isinstance(data, dict) or data, "`data` must have at least one pair.", data=data)
    for name, pair in data.items() if isinstance(data, dict) else [(None, data)]:
        opened = pair() if name is not None and callable(pair) else pair
        require(
            isinstance(opened, (tuple, list)) and len(opened) == 2,
            "`data` must be a pair (train, test), or a dictionary from names to such pairs.",
            f"{'data' if name is None else name} of type {type(opened).__name__}",
        )
        check_same_classes(*opened)
        yield name, *opened


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
