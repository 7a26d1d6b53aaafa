"""Batches by a pool of threads, without TensorFlow."""

import collections
import dataclasses
import itertools
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from keras_umd.data.decoding import BadImage, decode_and_crop

BATCHES_AHEAD = 2
CHUNK = 16  # images that a thread takes at a time


@dataclasses.dataclass
class Batch:
    """Images and labels in their places in the batch, and the reasons why some can't be used.

    Args:
        images: uint8 array `(size, height, width, channels)`.
        labels: int32 array `(size,)`.
        is_small: Bool array `(size,)`. Which images were enlarged.
        reasons: List of strings, empty for a good image.
        name: Function from a place in the batch to the name of the image, for messages.
    """

    images: np.ndarray
    labels: np.ndarray
    is_small: np.ndarray
    reasons: list
    name: Callable


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

    def batches(self, epoch, start):
        """The batches of an epoch, from batch `start` on."""
        return prefetched(self._submit, self.order.batches(epoch, start), self.workers)

    def _submit(self, pool, records, draws):
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


def prefetched(start, batches, workers=1):
    """Yields results in order, while threads make the next ones.

    Args:
        start: Function from a pool of threads, records and draws to a result and the futures that fill it.
        batches: Iterator of the records and draws of each result, as of `Order.batches`.
        workers: Integer, the number of threads.
    """
    pool = ThreadPoolExecutor(workers, thread_name_prefix="data")
    try:
        waiting = collections.deque(start(pool, *batch) for batch in itertools.islice(batches, BATCHES_AHEAD))
        while waiting:
            result, futures = waiting.popleft()
            waiting.extend(start(pool, *batch) for batch in itertools.islice(batches, 1))
            for future in futures:
                future.result()
            yield result
    finally:
        if not sys.is_finalizing():  # at the end of Python, `shutdown` itself may be gone
            pool.shutdown(wait=False, cancel_futures=True)
