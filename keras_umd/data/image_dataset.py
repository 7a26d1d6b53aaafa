"""A data set that `fit` takes on every backend, and that knows where it is."""

import copy
import json
import threading
import warnings

import keras
import numpy as np

NUM_NAMED = 3  # bad images in a message


class ImageDataset(keras.utils.PyDataset):
    """Batches of uint8 images, with labels or without; made by the functions of `keras_umd.data`.

    `fit`, `evaluate` and `predict` take it on every backend, and `for batch in dataset` gives one epoch. Batches come
    in the order of the data set's own seed, another one each epoch; `fit`'s `shuffle` changes nothing. Batch b of epoch
    e is made of the same images in every run, cropped in the same way, so `get_state` and `set_state` go on in the
    middle of an epoch; with `keras_umd.callbacks.resumable(..., dataset=dataset)` a stopped `fit` does.

    For `steps_per_epoch`, `repeat()` gives it without end. Keras reads ahead, so where a `fit` that was stopped leaves
    the data set is not settled; `go_to` settles it.

    The place of an image that can't be read is taken by another one of its batch, where all batches are full (in
    training); else the batch is shorter. Keras counts on all batches: in the place of one without any good image it
    gets images of the batch before. At the end of an epoch a warning counts the bad images and names the first.

    Attributes:
        num_images: Integer, of this host, in an epoch.
        image_shape: Tuple `(height, width, channels)`.
        class_names: List of strings, or `None` without labels.
        batch_size: Integer.
        bad_images: Dictionary from the names of images that couldn't be read to the reasons.
        left_out: List of the places of such images in the batch that was read last.

    Args:
        loader: Object with `batches(epoch, start)` and `num_batches`.
        num_images, image_shape, class_names, batch_size: see above.
        training: Bool. Whether the images are cropped at random.
        drop_remainder: Bool. Whether all batches are full.
        identity: Dictionary of JSON values that tells data sets apart.
        on_error: `"skip"`, or `"raise"` to stop at the first image that can't be read.
        max_bad_share: Float in [0, 1]. With more bad images than this share of an epoch, it stops all the same.
    """

    dtype = "uint8"
    device_layer = None  # what the training step applies to a batch first; see `PreparedDataset`

    def __init__(
        self,
        loader,
        num_images,
        image_shape,
        class_names,
        batch_size,
        training,
        drop_remainder,
        identity,
        on_error="skip",
        max_bad_share=0.01,
    ):
        super().__init__()
        self.loader = loader
        self.num_images = num_images
        self.image_shape = tuple(image_shape)
        self.class_names = class_names
        self.batch_size = batch_size
        self.training = training
        self.drop_remainder = drop_remainder
        identity = {**identity, "num_images": num_images, "batch_size": batch_size, "training": training}
        self.identity = json.loads(json.dumps(identity, default=int))  # what a saved state is compared with
        self.on_error = on_error
        self.max_bad_share = max_bad_share
        self.is_repeated = False
        self._begin()

    def _begin(self):
        self.bad_images = {}
        self.left_out = []
        self._num_reported = 0  # of the bad images
        self._are_small_reported = False
        self._num_bad, self._num_small, self._first_small = 0, 0, []  # of this epoch, since it was begun to be read
        self._last_good = None  # the last batch
        self._lock = threading.Lock()  # TensorFlow reads ahead in a thread, which outlives a `fit` that is stopped
        self._epoch, self._batch = self._start = 0, 0
        self._stream = None
        self._is_read_in_order = False

    def __len__(self):
        """Batches in an epoch."""
        return self.loader.num_batches

    @property
    def num_batches(self):
        """The batches that are left of an epoch; what Keras asks for each time that it begins to read.

        `None` where they never end.
        """
        # Keras has only looked at the first batch, or was stopped.
        if self._is_read_in_order and (self._epoch, self._batch) != self._start:
            self.go_to(*self._start)
            self._is_read_in_order = True
        if self.is_repeated:
            return None
        return len(self) - (self._batch if self._is_read_in_order else 0)

    def __repr__(self):
        classes = "no labels" if self.class_names is None else f"{len(self.class_names)} classes"
        return f"<ImageDataset: {self.num_images} images {self.image_shape}, {classes}, {len(self)} batches an epoch>"

    def repeat(self):
        """The same images from the beginning and without end, for `fit(..., steps_per_epoch=..., shuffle=False)`.

        Keras' epochs may then be of any length; those of the data set follow one another. `for batch in dataset` never
        ends.
        """
        repeated = copy.copy(self)
        repeated.is_repeated = True
        repeated._begin()
        return repeated

    # Where it is

    def get_state(self):
        """The place of the next batch, as JSON values.

        That is the next to be read. Keras reads ahead: while `fit` runs, `keras_umd.callbacks.BackupAndRestore` knows
        the next to be trained on.
        """
        return {"epoch": self._epoch, "batch": self._batch, "dataset": self.identity}

    def state_after(self, state, num_batches):
        """The state some batches later."""
        epoch, batch = divmod(state["batch"] + num_batches, len(self))
        return {**state, "epoch": state["epoch"] + epoch, "batch": batch}

    def set_state(self, state):
        """Go on at a place that `get_state` told, also in another process.

        Raises:
            ValueError: if the state is of a data set with other images, batches or seed.
        """
        differing = {name for name, value in self.identity.items() if state["dataset"].get(name) != value}
        if differing:
            theirs, own = ({name: d.get(name) for name in differing} for d in (state["dataset"], self.identity))
            raise ValueError(
                f"The state is of another data set. This one has {own}. Received: a state of one with {theirs}"
            )
        self.go_to(state["epoch"], state["batch"])

    def go_to(self, epoch, batch=0):
        """Make batch `batch` of epoch `epoch` the next one."""
        integers = all(isinstance(number, (int, np.integer)) for number in (epoch, batch))
        if not integers or epoch < 0 or not 0 <= batch < len(self):
            raise ValueError(
                f"`epoch` must be an integer of at least 0, and `batch` one of at least 0 and below {len(self)}. "
                f"Received: epoch={epoch}, batch={batch}"
            )
        with self._lock:
            self._close()
            self._epoch, self._batch = self._start = int(epoch), int(batch)
            self._is_read_in_order = False

    def rewind(self):
        """Go back to where the last `go_to`, `set_state` or epoch has begun: where Keras begins to read."""
        self.go_to(*self._start)

    # Reading

    def __iter__(self):
        """The rest of the epoch, or a whole one at its beginning."""
        while self.is_repeated:
            yield from self._rest_of_epoch()
        yield from self._rest_of_epoch()

    def _rest_of_epoch(self):
        for _ in range(self._batch, len(self)):
            batch = self.read_batch()
            if batch is not None:
                yield batch

    def __getitem__(self, index):
        """Within `fit` the next batch, whatever the index; else batch `index` of the epoch."""
        if self._is_read_in_order:
            return self._or_last_good(self.read_batch())
        if not 0 <= index < len(self):
            raise IndexError(f"The data set has {len(self)} batches. Received: index={index}")
        stream = self._open(index)
        try:
            return self._or_last_good(self._checked(next(stream)))
        finally:
            stream.close()

    def sample_batch(self):
        """A black image in a batch, with the last label: what a model can be checked against without reading."""
        images = np.zeros((1, *self.image_shape), self.dtype)
        return images if self.class_names is None else (images, np.asarray([len(self.class_names) - 1], "int32"))

    def on_epoch_begin(self):
        self._is_read_in_order = True

    def on_epoch_end(self):
        # With `steps_per_epoch`, Keras' epoch ends in the middle of ours, and the next goes on there.
        self._is_read_in_order = self.is_repeated or self._batch != 0
        if self.is_repeated:
            self._start = self._epoch, self._batch

    def read_batch(self):
        """The next batch, also from one epoch to the next; `None` for one without any good image."""
        with self._lock:
            return self._read_next()

    def _read_next(self):
        if self._stream is None:
            self._stream = self._open(self._batch)
        try:
            batch = self._checked(next(self._stream))
        except BaseException:  # what is read next is this batch, not the one behind it
            self._close()
            self._is_read_in_order = False
            raise
        self._batch += 1
        if self._batch == len(self):
            self._close()
            self._report()
            self._epoch, self._batch = self._epoch + 1, 0
            if not self.is_repeated:
                self._start = self._epoch, 0
        return batch

    def _close(self):
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _open(self, batch):
        self._num_bad, self._num_small, self._first_small = 0, 0, []
        return self.loader.batches(self._epoch, batch)

    # Bad images

    def _checked(self, batch):
        """The batch as `fit` wants it, without its bad images; `None` if it has no others."""
        bad = self.left_out = [place for place, reason in enumerate(batch.reasons) if reason]
        for place in bad:
            name, reason = batch.name(place), batch.reasons[place]
            if self.on_error == "raise":
                raise ValueError(
                    "An image can't be used; on_error='skip' would leave it out. "
                    f"Received: {_printable(name)}: {reason}"
                )
            self.bad_images[name] = reason
        small = [place for place in np.flatnonzero(batch.is_small) if place not in bad]
        self._num_small += len(small)
        self._first_small += [(batch.name(place),) for place in small[: NUM_NAMED - len(self._first_small)]]
        self._num_bad += len(bad)
        if self._num_bad > self.max_bad_share * self.num_images:
            raise ValueError(
                f"More than max_bad_share={self.max_bad_share} of the {self.num_images} images can't be used. "
                f"Received: {self._num_bad} bad images; {_first(self.bad_images.items())}"
            )
        images, labels = batch.images, batch.labels
        if self.class_names is not None and not 0 <= labels.min() <= labels.max() < len(self.class_names):
            raise ValueError(
                f"Labels must lie in [0, {len(self.class_names)}), the number of class names. "
                f"Received: labels from {labels.min()} to {labels.max()}"
            )
        if bad:
            good = np.setdiff1d(np.arange(len(images)), bad)
            if not len(good):
                return None
            if self.drop_remainder:
                chosen = np.arange(len(images))
                chosen[bad] = np.resize(good, len(bad))
            else:
                chosen = good
            images, labels = images[chosen], labels[chosen]
        self._last_good = images if self.class_names is None else (images, labels)
        return self._last_good

    def _or_last_good(self, batch):
        """Keras counts on every batch: instead of one without good images, images of the batch before."""
        if batch is not None:
            return batch
        if self._last_good is None:
            raise ValueError(
                "The first batch has no image that can be used, so that nothing can stand in its place. "
                f"Received: {_first(self.bad_images.items())}"
            )
        if self.drop_remainder:
            return self._last_good
        return keras.tree.map_structure(lambda values: values[:1], self._last_good)

    def _report(self):
        """Warn of what is new since the last epoch."""
        if self._num_small and not self._are_small_reported:
            warnings.warn(
                f"{self._num_small} images are smaller than {self.image_shape[0]}x{self.image_shape[1]} pixels "
                f"and were enlarged: {_first(self._first_small, self._num_small)}",
                stacklevel=3,
            )
            self._are_small_reported = True
        if len(self.bad_images) > self._num_reported:
            warnings.warn(
                f"{len(self.bad_images)} images can't be used and were left out: "
                f"{_first(self.bad_images.items())} (`bad_images` has all of them)",
                stacklevel=3,
            )
        self._num_reported = len(self.bad_images)

    # All at once

    def as_arrays(self, verbose=True):
        """All images of an epoch in memory, for `from_arrays` and `on_device`.

        Returns:
            uint8 array `(num_images, height, width, channels)` (float32, of latents), and an int32 array of labels or
            `None`.
        """
        if self.training:
            raise ValueError("Training data differ by epoch; take training=False. Received: training=True")
        self.go_to(self._epoch)
        images = np.empty((self.num_images, *self.image_shape), self.dtype)
        labels = np.empty(self.num_images, "int32")
        progress = keras.utils.Progbar(self.num_images, unit_name="image") if verbose else None
        done = 0
        for batch in self._rest_of_epoch():
            batch = batch if self.class_names is not None else (batch, -1)
            stop = done + len(batch[0])
            images[done:stop], labels[done:stop] = batch
            done = stop
            if progress is not None:
                progress.update(done, finalize=done == self.num_images)
        return images[:done], labels[:done] if self.class_names is not None else None


class PreparedDataset(ImageDataset):
    """An `ImageDataset` whose loader's batches are handed on as they are.

    With a `device_layer`, a Keras layer, they are dictionaries that it turns into images and labels (or `None`), inside
    of the steps of `UMD.fit` and `UMD.evaluate`.
    """

    def _checked(self, batch):
        return batch


def _first(items, num_items=None):
    """The first names, with the reasons where there are any, and dots if `num_items` are more."""
    items = sorted(items)
    num_items = len(items) if num_items is None else num_items
    named = [
        "".join((_printable(name), *(f" ({reason})" for reason in reasons))) for name, *reasons in items[:NUM_NAMED]
    ]
    return ", ".join(named) + (", ..." if num_items > len(named) else "")


def _printable(name):
    return str(name).encode(errors="backslashreplace").decode()
