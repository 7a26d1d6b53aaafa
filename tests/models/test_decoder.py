"""The decoder gives what is read, and may be of another width than the encoder."""

import keras
import numpy as np
import pytest

from keras_umd.layers import Block
from keras_umd.models.decoders import Decoder
from tests.conftest import QUICK, array, trained_like

IS_JAX = keras.backend.backend() == "jax"

RNG = np.random.default_rng(0)
INPUTS = [RNG.normal(size=shape).astype("float32") for shape in ((2, 8), (2, 4, 8), (2, 8))]
ORDER = np.array([[5, 0, 3, 2, 1, 4], [1, 4, 0, 5, 2, 3]])
MASKED = {"visible": ORDER[:, :4], "masked": ORDER[:, 4:]}


def decoder(heads=None, **settings):
    keras.utils.set_random_seed(0)
    sizes = {"patch_size": 2, "grid": (2, 3), "channels": 3, "num_layers": 2, "num_heads": 2}
    layer = Decoder(**sizes, **settings, pixel_predictions=("first", "second"), heads=heads)
    layer.build((None, 8), (None, None, 8))
    return trained_like(layer)


@pytest.mark.parametrize("conditioning", ["adaln_zero", None])
def test_predictions_are_of_the_patches_that_are_read(conditioning):
    layer = decoder(heads={"third": 5}, conditioning=conditioning)
    whole = layer(*INPUTS, **MASKED, read={"first": "all", "second": "all", "third": "all"})
    assert {name: tuple(x.shape) for name, x in whole.items()} == {
        "first": (2, 6, 12),
        "second": (2, 6, 12),
        "third": (2, 6, 5),
    }
    places = {"masked": slice(4, 6), "visible": slice(0, 4), "all": slice(0, 6)}
    reads = (
        {"first": "masked", "second": "visible", "third": "all"},
        {"third": "masked", "first": "masked"},
        {"second": "all"},
        {"third": "visible"},
    )
    for read in reads:
        outputs = layer(*INPUTS, **MASKED, read=read)
        assert list(outputs) == list(read)
        for name, where in read.items():
            np.testing.assert_allclose(array(outputs[name]), array(whole[name])[:, places[where]], atol=1e-5)
    by_default = layer(*INPUTS, **MASKED)
    assert list(by_default) == ["first", "second"]
    for name, values in by_default.items():
        np.testing.assert_array_equal(array(values), array(whole[name]))


def test_all_patches_are_read_where_none_is_masked():
    layer = decoder()
    representation, tokens, condition = INPUTS
    inputs = representation, np.tile(tokens[:, :3], (1, 2, 1)), condition
    whole = layer(*inputs)
    for where in ("masked", "visible"):
        outputs = layer(*inputs, read={"first": where, "second": where})
        for name, values in outputs.items():
            np.testing.assert_allclose(array(values), array(whole[name]), atol=1e-5)


@pytest.mark.parametrize(
    ("read", "number"),
    [({"first": "masked"}, 2), ({"first": "masked", "second": "masked"}, 2), ({"first": "masked", "second": "all"}, 6)],
)
def test_the_last_block_computes_what_is_read_and_no_more(monkeypatch, read, number):
    layer = decoder()
    numbers, norm = [], layer.norm.call
    monkeypatch.setattr(layer.norm, "call", lambda tokens: numbers.append(tokens.shape[1]) or norm(tokens))
    layer(*INPUTS, **MASKED, read=read)
    assert numbers == [number]


def test_the_first_channels_of_the_head_are_the_first_prediction():
    layer = decoder(conditioning=None)
    layer.head.projection.kernel.assign(np.zeros(layer.head.projection.kernel.shape))
    layer.head.bias.assign(np.arange(6.0))
    for read in (None, {"first": "masked", "second": "visible"}):
        outputs = layer(*INPUTS[:2], **MASKED, read=read)
        np.testing.assert_array_equal(array(outputs["first"])[0, 0], [0, 1, 2] * 4)
        np.testing.assert_array_equal(array(outputs["second"])[0, 0], [3, 4, 5] * 4)


def test_other_heads_are_saved_and_absent_without_a_name(tmp_path):
    layer = decoder(heads={"third": 5, "fourth": 2}, name="decoder")
    added = {v.path for v in layer.weights} - {v.path for v in decoder(name="decoder").weights}
    assert added == {f"decoder/{name}_head/{part}" for name in ("third", "fourth") for part in ("kernel", "bias")}
    inputs = keras.Input((8,)), keras.Input((4, 8)), keras.Input((8,)), keras.Input((4,)), keras.Input((2,))
    indices = {name: keras.ops.cast(x, "int32") for name, x in zip(MASKED, inputs[3:], strict=True)}
    read = {"third": "masked", "fourth": "all", "first": "visible"}
    model = keras.Model(inputs, layer(*inputs[:3], **indices, read=read))
    model.save(tmp_path / "model.keras")
    given = [*INPUTS, *MASKED.values()]
    outputs, loaded = (m.predict(given, verbose=0) for m in (model, keras.models.load_model(tmp_path / "model.keras")))
    assert {name: x.shape for name, x in loaded.items()} == {
        "third": (2, 2, 5),
        "fourth": (2, 6, 2),
        "first": (2, 4, 12),
    }
    for name, values in outputs.items():
        np.testing.assert_array_equal(loaded[name], values)


