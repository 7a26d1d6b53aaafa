"""Prefetching by threads."""

import collections
import itertools
import sys
from concurrent.futures import ThreadPoolExecutor

BATCHES_AHEAD = 2


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
