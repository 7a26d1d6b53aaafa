"""What DiT and its relatives have otherwise is a setting, each with its formula; the others are the paper's."""

import keras
import numpy as np
import pytest

from keras_umd import Corruption
from keras_umd.layers import Block, LabelEmbedding, LayerNorm, PatchHead, TimestepEmbedding, Timesteps
from keras_umd.models.condition import ConditionEmbedding
from keras_umd.models.decoders import Decoder
from tests.conftest import array

pytestmark = pytest.mark.host
RNG = np.random.default_rng(0)
TOKENS = RNG.normal(size=(2, 4, 8)).astype("float32")


def test_a_block_names_what_is_set_alone_and_comes_back_from_a_file():
    block = Block(affine=False, timesteps=Timesteps(8, offset=-1, least=0), encoder_norm=None)
    revived = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(block))
    assert revived == block != Block() and hash(revived) == hash(block)
    assert revived.timesteps.least == 0.0 and "Timesteps(width=8" in repr(block)
    assert set(block.get_config()) - set(Block().get_config()) == {"affine", "timesteps", "encoder_norm"}


@pytest.mark.parametrize("reaches_end", [False, True])
def test_timesteps_are_told_as_cosines_and_sines_of_another_time(reaches_end):
    own = Timesteps(8, reaches_end=reaches_end, scale=-0.5, offset=3.0, least=-2.0)
    actual = array(TimestepEmbedding(16, timesteps=own).sinusoid(np.array([0, 4, 50])))
    angles = np.array([3.0, 1.0, -2.0])[:, None] * 10_000.0 ** (-np.arange(4) / (3 if reaches_end else 4))
    np.testing.assert_allclose(actual, np.concatenate([np.cos(angles), np.sin(angles)], axis=1), atol=1e-6)
    other = TimestepEmbedding(16, timesteps=Timesteps(8, cosines_first=False)).sinusoid(np.array([2]))
    assert np.all(array(other)[0, :4] == np.sin(2 * Timesteps(8).frequencies(), dtype="float32"))


def test_the_papers_sinusoid_is_one_of_them():
    own = Timesteps(16, cosines_first=False, reaches_end=True)
    timesteps = np.array([0, 7, 1000])
    np.testing.assert_array_equal(
        array(TimestepEmbedding(16, timesteps=own).sinusoid(timesteps)),
        array(TimestepEmbedding(16).sinusoid(timesteps)),
    )


def test_a_table_of_labels_may_be_all():
    embedding = LabelEmbedding(3, 8, mlp=False)
    embedding.build((None,))
    assert [variable.name for variable in embedding.weights] == ["table"]
    np.testing.assert_array_equal(array(embedding(np.array([3, 0]))), array(embedding.table)[[3, 0]])


def test_a_layer_norm_without_weights_has_those_of_the_condition():
    norm = LayerNorm(affine=False)
    norm.build(TOKENS.shape)
    assert norm.weights == [] and LayerNorm.from_config(norm.get_config()).affine is False
    shift, scale = RNG.normal(size=(2, 2, 1, 8)).astype("float32")
    centered = TOKENS - TOKENS.mean(-1, keepdims=True)
    expected = centered / np.sqrt(TOKENS.var(-1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(array(norm(TOKENS)), expected, atol=1e-5)
    shifted = norm(*(keras.ops.convert_to_tensor(x) for x in (TOKENS, shift, scale)))
    np.testing.assert_allclose(array(shifted), expected * (1 + scale) + shift, atol=1e-5)


def test_a_head_may_have_a_bias_for_each_value_of_a_patch():
    head = PatchHead(2, 3, bias_of="patch")
    head.build(TOKENS.shape)
    bias = RNG.normal(size=(12,)).astype("float32")
    head.bias.assign(bias)
    expected = TOKENS @ array(head.projection.kernel) + bias
    np.testing.assert_allclose(array(head(TOKENS)), expected, atol=1e-5)
    some = expected.reshape(2, 4, 4, 3)[..., 1:].reshape(2, 4, 8)
    np.testing.assert_allclose(array(head(TOKENS, channel_range=(1, 3))), some, atol=1e-5)


def test_positions_may_be_those_of_mask_tokens_alone():
    block = Block(decoder_positions="masked", cls_to_decoder="none")
    decoder = Decoder(1, (2, 3), 1, 1, 2, conditioning=None, pixel_predictions=("first",), block=block)
    decoder.build((None, 8), (None, None, 8))
    visible, masked = (keras.ops.convert_to_tensor(x) for x in (np.array([[5, 0, 3, 1]] * 2), np.array([[2, 4]] * 2)))
    tokens, _ = decoder._placed(TOKENS[:, 0], keras.ops.convert_to_tensor(TOKENS), visible, masked)
    np.testing.assert_array_equal(array(tokens)[:, :4], TOKENS)
    added = array(decoder.mask_token) + array(decoder.position_embedding.positions)[[2, 4]]
    np.testing.assert_allclose(array(tokens)[0, 4:], added, atol=1e-6)


def test_what_goes_together_is_checked_at_once(small_model):
    refused = {
        "RMSNorm": lambda: Block(norm="rms", affine=False),
        "in_context": lambda: Block(in_context_of="label"),
        "with classes": lambda: ConditionEmbedding(8, block=Block(in_context=2, in_context_of="label")),
        "adaln_zero": lambda: small_model(block=Block(encoder_norm="adaln"), conditioning="token"),
        "decoder_layers": lambda: small_model(decoder_layers=0),
        "`width` must be even": lambda: Timesteps(5),
    }
    for reason, call in refused.items():
        with pytest.raises(ValueError, match=reason):
            call()


def test_a_network_of_one_stack_trains_and_generates(small_model, images):
    """Without blocks in the decoder, and without class tokens, the representation is the mean of the tokens."""
    block = Block(cls_to_decoder="none", encoder_norm=None)
    model = small_model(block=block, decoder_layers=0, num_cls_tokens=0, corruption=Corruption.dit())
    assert len(model.decoder.blocks) == 0 and not any("blocks" in v.path for v in model.decoder.weights)
    model.compile("sgd", jit_compile=False, run_eagerly=True)
    model.fit(images[:8], verbose=0)
    assert model.generate(num_images=1, num_steps=2, seed=0).shape == (1, *model.image_shape)
    tokens = model.feature_extractor(pooling=None)(images[:2])
    np.testing.assert_allclose(array(model.encode(images[:2])), array(tokens).mean(axis=1), atol=1e-5)
