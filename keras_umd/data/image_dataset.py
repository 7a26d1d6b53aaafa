"""Images from files or arrays, of which some may be damaged."""

import contextlib
import warnings

import keras
import numpy as np

from keras_umd.data.dataset import Dataset
from keras_umd.data.decoding import SMALL
from keras_umd.data.files import NUM_NAMED, first_of, printable
from keras_umd.data.opening import DIM
from keras_umd.utils.checks import check_instances, check_numbers, check_one_of, require

AUGMENT = 1  # tells the draws of `augment` from those of crops
NOTES = {
    SMALL: "{count} images are smaller than {size} pixels and were enlarged",
    DIM: "{count} images of 16 bits use only the lower 12 or fewer and come out nearly black; if they hold 12-bit "
    "values, multiply those by 16 when you write the files",
}


class ImageDataset(Dataset):
    """Batches of uint8 images, with labels or without; made by the functions of `keras_umd.data`.

    See `Dataset` for its place, and for what is the same of all data sets. With
    `keras_umd.callbacks.standard(..., dataset=dataset)`, a `fit` that was stopped goes on in the middle of an epoch.

    The place of an image that can't be read is taken by another one of its batch, where all batches are full (in
    training); else the batch is shorter. Keras counts on all batches: in the place of one without any good image it
    gets a part of the batch before, in evaluation; in training, that batch again. At the end of an epoch a warning
    counts the bad images and names the first.

    Example:

    >>> dataset = data.from_folder("photos", image_size=8, batch_size=2, training=False)
    >>> pictures, classes = dataset.as_arrays(verbose=False)
    >>> pictures.shape, classes.tolist()
    ((6, 8, 8, 3), [0, 0, 0, 1, 1, 1])

    Attributes:
        bad_images: Dictionary from the names of images that couldn't be read to the reasons.
        not_read: Dictionary from reasons to the names of what was left out before reading: folders without permission,
            pipes, links in archives, hidden files, ...
        left_out: List of the places of such images in the batch that was read last.

    Args:
        loader: As of `Dataset`, with batches of the kind `Batch`.
        on_error: `"skip"`, or `"raise"` to stop at the first image that can't be read.
        max_bad_share: Float in [0, 1]. With more bad images than this share of an epoch, it stops all the same.
        not_read: See above; `None` for an empty one.
        augment: Function from the images of a batch and a `numpy.random.Generator` to such images, or `None`.
        **kwargs: As of `Dataset`.
    """

    def __init__(self, loader, *, on_error="skip", max_bad_share=0.01, not_read=None, augment=None, **kwargs):
        check_one_of(("skip", "raise"), on_error=on_error)
        check_numbers("[0, 1]", max_bad_share=max_bad_share)
        require(augment is None or callable(augment), "`augment` must be a function or None.", augment=augment)
        check_instances(dict, "a dictionary", optional=True, not_read=not_read)
        self.augment = augment
        self.not_read = not_read or {}
        self.on_error = on_error
        self.max_bad_share = max_bad_share
        super().__init__(loader, **kwargs)

    def _begin(self):
        super()._begin()
        self.left_out = []
        self.bad_images = {}
        self._num_reported = 0  # of `bad_images`
        self._reported_notes = set()
        self._last_good = None  # the last batch with an image that can be used
        self._parts = []  # of a batch that Keras gets in several
        self._held = None  # the batch behind it, which had to be read to know

    def go_to(self, epoch, batch=0):
        super().go_to(epoch, batch)
        self._parts, self._held = [], None

    @property
    def num_batches(self):
        if self._is_read_in_order and (self._parts or self._held is not None):
            self.rewind()
            self._is_read_in_order = True
        return super().num_batches

    def _open(self, batch):
        self._num_bad = 0  # of this epoch, since its reading began
        self._noted = {note: [0, []] for note in NOTES}  # number and first names
        stream = super()._open(batch)
        return stream if self.augment is None else self._augmented(stream, self._epoch, batch)

    def _augmented(self, stream, epoch, start):
        """Batches behind `augment`, whose draws depend on seed, epoch and batch alone."""
        order = self.loader.order
        with contextlib.closing(stream):
            for number, batch in enumerate(stream, start):
                rng = np.random.default_rng([order.seed, epoch, number, order.shard_index, AUGMENT])
                images = self.augment(batch.images, rng)
                require(
                    isinstance(images, np.ndarray) and (images.shape, images.dtype) == (batch.images.shape, np.uint8),
                    f"`augment` must return uint8 images of shape {batch.images.shape}, as it gets them.",
                    f"{type(images).__name__} of shape {getattr(images, 'shape', None)} "
                    f"and type {getattr(images, 'dtype', None)}",
                )
                batch.images = images
                yield batch

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
        if self.class_names is not None:
            is_wrong = (labels < 0) | (labels >= len(self.class_names))
            wrong = [place for place in np.flatnonzero(is_wrong) if place not in bad]
            if wrong:
                raise ValueError(
                    f"Labels must lie in [0, {len(self.class_names)}), the number of class names. "
                    f"Received: label {labels[wrong[0]]} of {printable(batch.name(wrong[0]))}"
                )
        labels = labels.astype("int32")
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
                f"Received: {self._num_bad} bad images; {first_of(self.bad_images.items())}"
            )
        for note, noted in self._noted.items():
            places = [place for place in np.flatnonzero(batch.notes & note) if place not in bad]
            noted[0] += len(places)
            noted[1] += [(batch.name(place),) for place in places[: NUM_NAMED - len(noted[1])]]

    def _end_epoch(self):
        """Warn of what is new since the last warning."""
        for note, (count, names) in self._noted.items():
            if count and note not in self._reported_notes:
                text = NOTES[note].format(count=count, size="{}x{}".format(*self.image_shape[:2]))
                warnings.warn(f"{text}: {first_of(names, count)}", stacklevel=4)
                self._reported_notes.add(note)
        if len(self.bad_images) > self._num_reported:
            warnings.warn(
                f"{len(self.bad_images)} images can't be used and were left out: {first_of(self.bad_images.items())} "
                "(`bad_images` has all of them)",
                stacklevel=4,
            )
        self._num_reported = len(self.bad_images)

    def __getitem__(self, index):
        """Keras counts on every batch, also on one without good images."""
        if self._is_read_in_order and not self.drop_remainder and not self.is_repeated:
            return self._next_part()
        batch = super().__getitem__(index)
        if batch is not None:
            return batch
        require(
            self._last_good is not None,
            "The first batch has no image that can be used, so that nothing can stand in its place.",
            first_of(self.bad_images.items()),
        )
        if self.drop_remainder:
            return self._last_good
        return keras.tree.map_structure(lambda values: values[:1], self._last_good)

    def _next_part(self):
        """The next batch for Keras: all images of an epoch, none twice, in as many batches as it has."""
        if not self._parts:
            batch, self._held, num_parts = self._held, None, 1
            if batch is None:
                batch = self.read_batch()
            while self._batch != 0 and self._held is None:  # not at the end of the epoch
                following = self.read_batch()
                if batch is None or following is None:
                    batch, num_parts = following if batch is None else batch, num_parts + 1
                else:
                    self._held = following
            require(
                batch is not None and len(keras.tree.flatten(batch)[0]) >= num_parts,
                "Batches of bad images alone have too few good ones around them to share out.",
                first_of(self.bad_images.items()),
            )
            split = [np.array_split(values, num_parts) for values in keras.tree.flatten(batch)]
            self._parts = [keras.tree.pack_sequence_as(batch, values) for values in zip(*split, strict=True)]
        return self._parts.pop(0)
