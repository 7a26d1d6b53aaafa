"""Which images of a batch belong to which view."""

import functools

import numpy as np
from keras import ops


class BatchSplit:
    """Splits a batch into views whose members alternate as evenly as they can.

    Of a batch of B images, n = round(B * share) belong to the first view, at least 1 and at most B - 1: image i does
    when floor((i + 1) n / B) > floor(i n / B). The other images are split by the same rule among the other views. So a
    batch sharded over devices stays balanced, and where the pattern's period divides each device's share, nothing
    moves between devices.

    Args:
        batch_size: Integer, or a scalar tensor where TensorFlow traces a batch of unknown size.
        shares: List of floats that add up to 1, one for each view.
    """

    def __init__(self, batch_size, shares):
        self._batch_size = batch_size
        self._is_static = isinstance(batch_size, int)
        self.counts = _counts(batch_size, shares, self._is_static)
        self.is_member = _members(batch_size, self.counts, self._is_static)  # a bool array (batch,) for each view
        if self._is_static:
            self._period = _period(self.is_member)
            self._rows = [np.flatnonzero(is_member[: self._period]) for is_member in self.is_member]
        else:
            self._rows = _dynamic_rows(batch_size, self.counts)

    def has(self, view):
        """Whether the view with this index gets an image; `True` where the batch's size isn't known."""
        return not self._is_static or self.counts[view] > 0

    def take(self, x, view):
        """The rows of `x`, `(batch, ...)`, that belong to the view with this index."""
        if len(self.counts) == 1:
            return x
        if not self._is_static:
            return ops.take(x, self._rows[view], axis=0)
        # Periods to the front: taking along the second axis leaves a sharded first axis where it is.
        x = ops.reshape(x, (self._batch_size // self._period, self._period, *x.shape[1:]))
        x = ops.take(x, self._rows[view], axis=1)
        return ops.reshape(x, (-1, *x.shape[2:]))


def split_batch(batch_size, shares):
    """The `BatchSplit` of a batch; of a size that is known, made once and not in every step of an eager training."""
    return _known_split(batch_size, shares) if isinstance(batch_size, int) else BatchSplit(batch_size, shares)


_known_split = functools.lru_cache(maxsize=32)(BatchSplit)


def _counts(batch_size, shares, is_static):
    """The number of images of each view."""
    counts, left = [], batch_size
    for i, share in enumerate(shares[:-1]):
        share = share / sum(shares[i:]) if i else share
        if is_static:
            low, high = min(1, left - 1), max(1, left - 1)
            count = max(min(max(round(left * share), low), high), 0)
        else:
            low, high = ops.minimum(1, left - 1), ops.maximum(1, left - 1)
            count = ops.cast(ops.round(ops.cast(left, "float32") * share), "int32")
            count = ops.maximum(ops.clip(count, low, high), 0)
        counts.append(count)
        left = left - count
    return [*counts, left]


def _members(batch_size, counts, is_static):
    index = np.arange(batch_size) if is_static else ops.arange(batch_size)
    is_left, size, members = index >= 0, batch_size, []
    for count in counts[:-1]:
        divisor = max(size, 1) if is_static else ops.maximum(size, 1)
        before, after = index * count // divisor, (index + 1) * count // divisor
        members.append(is_left & (after > before))
        is_left = is_left & (after == before)
        index, size = index - after, size - count  # the image's place among those that are left
    return [*members, is_left]


def _period(members):
    """After how many images the pattern repeats, a divisor of the batch's size."""
    batch_size = len(members[0])
    pattern = np.argmax(members, axis=0)
    divisors = (number for number in range(1, batch_size) if batch_size % number == 0)
    periods = (n for n in divisors if np.array_equal(pattern, np.tile(pattern[:n], batch_size // n)))
    return next(periods, max(batch_size, 1))


def _dynamic_rows(batch_size, counts):
    """The images at which the counts of the rule step up, in closed form: shapes stay simple for XLA."""
    rows, left, size = [], None, batch_size
    for count in counts[:-1]:
        chosen = -(-(ops.arange(count) + 1) * size // count) - 1
        others = ops.arange(size - count) * size // (size - count)
        rows.append(chosen if left is None else ops.take(left, chosen))
        left = others if left is None else ops.take(left, others)
        size = size - count
    return [*rows, left]
