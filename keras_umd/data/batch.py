"""A batch as loaders make it, and the threads that make the next ones."""

import collections
import dataclasses
import itertools
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

BATCHES_AHEAD = 2


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


def prefetched(start, numbers, workers=1):
    """Yields results in order, while threads make the next ones.

    Args:
        start: Function from a pool of threads and a number to a result and the futures that fill it.
        numbers: Iterable of integers.
        workers: Integer, the number of threads.
    """
    numbers = iter(numbers)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="data")
    try:
        waiting = collections.deque(start(pool, number) for number in itertools.islice(numbers, BATCHES_AHEAD))
        while waiting:
            result, futures = waiting.popleft()
            waiting.extend(start(pool, number) for number in itertools.islice(numbers, 1))
            for future in futures:
                future.result()
            yield result
    finally:
        if not sys.is_finalizing():  # at the end of Python, `shutdown` itself may be gone
            pool.shutdown(wait=False, cancel_futures=True)
