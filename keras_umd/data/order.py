"""The order of the records in an epoch: a pure function of seed and epoch, so that a run can resume anywhere."""

import dataclasses

import numpy as np

from keras_umd.data.crops import NUM_DRAWS
from keras_umd.utils.checks import check_bools, check_integers, check_positive_integers, is_between, require


@dataclasses.dataclass(frozen=True)
class Order:
    """The records of one host, epoch by epoch: for a loader of one's own behind `Dataset`, as in `examples/tiles.py`.

    Example:

    >>> order = data.Order(6, batch_size=2, shuffle=True, drop_remainder=True, seed=1)
    >>> [len(records) for records, draws in order.batches(epoch=0, start=1)]
    [2, 2]

    Args:
        num_records: Integer, of all hosts together.
        batch_size: Integer, of this host.
        shuffle: Bool.
        drop_remainder: Bool. Whether all batches are full; then all hosts have the same number of them, too.
        seed: Integer.
        shard_index, num_shards: Integers. This host has every `num_shards`-th record, from the `shard_index`-th on.
    """

    num_records: int
    batch_size: int
    shuffle: bool
    drop_remainder: bool
    seed: int = 0
    shard_index: int = 0
    num_shards: int = 1

    def __post_init__(self):
        check_integers(0, 2**62, num_records=self.num_records)
        check_positive_integers(batch_size=self.batch_size, num_shards=self.num_shards)
        check_bools(shuffle=self.shuffle, drop_remainder=self.drop_remainder)
        require(
            is_between(self.seed, 0, 2**31 - 1),
            "`seed` must be an integer of at least 0 and below 2**31.",
            f"seed={self.seed}",
        )
        require(
            is_between(self.shard_index, 0, self.num_shards - 1),
            f"`shard_index` must be an integer of at least 0 and below num_shards={self.num_shards}.",
            f"shard_index={self.shard_index}",
        )
        for name in ("num_records", "batch_size", "seed", "shard_index", "num_shards"):  # of NumPy, they would overflow
            object.__setattr__(self, name, int(getattr(self, name)))
        require(
            self.num_batches,
            "There must be images, `num_records`, for at least one batch on each host.",
            f"{self.num_records} images, batch_size={self.batch_size}, num_shards={self.num_shards}",
        )

    @property
    def num_own_records(self):
        """The records of this host in an epoch, before a remainder is dropped."""
        if self.drop_remainder:
            return self.num_records // self.num_shards
        return len(range(self.shard_index, self.num_records, self.num_shards))

    @property
    def num_batches(self):
        if self.drop_remainder:
            return self.num_own_records // self.batch_size
        return -(-self.num_own_records // self.batch_size)

    def records(self, epoch):
        """The records of this host's batches in an epoch, an int array."""
        if self.shuffle:
            order = np.random.default_rng([self.seed, epoch]).permutation(self.num_records)
        else:
            order = np.arange(self.num_records)
        return order[self.shard_index :: self.num_shards][: self.num_batches * self.batch_size]

    def batches(self, epoch, start):
        """Yields the records of each batch of an epoch, from batch `start` on, and their draws."""
        records = self.records(epoch)
        for batch in range(start, self.num_batches):
            own = records[batch * self.batch_size : (batch + 1) * self.batch_size]
            yield own, self.draws(epoch, batch, len(own))

    def draws(self, epoch, batch, size):
        """Uniform random numbers for crops and flips, `(size, NUM_DRAWS)`, different ones on every host."""
        rng = np.random.default_rng([self.seed, epoch, batch, self.shard_index])
        return rng.random((size, NUM_DRAWS), dtype="float32")
