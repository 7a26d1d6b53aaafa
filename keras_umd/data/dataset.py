"""The base of this package's data sets: what models and callbacks ask of them, and a place that can be saved."""

import contextlib
import copy
import json
import threading

import keras
import numpy as np

from keras_umd.utils.checks import (
    MAX_COUNT,
    check_bools,
    check_instances,
    check_names,
    check_one_of,
    is_between,
    is_list,
    is_size,
    require,
)


class Dataset(keras.utils.PyDataset):
    """Batches from a loader, in the order of the data set's own seed, from any place on.

    `fit`, `evaluate` and `predict` take it on every backend, and `for batch in dataset` gives one epoch. Batch b of
    epoch e is made of the same images in every run, so `get_state` and `set_state` go on in the middle of an epoch.
    Keras' `shuffle` changes nothing.

    A model may rely on `device_layer` and `sample_batch()`; callbacks and evaluations on `go_to`, `rewind`,
    `get_state`, `state_after`, `set_state`, `training`, `is_repeated`, `identity`, `class_names` and `num_images`.

    Example:

    >>> dataset = data.from_folder("photos", image_size=8, batch_size=2)
    >>> len(dataset), dataset.image_shape, dataset.class_names
    (3, (8, 8, 3), ['cat', 'dog'])
    >>> batches = dataset.repeat()                                # for `fit(..., steps_per_epoch=...)`

    Attributes:
        device_layer: Keras layer that the training step applies to a batch first, or `None`. With one, batches are
            dictionaries of tensors, which it turns into images and labels (or `None`) on the device.
        dtype: String, the type of the images.
        num_images: Integer, of this host, in an epoch.
        image_shape: Tuple `(height, width, channels)`.
        class_names: List of strings, or `None` without labels.
        batch_size: Integer.
        training: Bool. Whether the images of each epoch are other crops or samples.
        drop_remainder: Bool. Whether all batches are full.
        identity: Dictionary of JSON values that tells data sets apart; saved states are compared with it.
        is_repeated: Bool. See `repeat`.

    Args:
        loader: Object with `order`, an `Order`, and `batches(epoch, start)`, an iterator of batches in that order.
        image_shape, class_names, training, identity: see above; what follows from the order is added to `identity`.
        dtype: String. Defaults to `"uint8"`.
        device_layer: see above.
    """

    def __init__(
        self,
        loader,
        *,
        image_shape,
        class_names,
        training,
        identity,
        dtype="uint8",
        device_layer=None,
    ):
        super().__init__()
        is_loader = hasattr(loader, "order") and hasattr(loader, "batches")
        require(is_loader, "`loader` must be an object with an `order` and `batches`.", loader=loader)
        is_shape = is_list(image_shape) and len(image_shape) == 3 and all(map(is_size, image_shape))
        require(is_shape, "`image_shape` must be (height, width, channels).", image_shape=image_shape)
        check_names(optional=True, class_names=class_names)
        check_bools(training=training)
        check_instances(dict, "a dictionary of JSON values", identity=identity)
        check_one_of(("uint8", "float32", "float16", "bfloat16"), dtype=dtype)
        check_instances(keras.layers.Layer, "a Keras layer", optional=True, device_layer=device_layer)
        order = loader.order
        self.loader = loader
        self.num_images = order.num_own_records
        self.image_shape = tuple(image_shape)
        self.class_names = class_names
        self.batch_size = order.batch_size
        self.training = training
        self.drop_remainder = order.drop_remainder
        in_order = {
            name: getattr(order, name) for name in ("batch_size", "seed", "shuffle", "shard_index", "num_shards")
        }
        identity = {**identity, **in_order, "num_images": self.num_images, "training": training}
        self.identity = json.loads(json.dumps(identity, default=int))
        self.dtype = dtype
        self.device_layer = device_layer
        self.is_repeated = False
        self._begin()

    def _begin(self):
        self._lock = threading.Lock()  # TensorFlow reads ahead in a thread, which outlives a `fit` that is stopped
        self._epoch, self._batch = 0, 0  # of the batch to read next
        self._start = 0, 0  # where reading began
        self._stream = None  # the loader's batches from there on, while they are read
        self._is_read_in_order = False  # by Keras, which asks for batches by index

    def __len__(self):
        """Batches in an epoch."""
        return self.loader.order.num_batches

    def __repr__(self):
        classes = "no labels" if self.class_names is None else f"{len(self.class_names)} classes"
        return (
            f"<{type(self).__name__}: {self.num_images} images {self.image_shape}, {classes}, "
            f"{len(self)} batches an epoch>"
        )

    def copied(self):
        """The same data set, read from the beginning and on its own."""
        copied = copy.copy(self)
        copied._begin()
        return copied

    def repeat(self):
        """The same images from the beginning and without end, for `fit(..., steps_per_epoch=...)`.

        Keras' epochs may then be of any length; those of the data set follow one another. `for batch in dataset` never
        ends. Keras reads ahead, so a `fit` that was stopped leaves the data set at an unknown place: call `go_to`.
        """
        repeated = self.copied()
        repeated.is_repeated = True
        return repeated

    def sample_batch(self):
        """A black image in a batch, with the last label: a model can be checked against it without reading files."""
        images = np.zeros((1, *self.image_shape), self.dtype)
        return images if self.class_names is None else (images, np.asarray([len(self.class_names) - 1], "int32"))

    # The place in the data

    def get_state(self):
        """The place of the batch to read next, as JSON values.

        Keras reads ahead: while `fit` runs, `keras_umd.callbacks.BackupAndRestore` knows which batch is trained on
        next.
        """
        return {"epoch": self._epoch, "batch": self._batch, "dataset": self.identity}

    def state_after(self, state, num_batches):
        """The state `num_batches` batches after `state`."""
        epoch, batch = divmod(state["batch"] + num_batches, len(self))
        return {**state, "epoch": state["epoch"] + epoch, "batch": batch}

    def set_state(self, state):
        """Go on at the place of a state from `get_state`, also in another process.

        Raises:
            ValueError: if the state is of a data set with other images, batches or seed.
        """
        is_state = (
            isinstance(state, dict) and isinstance(state.get("dataset"), dict) and {"epoch", "batch"} <= set(state)
        )
        require(is_state, "`state` must be what `get_state` returned.", state=state)
        differing = {name for name, value in self.identity.items() if state["dataset"].get(name) != value}
        theirs, own = ({name: d.get(name) for name in differing} for d in (state["dataset"], self.identity))
        require(
            not differing,
            f"The state is of another data set. This one has {own}.",
            f"a state of one with {theirs}",
        )
        self.go_to(state["epoch"], state["batch"])

    def go_to(self, epoch, batch=0):
        """Make batch `batch` of epoch `epoch` the next one."""
        require(
            is_between(epoch, 0, MAX_COUNT) and is_between(batch, 0, len(self) - 1),
            f"`epoch` must be an integer of at least 0, and `batch` one of at least 0 and below {len(self)}.",
            f"epoch={epoch}, batch={batch}",
        )
        with self._lock:
            self._close()
            self._epoch, self._batch = self._start = int(epoch), int(batch)
            self._is_read_in_order = False

    def rewind(self):
        """Go back to where reading began: after the last `go_to`, `set_state` or end of an epoch."""
        self.go_to(*self._start)

    # Reading

    def __iter__(self):
        """The rest of the epoch, or a whole one at its beginning."""
        while True:
            for _ in range(self._batch, len(self)):
                if (batch := self.read_batch()) is not None:
                    yield batch
            if not self.is_repeated:
                return

    def read_batch(self):
        """The next batch, also from one epoch to the next; `None` for one without any image that can be used."""
        with self._lock:
            if self._stream is None:
                self._stream = self._open(self._batch)
            try:
                batch = self._prepared(next(self._stream))
            except BaseException:
                self._close()  # so that the batch that failed is read again, and not skipped
                self._is_read_in_order = False
                raise
            self._batch += 1
            if self._batch == len(self):
                self._close()
                self._end_epoch()
                self._epoch, self._batch = self._epoch + 1, 0
                self._start = self._start if self.is_repeated else (self._epoch, 0)
            return batch

    def _open(self, batch):
        """The loader's batches of the epoch, from `batch` on."""
        return self.loader.batches(self._epoch, batch)

    def _close(self):
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _prepared(self, batch):
        """A batch of the loader as Keras wants it, or `None`."""
        return batch

    def _end_epoch(self):
        """Called when all batches of an epoch have been read."""

    # Keras' protocol

    @property
    def num_batches(self):
        """The batches that are left of an epoch, or `None` where they never end.

        Keras asks for it each time before it begins to read.
        """
        # Keras peeked at batch 0, or an earlier `fit` stopped: rewind to where reading began.
        if self._is_read_in_order and (self._epoch, self._batch) != self._start:
            self.rewind()
            self._is_read_in_order = True
        return None if self.is_repeated else len(self) - (self._batch if self._is_read_in_order else 0)

    def __getitem__(self, index):
        """Within `fit` the next batch, whatever the index; else batch `index` of the epoch."""
        if self._is_read_in_order:
            return self.read_batch()
        if not 0 <= index < len(self):
            raise IndexError(f"The data set has {len(self)} batches. Received: index={index}")
        with contextlib.closing(self._open(index)) as stream:
            return self._prepared(next(stream))

    def on_epoch_begin(self):
        self._is_read_in_order = True

    def on_epoch_end(self):
        # With `steps_per_epoch`, Keras' epoch ends in the middle of ours, and the next goes on there.
        self._is_read_in_order = self.is_repeated or self._batch != 0
        if self.is_repeated:
            self._start = self._epoch, self._batch

    # All at once

    def as_arrays(self, verbose=True):
        """All images of an epoch in memory, for `from_arrays` and `on_device`.

        Returns:
            uint8 array `(num_images, height, width, channels)` (float32, of latents), and an int32 array of labels or
            `None`.
        """
        check_bools(verbose=verbose)
        require(not self.training, "Training data differ by epoch; take training=False.", "training=True")
        self.go_to(self._epoch)
        images = np.empty((self.num_images, *self.image_shape), self.dtype)
        labels = np.empty(self.num_images, "int32")
        progress = keras.utils.Progbar(self.num_images, verbose=int(bool(verbose)), unit_name="image")
        done = 0
        for _ in range(len(self)):
            if (batch := self.read_batch()) is not None:
                batch = batch if self.class_names is not None else (batch, -1)
                stop = done + len(batch[0])
                images[done:stop], labels[done:stop] = batch
                done = stop
                progress.update(done)
        return images[:done], labels[:done] if self.class_names is not None else None
