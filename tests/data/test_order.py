import numpy as np
import pytest

from keras_umd.data.order import Order

pytestmark = pytest.mark.host


def orders(num_shards, **overrides):
    settings = {"num_records": 103, "batch_size": 5, "shuffle": True, "drop_remainder": False, **overrides}
    return [Order(**settings, shard_index=index, num_shards=num_shards) for index in range(num_shards)]


@pytest.mark.parametrize("num_shards", [1, 2, 4])
def test_hosts_cover_the_set_once_an_epoch(num_shards):
    for epoch in (0, 7):
        records = np.concatenate([order.records(epoch) for order in orders(num_shards)])
        assert sorted(records) == list(range(103))


@pytest.mark.parametrize("num_shards", [1, 2, 4])
def test_full_batches_are_as_many_on_each_host_and_hold_no_image_twice(num_shards):
    shards = orders(num_shards, drop_remainder=True)
    records = [order.records(3) for order in shards]
    assert {len(r) for r in records} == {103 // num_shards // 5 * 5}
    assert len(np.unique(np.concatenate(records))) == sum(map(len, records))


def test_each_epoch_has_an_order_of_its_own_which_the_seed_decides():
    (order,), (same,), (other,) = orders(1), orders(1), orders(1, seed=1)
    np.testing.assert_array_equal(order.records(2), same.records(2))
    assert not np.array_equal(order.records(2), order.records(3))
    assert not np.array_equal(order.records(2), other.records(2))
    np.testing.assert_array_equal(order.draws(2, 1, 5), same.draws(2, 1, 5))
    assert not np.array_equal(order.draws(2, 1, 5), order.draws(2, 2, 5))


def test_hosts_draw_other_crops():
    first, second = orders(2)
    assert not np.array_equal(first.draws(0, 0, 5), second.draws(0, 0, 5))


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"batch_size": 0}, "batch_size=0"),
        ({"num_records": 4, "drop_remainder": True}, "4 images, batch_size=5"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_wrong_arguments_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        orders(1, **wrong)
    with pytest.raises(ValueError, match="shard_index=2"):
        Order(10, 1, False, False, shard_index=2, num_shards=2)
