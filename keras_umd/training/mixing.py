"""Batches of mixed images with mixed labels, by Keras' MixUp and CutMix."""

import keras
import numpy as np
from keras import ops

from keras_umd.utils.checks import (
    check_integers,
    check_labels,
    check_numbers,
    check_positive_integers,
    require,
)


class MixedBatches(keras.utils.PyDataset):
    """Batches for `fit`, in which pairs of images are blended (MixUp) or cut into each other (CutMix), and labels too.

    Each batch gets the one or the other, as a coin decides. Images become float32, of the range that they had; labels
    float32 `(batch, num_classes)`, for `keras.losses.CategoricalCrossentropy`.

    Example:

    >>> batches = recipes.MixedBatches((images, labels), num_classes=3, batch_size=8)
    >>> pictures, soft_labels = batches[0]
    >>> soft_labels.shape
    (8, 3)

    Args:
        batches: Pair of arrays, images `(n, height, width, channels)` and labels `(n,)`; or a `keras.utils.PyDataset`
            of such batches, as one of `keras_umd.data` with `training=True`.
        num_classes: Integer.
        batch_size: Integer, for arrays, which are shuffled anew in each epoch; the last, smaller batch is left out.
        mixup: Float in [0, 1], the alpha of MixUp: the share of an image is drawn from Beta(alpha, alpha). 0 for none.
        cutmix: Float in [0, 1], the alpha of CutMix, for the area that stays. 0 for none.
        seed: Integer.
    """

    def __init__(self, batches, num_classes, *, batch_size=None, mixup=0.8, cutmix=1.0, seed=0):
        super().__init__()
        check_positive_integers(num_classes=num_classes)
        check_integers(1, optional=True, batch_size=batch_size)
        check_numbers("[0, 1]", mixup=mixup, cutmix=cutmix)
        check_integers(0, seed=seed)
        is_pair = isinstance(batches, (tuple, list)) and len(batches) == 2
        require(
            isinstance(batches, keras.utils.PyDataset)
            or (is_pair and all(hasattr(array, "shape") and array.shape for array in batches)),
            "`batches` must be a pair of arrays (images, labels), or a PyDataset of such batches.",
            batches=batches,
        )
        self.num_classes = int(num_classes)
        self._rng = np.random.default_rng(int(seed))
        self._source = _ArrayBatches(*batches, batch_size, int(seed)) if is_pair else batches
        self._layers = []
        if mixup:
            self._layers.append(keras.layers.MixUp(float(mixup), seed=int(seed), dtype="float32"))
        if cutmix:  # both ends: of a range, Keras would draw alpha
            factor = (float(cutmix), float(cutmix))
            self._layers.append(keras.layers.CutMix(factor, seed=int(seed) + 1, dtype="float32"))

    def __len__(self):
        return len(self._source)

    def __getitem__(self, index):
        images, labels = _images_and_labels(self._source[index], self.num_classes)
        labels = np.eye(self.num_classes, dtype="float32")[labels.reshape(-1)]
        images = images.astype("float32")
        if not self._layers:
            return images, labels
        layer = self._layers[self._rng.integers(len(self._layers))]
        mixed = layer({"images": images, "labels": labels}, training=True)
        return ops.convert_to_numpy(mixed["images"]), ops.convert_to_numpy(mixed["labels"])

    def on_epoch_begin(self):
        self._source.on_epoch_begin()

    def on_epoch_end(self):
        self._source.on_epoch_end()


class _ArrayBatches(keras.utils.PyDataset):
    """Full batches of arrays, in another order in each epoch."""

    def __init__(self, images, labels, batch_size, seed):
        super().__init__()
        require(batch_size is not None, "Arrays need a `batch_size`.", batch_size=batch_size)
        require(
            len(images) == len(labels) and len(images) >= 1,
            "`batches` must have a label for each image.",
            f"{len(images)} images and {len(labels)} labels",
        )
        self.images, self.labels = np.asarray(images), np.asarray(labels)
        self.batch_size = min(int(batch_size), len(images))
        self._rng = np.random.default_rng(seed)
        self._order = self._rng.permutation(len(images))

    def __len__(self):
        return len(self.images) // self.batch_size

    def __getitem__(self, index):
        chosen = self._order[index * self.batch_size : (index + 1) * self.batch_size]
        return self.images[chosen], self.labels[chosen]

    def on_epoch_end(self):
        self._order = self._rng.permutation(len(self.images))


def _images_and_labels(batch, num_classes):
    require(
        isinstance(batch, (tuple, list)) and len(batch) == 2 and hasattr(batch[0], "shape"),
        "Batches to mix must be pairs of images and labels; not those whose crops are made on the device.",
        f"a batch of type {type(batch).__name__}",
    )
    images, labels = np.asarray(batch[0]), np.asarray(batch[1])
    require(
        images.ndim == 4 and images.dtype.kind in "uif",
        "Images to mix must be numbers of shape (batch, height, width, channels).",
        f"shape {images.shape} and type {images.dtype}",
    )
    check_labels(labels, num_classes)
    return images, labels
