import keras
import numpy as np
import pytest

from keras_umd.layers import TransformerBlock
from keras_umd.layers.norms import LayerNorm
from tests.conftest import array, trained_like

TOKENS = np.random.default_rng(0).normal(size=(2, 5, 8)).astype("float32")
CONDITION = np.random.default_rng(1).normal(size=(2, 8)).astype("float32")


def gradient(function, x):
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        return array(jax.jit(jax.grad(function))(x))
    x = keras.Variable(x)
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            value = function(x.value)
        return array(tape.gradient(value, x.value))
    function(x.value).backward()
    return array(x.value.grad)


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


@pytest.mark.parametrize("conditioning", ["adaln_zero", "token", None])
def test_only_the_last_tokens_may_be_computed(conditioning):
    block = TransformerBlock(num_heads=2, conditioning=conditioning)
    block.build(TOKENS.shape)
    trained_like(block)
    last = array(block(TOKENS, CONDITION, num_outputs=2))
    np.testing.assert_allclose(last, array(block(TOKENS, CONDITION))[:, -2:], atol=1e-5)


@pytest.mark.parametrize("is_adaptive", [False, True])
def test_layer_norm_and_its_gradient_equal_their_formulas(is_adaptive):
    norm = LayerNorm()
    norm.build(TOKENS.shape)
    gamma, beta, shift, scale, up = np.random.default_rng(3).normal(size=(5, 2, 1, 8)).astype("float32")
    norm.gamma.assign(gamma[0, 0])
    norm.beta.assign(beta[0, 0])
    adaptive = (shift, scale) if is_adaptive else ()

    def normalized(x):
        """In float64, from the definition."""
        y = (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-6)
        y = y * gamma[0, 0] + beta[0, 0]
        return y * (1 + scale) + shift if is_adaptive else y

    x = TOKENS.astype("float64")
    result = keras.ops.stop_gradient(norm(TOKENS, *adaptive))
    np.testing.assert_allclose(array(result), normalized(x), atol=1e-5)
    slopes = np.zeros_like(x)
    for place in np.ndindex(*x.shape):
        step = np.zeros_like(x)
        step[place] = 1e-6
        slopes[place] = ((normalized(x + step) - normalized(x - step)) * up).sum() / 2e-6
    actual = gradient(lambda x: keras.ops.sum(keras.ops.multiply(norm(x, *adaptive), up)), TOKENS)
    np.testing.assert_allclose(actual, slopes, atol=1e-4)


def test_layer_norm_of_half_precision_is_computed_in_float32():
    norm = LayerNorm(dtype="mixed_bfloat16")
    tokens = keras.ops.cast(TOKENS + 100, "bfloat16")  # whose mean in bfloat16 would be off by 0.25
    result = norm(tokens)
    assert keras.backend.standardize_dtype(result.dtype) == "bfloat16"
    x = array(keras.ops.cast(tokens, "float32")).astype("float64")
    expected = (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(array(keras.ops.cast(result, "float32")), expected, atol=0.02)


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
