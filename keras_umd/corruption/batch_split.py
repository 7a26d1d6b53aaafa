"""Which images of a batch stay clean."""

import math

import numpy as np
from keras import ops


class BatchSplit:
    """Splits a batch into a clean and a noisy part whose members alternate as evenly as they can.

    n = round(batch_size * clean_ratio) images stay clean, at least 1 and at most all but 1 where both parts exist.
    Image i is clean when floor((i + 1) n / B) > floor(i n / B). So a batch sharded over devices stays balanced, and
    where the pattern's period divides each device's share, nothing moves between devices.

    Args:
        batch_size: Integer, or a scalar tensor where TensorFlow traces a batch of unknown size.
        clean_ratio: Float in [0, 1].
    """

    def __init__(self, batch_size, clean_ratio):
        self._is_static = isinstance(batch_size, int)
        self._batch_size = batch_size
        num_clean = self._num_clean(clean_ratio)
        if self._is_static:
            period = batch_size // math.gcd(num_clean, batch_size)
            self.is_clean = _is_clean(np.arange(batch_size), num_clean, batch_size)
            self._period = period
            self._clean_rows = np.flatnonzero(self.is_clean[:period])
            self._noisy_rows = np.flatnonzero(~self.is_clean[:period])
            self.has_clean, self.has_noisy = num_clean > 0, num_clean < batch_size
        else:
            num_noisy = batch_size - num_clean
            self.is_clean = _is_clean(ops.arange(batch_size), num_clean, batch_size)
            # The images where the counts of the rule above step up, in closed form: shapes stay simple for XLA.
            self._clean_rows = -(-(ops.arange(num_clean) + 1) * batch_size // num_clean) - 1
            self._noisy_rows = ops.arange(num_noisy) * batch_size // num_noisy
            self.has_clean, self.has_noisy = clean_ratio > 0, clean_ratio < 1

    def clean(self, x):
        """The rows of `x`, `(batch, ...)`, that belong to clean images."""
        return self._take(x, self._clean_rows)

    def noisy(self, x):
        """The rows of `x`, `(batch, ...)`, that belong to noisy images."""
        return self._take(x, self._noisy_rows)

    def _num_clean(self, clean_ratio):
        if clean_ratio in (0, 1):
            return self._batch_size * int(clean_ratio)
        if self._is_static:
            low, high = min(1, self._batch_size - 1), max(1, self._batch_size - 1)
            return min(max(round(self._batch_size * clean_ratio), low), high)
        low, high = ops.minimum(1, self._batch_size - 1), ops.maximum(1, self._batch_size - 1)
        num_clean = ops.cast(ops.round(ops.cast(self._batch_size, "float32") * clean_ratio), "int32")
        return ops.clip(num_clean, low, high)

    def _take(self, x, rows):
        if not self._is_static:
            return ops.take(x, rows, axis=0)
        # Periods to the front: taking along the second axis leaves a sharded first axis where it is.
        x = ops.reshape(x, (self._batch_size // self._period, self._period, *x.shape[1:]))
        x = ops.take(x, rows, axis=1)
        return ops.reshape(x, (-1, *x.shape[2:]))


def _is_clean(index, num_clean, batch_size):
    return (index + 1) * num_clean // batch_size > index * num_clean // batch_size
