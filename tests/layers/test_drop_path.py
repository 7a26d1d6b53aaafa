import keras
import numpy as np
import pytest

from keras_umd.layers.drop_path import DropPath, drop_paths
from keras_umd.layers.stack import BlockStack
from tests.conftest import array


def test_a_branch_is_left_out_for_whole_images_in_training_alone():
    layer = DropPath(0.25, seed=0)
    branch = keras.ops.convert_to_tensor(np.random.default_rng(0).normal(size=(400, 3, 2)).astype("float32"))
    np.testing.assert_array_equal(array(layer(branch)), array(branch))
    dropped = array(layer(branch, training=True)) / array(branch)
    np.testing.assert_allclose(dropped, np.broadcast_to(dropped[:, :1, :1], dropped.shape), rtol=1e-5)
    values = dropped[:, 0, 0]
    is_kept = values > 0
    np.testing.assert_allclose(values[is_kept], 1 / 0.75, rtol=1e-5)
    assert 0.65 < is_kept.mean() < 0.85
    assert np.any(array(layer(branch, training=True)) != array(layer(branch, training=True)))


@pytest.mark.host
def test_rates_grow_with_depth_and_the_first_block_has_none():
    stack = BlockStack(3, 2)
    drop_paths(stack, 0.2)
    assert stack[0].drop_path is None
    assert [block.drop_path.rate for block in stack[1:]] == [0.1, 0.2]