def test_modulations_computed_before_give_the_same():
    layer = decoder(heads={"third": 5})
    modulations = layer.modulations(keras.ops.convert_to_tensor(INPUTS[2]))
    assert [tuple(x.shape) for x in modulations.of_layers] == [(2, 48), (2, 48), (2, 16)]
    given, made = (layer(*INPUTS[:2], condition=condition, **MASKED) for condition in (modulations, INPUTS[2]))
    for name, values in made.items():
        np.testing.assert_allclose(array(given[name]), array(values), atol=1e-6)


@pytest.mark.parametrize("read", [{"fifth": "all"}, {"first": "hidden"}, {}])
def test_unknown_reads_are_refused(read):
    with pytest.raises(ValueError, match="'first', 'second'.*'masked', 'visible', 'all'.*Received: read="):
        decoder()(*INPUTS, **MASKED, read=read)


def test_names_of_heads_and_pixel_predictions_differ():
    with pytest.raises(ValueError, match="heads={'first': 5}"):
        decoder(heads={"first": 5})


ON_TORCH = [pytest.param(conditioning, marks=pytest.mark.backends("torch")) for conditioning in ("token", None)]


@pytest.mark.parametrize("conditioning", ["adaln_zero", *ON_TORCH])
def test_every_weight_of_a_narrower_decoder_is_trained(small_model, images, conditioning):
    model = trained_like(small_model(decoder_hidden_dim=8, conditioning=conditioning))
    assert model.decoder.num_heads == 1  # as wide as the encoder's
    assert model.decoder.mask_token.shape == (8,)
    before = [array(variable) for variable in model.trainable_variables]
    model.compile("sgd", **QUICK)
    model.fit(images[:8], verbose=0)
    same = [v.path for v, old in zip(model.trainable_variables, before, strict=True) if np.all(array(v) == old)]
    assert not [path for path in same if "key/bias" not in path]  # which softmax cancels
    assert model.encode(images).shape == (24, 16)
    assert model.reconstruct(images)["reconstruction"].shape == images.shape


def test_it_generates_fine_tuned_and_saved(small_model, tmp_path):
    """The sampler looks up modulations of two widths."""
    model = trained_like(small_model(decoder_hidden_dim=8).with_classes(3))
    settings = {"labels": [0, 2], "num_steps": 2, "seed": 0, "guidance": 2.0}
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.get_config()["decoder_hidden_dim"] == 8
    np.testing.assert_array_equal(loaded.generate(**settings), model.generate(**settings))


@pytest.mark.host
def test_its_heads_may_be_of_another_width_and_it_may_get_patches_alone(small_model, images, tmp_path):
    block = Block(mlp="exact_gelu", layer_scale=0.1, positions="sincos", cls_to_decoder="none")
    settings = {"num_cls_tokens": 0, "num_layers": 2, "decoder_layers": 2, "block": block}
    model = trained_like(small_model(decoder_hidden_dim=12, decoder_heads=3, **settings))
    assert (model.decoder.num_heads, model.encoder.num_heads) == (3, 2)
    other = np.random.default_rng(0).normal(size=(2, 16)).astype("float32")
    tokens, condition = other[:, None] * np.ones((1, 16, 1), "float32"), model.condition(np.zeros(1, "int32"))
    ways = [array(model.decoder(k * other, tokens, condition=condition)["eps"]) for k in (1, 2)]
    np.testing.assert_array_equal(*ways)  # the representation is not what it sees
    model.compile("sgd", **QUICK)
    before = {v.path: array(v) for v in model.trainable_variables}
    assert not [path for path in before if "positions" in path]
    model.fit(images[:8], verbose=0)
    assert not [v.path for v in model.trainable_variables if np.all(array(v) == before[v.path]) and "key" not in v.path]
    excluded = {v.name for v in model.trainable_variables if not model.optimizer._use_weight_decay(v)}
    assert {"attention_scale", "mlp_scale"} <= excluded
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.decoder.num_heads == 3 and loaded.block == block
    np.testing.assert_array_equal(array(loaded.encode(images)), array(model.encode(images)))


def test_without_a_width_nothing_changes(small_model):
    plain, same = (small_model(decoder_hidden_dim=width) for width in (None, 16))
    assert [v.path for v in plain.weights] == [v.path for v in same.weights]
    assert plain.decoder.embedding is None
    for own, other in zip(plain.weights, same.weights, strict=True):
        np.testing.assert_array_equal(array(own), array(other))
