import keras
import numpy as np
import pytest

from keras_umd.layers import TransformerBlock
from tests.conftest import array

TOKENS = np.random.default_rng(0).normal(size=(2, 5, 8)).astype("float32")
CONDITION = np.random.default_rng(1).normal(size=(2, 8)).astype("float32")


def test_an_adaln_block_starts_as_the_identity():
    np.testing.assert_array_equal(array(TransformerBlock(num_heads=2)(TOKENS, CONDITION)), TOKENS)


def test_one_condition_serves_a_whole_batch():
    for conditioning in ("adaln_zero", "token"):
        block = TransformerBlock(num_heads=2, conditioning=conditioning)
        block.build(TOKENS.shape)
        for variable in block.trainable_variables:
            variable.assign(array(variable) + 0.1)
        together = array(block(TOKENS, CONDITION[:1]))
        np.testing.assert_allclose(together, array(block(TOKENS, CONDITION[[0, 0]])), atol=1e-5)
        assert np.abs(together - array(block(TOKENS, CONDITION[[1, 1]]))).max() > 1e-4


def test_blocks_are_equivariant_to_the_order_of_tokens():
    """The decoder relies on it: patches may come in any order."""
    block = TransformerBlock(num_heads=2, conditioning="token")
    order = [3, 1, 4, 0, 2]
    np.testing.assert_allclose(
        array(block(TOKENS[:, order], CONDITION)), array(block(TOKENS, CONDITION))[:, order], atol=1e-5
    )


def test_lora_trains_a_block():
    block = TransformerBlock(num_heads=2)
    block.build(TOKENS.shape)
    block.attention.query.enable_lora(rank=2)
    assert [v.name for v in block.attention.query.trainable_variables] == ["bias", "lora_kernel_a", "lora_kernel_b"]
    assert block(TOKENS, CONDITION).shape == TOKENS.shape


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="conditioning='film'"):
        TransformerBlock(2, conditioning="film")
    with pytest.raises(ValueError, match="hidden_dim=8, num_heads=3"):
        TransformerBlock(3).build(TOKENS.shape)
    with pytest.raises(ValueError, match="needs a `condition`"):
        TransformerBlock(2)(keras.ops.convert_to_tensor(TOKENS))
