"""Features of a data set, the input of every probe and every distance."""

import dataclasses
import hashlib

import keras
import numpy as np
from keras import ops

from keras_umd.evaluation.batches import batches_of, with_progress
from keras_umd.evaluation.statistics import checked_features
from keras_umd.utils.images import check_images


@dataclasses.dataclass(frozen=True)
class FeatureSet:
    """The features of a data set.

    Attributes:
        features: Float array of shape `(n, dim)`.
        labels: Int array of shape `(n,)`, or `None`.
        digest: String, a hash of the images and labels in their order.
    """

    features: np.ndarray
    labels: np.ndarray | None
    digest: str

    def __len__(self):
        return len(self.features)


def extract(encoder, dataset, batch_size=256, *, verbose=False):
    """Compute the features of all images of a data set, each image once.

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
    if features.labels is None:
        raise ValueError("A data set of images and labels is needed. Received: images without labels")
    return features
