"""Reading ahead."""

import collections
import itertools
import sys
from concurrent.futures import ThreadPoolExecutor

BATCHES_AHEAD = 2


def prefetched(start, numbers, workers=1):
    """Yields results in order, while threads are making those that come next.

    Args:
        start: Function from a pool of threads and a number to a result that is to be filled, and the futures that fill
            it.
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
        if not sys.is_finalizing():  # nothing waits any more then, and parts of Python are gone
            pool.shutdown(wait=False, cancel_futures=True)
