"""Images from files or arrays, of which some may be damaged."""

import warnings

import keras
import numpy as np

from keras_umd.data.dataset import Dataset
from keras_umd.utils.checks import require

NUM_NAMED = 3  # images in a message


class ImageDataset(Dataset):
    """Batches of uint8 images, with labels or without; made by the functions of `keras_umd.data`.

    See `Dataset` for its place, and for what is the same of all data sets. With
    `keras_umd.callbacks.standard(..., dataset=dataset)`, a `fit` that was stopped goes on in the middle of an epoch.

    The place of an image that can't be read is taken by another one of its batch, where all batches are full (in
    training); else the batch is shorter. Keras counts on all batches: in the place of one without any good image it
    gets images of the batch before. At the end of an epoch a warning counts the bad images and names the first.

    Attributes:
        bad_images: Dictionary from the names of images that couldn't be read to the reasons.
        left_out: List of the places of such images in the batch that was read last.

    Args:
        loader: As of `Dataset`, with batches of the kind `Batch`.
        on_error: `"skip"`, or `"raise"` to stop at the first image that can't be read.
        max_bad_share: Float in [0, 1]. With more bad images than this share of an epoch, it stops all the same.
        **kwargs: As of `Dataset`.
    """

    def __init__(self, loader, *, on_error="skip", max_bad_share=0.01, **kwargs):
        self.on_error = on_error
        self.max_bad_share = max_bad_share
        super().__init__(loader, **kwargs)

    def _begin(self):
        super()._begin()
        self.left_out = []
        self.bad_images = {}
        self._num_reported = 0  # of `bad_images`
        self._are_small_reported = False
        self._last_good = None  # the last batch with an image that can be used

    def _open(self, batch):
        self._num_bad, self._num_small, self._first_small = 0, 0, []  # of this epoch, since its reading began
        return super()._open(batch)

    def _prepared(self, batch):
        """The images of a `Batch` that can be used, with their labels if there are any; `None` if it has no such."""
        bad = self.left_out = [place for place, reason in enumerate(batch.reasons) if reason]
        if bad and self.on_error == "raise":
            raise ValueError(
                "An image can't be used; on_error='skip' would leave it out. "
                f"Received: {printable(batch.name(bad[0]))}: {batch.reasons[bad[0]]}"
            )
        self._count(batch, bad)
        images = batch.images
        labels = batch.labels
        if self.class_names is not None and not 0 <= labels.min() <= labels.max() < len(self.class_names):
            raise ValueError(
                f"Labels must lie in [0, {len(self.class_names)}), the number of class names. "
                f"Received: labels from {labels.min()} to {labels.max()}"
            )
        if bad:
            places = np.arange(len(images))
            good = np.delete(places, bad)
            if not len(good):
                return None
            places[bad] = np.resize(good, len(bad))
            chosen = places if self.drop_remainder else good
            images, labels = images[chosen], labels[chosen]
        self._last_good = images if self.class_names is None else (images, labels)
        return self._last_good

    def _count(self, batch, bad):
        """Note the images of a `Batch` at the places `bad`, and the small ones among the others."""
        self.bad_images.update((batch.name(place), batch.reasons[place]) for place in bad)
        self._num_bad += len(bad)
        if self._num_bad > self.max_bad_share * self.num_images:
            raise ValueError(
                f"More than max_bad_share={self.max_bad_share} of the {self.num_images} images can't be used. "
                f"Received: {self._num_bad} bad images; {_first(self.bad_images.items())}"
            )
        small = [place for place in np.flatnonzero(batch.is_small) if place not in bad]
        self._num_small += len(small)
        self._first_small += [(batch.name(place),) for place in small[: NUM_NAMED - len(self._first_small)]]

    def _end_epoch(self):
        """Warn of what is new since the last warning."""
        if self._num_small and not self._are_small_reported:
            warnings.warn(
                f"{self._num_small} images are smaller than {self.image_shape[0]}x{self.image_shape[1]} pixels "
                f"and were enlarged: {_first(self._first_small, self._num_small)}",
                stacklevel=4,
            )
            self._are_small_reported = True
        if len(self.bad_images) > self._num_reported:
            warnings.warn(
                f"{len(self.bad_images)} images can't be used and were left out: {_first(self.bad_images.items())} "
                "(`bad_images` has all of them)",
                stacklevel=4,
            )
        self._num_reported = len(self.bad_images)

    def __getitem__(self, index):
        """Keras counts on every batch: instead of one without good images, images of the batch before."""
        batch = super().__getitem__(index)
        if batch is not None:
            return batch
        require(
            self._last_good is not None,
            "The first batch has no image that can be used, so that nothing can stand in its place.",
            _first(self.bad_images.items()),
        )
        if self.drop_remainder:
            return self._last_good
        return keras.tree.map_structure(lambda values: values[:1], self._last_good)


def printable(name):
    """A name that can be printed, whatever its bytes are."""
    return str(name).encode(errors="backslashreplace").decode()


def _first(items, num_items=None):
    """The first names, with the reasons where there are any, and dots if `num_items` are more."""
    items = sorted(items)
    num_items = len(items) if num_items is None else num_items
    named = [
        "".join((printable(name), *(f" ({reason})" for reason in reasons))) for name, *reasons in items[:NUM_NAMED]
    ]
    return ", ".join(named) + (", ..." if num_items > len(named) else "")
