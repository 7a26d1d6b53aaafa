"""A diffusion transformer that starts from a masked autoencoder."""

import warnings

import keras
import numpy as np
import pytest

from keras_umd import UMD, Corruption, weights
from keras_umd.layers import Block, unpatchify
from keras_umd.models.presets import SIZES
from tests.conftest import array, assert_close, trained_like

pytestmark = pytest.mark.host


@pytest.fixture
def source(small_model):
    return trained_like(small_model(num_layers=3, conditioning=None, corruption=Corruption.mae()))


def test_the_blocks_of_an_encoder_are_those_of_encoder_and_decoder(small_model, source, images):
    model = small_model(num_layers=2, conditioning=None)
    weights.start_from(model, source)
    tokens = keras.ops.convert_to_tensor(np.random.default_rng(0).normal(size=(2, 5, 16)).astype("float32"))
    through = model.decoder.norm(model.decoder.blocks(model.encoder.blocks(tokens)))
    np.testing.assert_allclose(array(through), array(source.encoder.norm(source.encoder.blocks(tokens))), atol=1e-5)
    whole = small_model(num_layers=3, conditioning=None)
    weights.start_from(whole, source.feature_extractor())
    np.testing.assert_array_equal(array(whole.encode(images[:2])), array(source.encode(images[:2])))


def test_a_conditioned_model_starts_without_its_condition_and_with_resized_positions(small_model, source):
    model = small_model(num_layers=2, image_shape=(12, 12, 1), num_classes=3)
    gates = array(model.encoder.blocks[0].modulation.kernel)
    paths = weights.start_from(model, source)
    assert len(paths) == len(set(paths)) and not any("modulation" in path for path in paths)
    np.testing.assert_array_equal(array(model.encoder.blocks[0].modulation.kernel), gates)
    positions = source.encoder.position_embedding.interpolated((6, 6))
    np.testing.assert_array_equal(array(model.encoder.position_embedding.positions), positions)
    pairs = zip((model.encoder.blocks[1], model.decoder.blocks[0]), source.encoder.blocks[1:], strict=True)
    for ours, theirs in pairs:
        np.testing.assert_array_equal(array(ours.mlp_hidden.kernel), array(theirs.mlp_hidden.kernel))
        np.testing.assert_array_equal(array(ours.attention_norm.gamma), array(theirs.attention_norm.gamma))


@pytest.mark.parametrize("cls_tokens", [0, 1])
def test_a_sit_of_latents_predicts_by_the_tokens_of_its_masked_autoencoder_where_its_gates_are_open(cls_tokens):
    """USP, on latents of 32x32x4: gates of zero would hide a wrong copy, so here they are one."""
    sizes = {"hidden_dim": 16, "num_heads": 2, "num_cls_tokens": cls_tokens, "seed": 0}
    source = UMD.from_preset("usp_tiny_patch2_latent32", **sizes, num_layers=3, decoder_layers=1)
    trained_like(source)
    block = Block(encoder_norm=None, decoder_positions="masked", cls_to_decoder="mean" if cls_tokens else "none")
    preset = {"num_layers": 2, "decoder_layers": 1, "num_classes": 3, "block": block}
    model = UMD.from_preset("sit_tiny_patch2_latent32", **sizes, **preset)
    weights.start_from(model, source)
    for part in (*model.encoder.blocks, *model.decoder.blocks):
        assert not array(part.modulation.bias).any() and not array(part.modulation.kernel).any()
        gates = np.zeros((6, 16), "float32")
        gates[[2, 5]] = 1  # of attention and of the MLP
        part.modulation.bias.assign(gates.reshape(-1))
    latents = np.random.default_rng(0).normal(size=(2, 32, 32, 4)).astype("float32")
    predicted = model.estimate(latents, np.array([700.0, 20.0], "float32"), np.array([0, 3], "int32"))
    tokens = array(source.encoder(latents)[1]) @ array(model.decoder.head.projection.kernel)
    expected = array(unpatchify(keras.ops.convert_to_tensor(tokens), (2, 2), (16, 16)))
    assert_close(predicted["v"], expected, 1e-5)


def test_settings_that_no_weight_shows_are_told(small_model, source):
    model = small_model(num_layers=3, conditioning=None, block=Block(mlp="exact_gelu", epsilon=1e-5))
    with pytest.warns(UserWarning, match="differ: mlp='gelu' and 'exact_gelu', epsilon=1e-06 and 1e-05, mlp"):
        weights.start_from(model, source)
    with pytest.warns(UserWarning, match=r"differ: num_heads=2 and 4\.$"):
        weights.start_from(small_model(num_layers=3, conditioning=None, num_heads=4), source)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        weights.start_from(small_model(num_layers=3, conditioning=None), source)


def test_class_tokens_are_left_out_where_only_one_has_them(small_model, source):
    model = small_model(num_layers=2, num_cls_tokens=0, block=Block(cls_to_decoder="none"))
    paths = weights.start_from(model, source)
    assert "encoder/cls_tokens" not in paths and len(paths) > 40
    with_one = small_model(num_layers=2, conditioning=None)
    before = array(with_one.encoder.cls_tokens).copy()
    weights.start_from(with_one, small_model(num_layers=3, conditioning=None, num_cls_tokens=0))
    np.testing.assert_array_equal(array(with_one.encoder.cls_tokens), before)


def test_what_does_not_fit_is_named_and_nothing_is_set(small_model, source):
    for settings, message in (
        ({"num_layers": 4}, "as many blocks as the encoder.*3 blocks for 4 and 5"),
        ({"num_layers": 2, "hidden_dim": 20}, r"as wide as `model`.*positions \(16, 20\)"),
    ):
        model = small_model(conditioning=None, **settings)
        before = [array(variable).copy() for variable in model.network_weights]
        with pytest.raises(ValueError, match=message):
            weights.start_from(model, source)
        for variable, value in zip(model.network_weights, before, strict=True):
            np.testing.assert_array_equal(array(variable), value)
    with_registers = small_model(num_layers=3, conditioning=None, block=Block(registers=2))
    with pytest.raises(ValueError, match="has no place for.*registers"):
        weights.start_from(small_model(num_layers=3, conditioning=None), with_registers)
    model = small_model(num_layers=3, conditioning=None, block=Block(registers=2))
    weights.start_from(model, with_registers)
    np.testing.assert_array_equal(array(model.encoder.blocks.registers), array(with_registers.encoder.blocks.registers))
    with pytest.raises(ValueError, match="has no place for.*modulation"):
        weights.start_from(source, small_model(num_layers=3))


def test_deeper_presets_have_as_many_weights():
    for name in ("tiny", "small", "base"):
        plain, deep = SIZES[name], SIZES[f"{name}_deep"]
        sizes = [12 * size["num_layers"] * size["hidden_dim"] ** 2 for size in (plain, deep)]
        assert abs(sizes[1] / sizes[0] - 1) < 0.03
        assert deep["hidden_dim"] // deep["num_heads"] == plain["hidden_dim"] // plain["num_heads"]
