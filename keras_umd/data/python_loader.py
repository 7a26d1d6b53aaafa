"""Batches by a pool of threads, without TensorFlow."""

import os

import numpy as np

from keras_umd.data.batch import Batch, prefetched
from keras_umd.data.decoding import BadImage, decode_and_crop

CHUNK = 16  # images that a thread takes at a time


class PythonLoader:
    """Reads, decodes and crops records in threads; decoding and resizing release the GIL.

    Args:
        source: Object with `read(record)`, which returns the data for `decode_and_crop` and the label or `None`; and
            `name(record)`, for messages.
        order: `Order`.
        crop: `Crop`.
        workers: Integer or `None`, the number of threads. Defaults to one for each core.
    """

    def __init__(self, source, order, crop, workers=None):
        self.source = source
        self.order = order
        self.crop = crop
        self.workers = workers or os.cpu_count()
        self.num_batches = order.num_batches

    def batches(self, epoch, start):
        """The batches of an epoch, from batch `start` on."""
        records = self.order.records(epoch)

        def submit(pool, number):
            return self._submit(pool, self.order.in_batch(records, number), epoch, number)

        return prefetched(submit, range(start, self.num_batches), self.workers)

    def _submit(self, pool, records, epoch, number):
        draws = self.order.draws(epoch, number, len(records))
        batch = Batch(
            images=np.empty((len(records), *self.crop.image_shape), "uint8"),
            labels=np.zeros(len(records), "int32"),
            is_small=np.zeros(len(records), bool),
            reasons=[""] * len(records),
            name=lambda place: self.source.name(records[place]),
        )
        chunks = (range(first, min(first + CHUNK, len(records))) for first in range(0, len(records), CHUNK))
        return batch, [pool.submit(self._fill, batch, places, records, draws) for places in chunks]

    def _fill(self, batch, places, records, draws):
        for place in places:
            try:
                data, label = self.source.read(records[place])
                batch.images[place], batch.is_small[place] = decode_and_crop(data, self.crop, draws[place])
                batch.labels[place] = -1 if label is None else label
            except (BadImage, OSError) as error:
                batch.reasons[place] = str(error)
