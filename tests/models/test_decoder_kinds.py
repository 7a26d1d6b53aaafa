"""Other decoders: what they look at, what they are at their limits, and that models with them are saved and sampled."""

import keras
import numpy as np
import pytest

from keras_umd import Corruption, Objective, View, decoders
from keras_umd.corruption import masks
from keras_umd.layers import Block, patchify, unpatchify
from keras_umd.layers.cross_attention import CrossBlock
from keras_umd.layers.grid_convolution import GridConvolution
from keras_umd.objectives import Reconstruction
from keras_umd.objectives.targets import X0
from tests.conftest import QUICK, array, trained_like

pytestmark = pytest.mark.usefixtures("op_by_op")

RNG = np.random.default_rng(0)
INPUTS = [RNG.normal(size=shape).astype("float32") for shape in ((2, 8), (2, 4, 8), (2, 8))]
ORDER = np.array([[5, 0, 3, 2, 1, 4], [1, 4, 0, 5, 2, 3]])
MASKED = {"visible": ORDER[:, :4], "masked": ORDER[:, 4:]}
SIZES = {"patch_size": 2, "grid": (2, 3), "channels": 3, "num_layers": 2, "num_heads": 2}


def decoder(kind, encoder_layers=3, **settings):
    keras.utils.set_random_seed(0)
    layer = kind.make(encoder_layers, **{**SIZES, **settings}, pixel_predictions=("first", "second"))
    layer.build((None, 8), (None, None, 8))
    return trained_like(layer)


@pytest.mark.host
def test_cross_attention_is_the_softmax_over_the_context():
    block = CrossBlock(2, conditioning=None)
    block.build((None, None, 8), (None, None, 6))
    trained_like(block)
    tokens, context = RNG.normal(size=(2, 3, 8)), RNG.normal(size=(2, 5, 6))
    given = [keras.ops.convert_to_tensor(x, "float32") for x in (tokens, context)]
    actual = array(block.attention(*given))
    query, key, value = (
        (x @ array(getattr(block.attention, name).kernel) + array(getattr(block.attention, name).bias)).reshape(
            2, -1, 2, 4
        )
        for name, x in (("query", tokens), ("key", context), ("value", context))
    )
    logits = np.einsum("bqhd,bkhd->bhqk", query, key) / 2
    weights = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    mixed = np.einsum("bhqk,bkhd->bqhd", weights, value).reshape(2, 3, 8)
    output = block.attention.output_projection
    np.testing.assert_allclose(actual, mixed @ array(output.kernel) + array(output.bias), atol=1e-5)


@pytest.mark.parametrize("conditioning", ["adaln_zero", pytest.param("token", marks=pytest.mark.host)])
def test_a_masked_patch_looks_at_visible_ones_alone_and_in_any_order(conditioning):
    layer = decoder(decoders.Cross(), conditioning=conditioning, hidden_dim=12, block=Block(qk_norm=True))
    whole = layer(*INPUTS, **MASKED, read={"first": "masked"})["first"]
    one = layer(*INPUTS, visible=ORDER[:, :4], masked=ORDER[:, 5:], read={"first": "masked"})["first"]
    np.testing.assert_allclose(array(one)[:, 0], array(whole)[:, 1], atol=1e-5)
    everything = layer(*INPUTS, **MASKED)
    np.testing.assert_allclose(array(everything["first"])[:, 4:], array(whole), atol=1e-5)
    representation, tokens, condition = INPUTS
    turned = layer(representation, tokens[:, ::-1], condition, **MASKED, read={"first": "masked"})["first"]
    np.testing.assert_allclose(array(turned), array(whole), atol=1e-5)
    others = layer(representation, tokens + 1, condition, **MASKED, read={"first": "masked"})["first"]
    assert np.abs(array(others) - array(whole)).max() > 1e-3
    fewer = layer(representation, tokens, condition, visible=ORDER[:, :4], masked=ORDER[:, 4:])["second"]
    assert fewer.shape == (2, 6, 12)


def test_taps_with_the_last_alone_are_the_norm_of_the_encoders_tokens():
    tapped, plain = decoder(decoders.Cross(taps=(1, 3))), decoder(decoders.Cross())
    names = {variable.path.split("/", 1)[1]: variable for variable in plain.weights}
    for variable in tapped.weights:
        if "tap_" not in variable.path:
            variable.assign(array(names[variable.path.split("/", 1)[1]]))
    tapped.tap_weights.assign([[0.0, 1.0]] * 2)
    for norm in tapped.tap_norms:
        norm.gamma.assign(np.ones(8))
        norm.beta.assign(np.zeros(8))
    representation, tokens, condition = INPUTS

    def normalized(x):
        return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)

    features = [(np.ones((2, 8), "float32"), np.ones((2, 4, 8), "float32")), (representation, tokens)]
    actual = tapped(representation, tokens, condition, **MASKED, read={"first": "masked"}, features=features)
    inputs = normalized(representation), normalized(tokens), condition
    expected = plain(*inputs, **MASKED, read={"first": "masked"})
    np.testing.assert_allclose(array(actual["first"]), array(expected["first"]), atol=1e-5)


@pytest.mark.host
@pytest.mark.parametrize("grid", [(6,), (2, 3), (2, 3, 2)])
def test_a_convolution_is_that_of_each_group_over_neighbours(grid):
    layer = GridConvolution(grid, kernel=3, groups=2)
    layer.build((None, None, 8))
    trained_like(layer)
    number, axes = int(np.prod(grid)), len(grid)
    tokens = RNG.normal(size=(2, number, 8)).astype("float32")
    padded = np.pad(tokens.reshape(2, *grid, 8), [(0, 0), *[(1, 1)] * axes, (0, 0)])
    expected = np.zeros((2, *grid, 8))
    for index, offset in enumerate(np.ndindex(*(3,) * axes)):
        near = padded[(slice(None), *(slice(o, o + size) for o, size in zip(offset, grid, strict=True)))]
        for group in range(2):
            part = slice(4 * group, 4 * group + 4)
            expected[..., part] += near[..., part] @ array(layer.weight)[index, group]
    expected = expected.reshape(2, number, 8) + array(layer.bias)
    expected = (expected - expected.mean(-1, keepdims=True)) / np.sqrt(expected.var(-1, keepdims=True) + 1e-6)
    expected = tokens + array(keras.activations.gelu(expected.astype("float32"), approximate=True))
    np.testing.assert_allclose(array(layer(tokens)), expected, atol=1e-4)


def test_convolutions_put_patches_at_their_places_and_reach_neighbours_alone():
    layer = decoder(decoders.Convolution(groups=2), conditioning=None, grid=(1, 6), num_layers=1)
    representation, tokens, condition = INPUTS
    whole = layer(*INPUTS, **MASKED, read={"first": "all"})["first"]
    turned = layer(
        representation,
        tokens[:, ::-1],
        condition,
        visible=ORDER[:, :4][:, ::-1],
        masked=ORDER[:, 4:],
        read={"first": "masked"},
    )["first"]
    np.testing.assert_allclose(array(turned), array(whole)[:, 4:], atol=1e-5)
    changed = np.array(tokens)
    changed[:, 0] += 1  # patch 5 of the first image, 1 of the second
    moved = np.abs(
        array(layer(representation, changed, condition, **MASKED, read={"first": "all"})["first"]) - array(whole)
    )
    for row, reach in enumerate(({4, 5}, {0, 1, 2})):
        assert {int(ORDER[row, i]) for i in range(6) if moved[row, i].max() > 1e-6} == reach


def test_a_bottleneck_is_all_that_the_decoder_knows_of_an_image():
    layer = decoder(decoders.Bottleneck(2))
    representation, tokens, condition = INPUTS
    read = {"first": "masked"}
    whole = array(layer(*INPUTS, **MASKED, read=read)["first"])
    others = array(layer(representation, tokens + 1, condition, **MASKED, read=read)["first"])
    np.testing.assert_array_equal(others, whole)
    assert (
        np.abs(array(layer(representation[::-1], tokens, condition, **MASKED, read=read)["first"]) - whole).max() > 1e-4
    )
    layer.widen.kernel.assign(np.zeros((2, 8)))
    layer.widen.bias.assign(np.zeros(8))
    blind = array(layer(*INPUTS, **MASKED, read=read)["first"])
    np.testing.assert_array_equal(
        array(layer(representation[::-1], tokens, condition, **MASKED, read=read)["first"]), blind
    )


KINDS = {
    "convolutions": {"decoder": decoders.Convolution(groups=2), "decoder_hidden_dim": 8},
    "bottleneck": {"decoder": decoders.Bottleneck(4)},
    "cross": {"decoder": decoders.Cross()},
    "taps, narrower": {"decoder": decoders.Cross(taps="all", visible="mask"), "decoder_hidden_dim": 8, "num_layers": 2},
}


# Not of the same parts twice where programs are compiled: taps are more than "cross", a bottleneck has less.
@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[pytest.mark.host] * (kind in ("cross", "bottleneck"))) for kind in KINDS]
)
def test_models_with_it_train_reconstruct_generate_and_are_saved(kind, small_model, images, tmp_path):
    model = small_model(**KINDS[kind])
    model.compile(keras.optimizers.Adam(1e-2), **QUICK)
    same = np.tile(images[:1], (8, 1, 1, 1))
    before = model.evaluate(same, batch_size=8, verbose=0, return_dict=True)["loss"]
    model.fit(same, batch_size=8, epochs=5, verbose=0)
    assert model.evaluate(same, batch_size=8, verbose=0, return_dict=True)["loss"] < before
    reconstruction = model.reconstruct(images[:2], seed=0)["reconstruction"]
    samples = model.generate(num_images=2, num_steps=2, seed=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert repr(loaded.decoder_kind) == repr(model.decoder_kind)
    np.testing.assert_array_equal(loaded.reconstruct(images[:2], seed=0)["reconstruction"], reconstruction)
    np.testing.assert_array_equal(loaded.generate(num_images=2, num_steps=2, seed=0), samples)


def in_place(mask, **settings):
    views = Corruption(views=[View("clean", mask=masks.InPlace(mask))])
    return {"corruption": views, "objective": Objective([Reconstruction("clean", X0(), "unseen")]), **settings}


def test_a_linear_decoder_predicts_hidden_patches_of_which_the_encoder_sees_the_place(small_model, images, tmp_path):
    model = trained_like(small_model(**in_place(masks.Random(0.75), decoder=decoders.Linear())))
    x, y = model.make_views(images[:2], seed=0)
    view, outputs = x["views"]["clean"], model(x)["clean"]
    hidden, order = array(view["hidden"]), array(view["visible"])
    assert hidden.sum(1).tolist() == [12, 12] and view["masked"].shape == (2, 0)
    # By hand: tokens of the encoder, and the head's map.
    tokens = array(outputs["tokens"])
    condition = model.condition(view["timesteps"])
    np.testing.assert_allclose(
        array(model.decoder.head(tokens, condition=condition, channel_range=(0, 1))), array(outputs["x0"]), atol=1e-5
    )
    patches = array(patchify(model.prepare_images(images[:2]), (2, 2)))
    errors = ((array(outputs["x0"]) - np.take_along_axis(patches, order[:, :, None], 1)) ** 2).mean(-1)
    losses = array(model.objective.image_losses({"clean": outputs}, y)["clean_x0_loss"])
    np.testing.assert_allclose(losses, (errors * hidden).sum(1) / hidden.sum(1), rtol=1e-4)
    # What is hidden isn't seen.
    is_hidden = np.zeros((2, 16), bool)
    np.put_along_axis(is_hidden, order, hidden, 1)
    others = unpatchify(np.where(is_hidden[:, :, None], 0.5, patches).astype("float32"), (2, 2), (4, 4))
    again = model.predict_view({**view, "images": others}, {"x0": "all"})
    np.testing.assert_allclose(array(again["x0"]), array(outputs["x0"]), atol=1e-5)
    model.compile("sgd", **QUICK)
    assert np.isfinite(model.fit(images[:8], batch_size=8, verbose=0).history["loss"]).all()
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.encode(images), model.encode(images))


@pytest.mark.host
def test_a_linear_decoder_needs_all_patches(small_model, images):
    with pytest.raises(ValueError, match=r"views of which the encoder sees all patches.*\['clean', 'noisy'\]"):
        small_model(decoder=decoders.Linear())
    model = small_model(**in_place(masks.Random(0.5), decoder=decoders.Linear()))
    with pytest.raises(ValueError, match="knows nothing of patches that the encoder hasn't seen"):
        model.reconstruct(images[:2])
    views = Corruption(views=[View("clean", mask=masks.InPlace())])
    by_default = small_model(decoder=decoders.Linear(), corruption=views)
    assert [term.where for term in by_default.objective.terms] == ["unseen"]
    wrong = small_model(
        decoder=decoders.Linear(), corruption=views, objective=Objective([Reconstruction("clean", X0())])
    )
    with pytest.raises(ValueError, match="predicted with where='unseen'"):
        wrong.make_views(images[:2])
    generating = small_model(decoder=decoders.Linear(), corruption=Corruption.dit())
    assert generating.generate(num_images=2, num_steps=2, seed=0).shape == (2, 8, 8, 1)


@pytest.mark.host
def test_a_kind_is_checked_with_the_model(small_model):
    with pytest.raises(ValueError, match=r"`taps` must end with the encoder's last block, 1.*taps=\(2,\)"):
        small_model(decoder=decoders.Cross(taps=(2,)))
    with pytest.raises(ValueError, match="`taps` must be different"):
        decoders.Cross(taps=(1, 1))
    with pytest.raises(ValueError, match="need the paper's decoder.*pack=True"):
        small_model(decoder=decoders.Cross(), pack=True)
    with pytest.raises(ValueError, match="decoder='cross'"):
        small_model(decoder="cross")
    frozen = small_model(decoder=decoders.Cross(), decoder_hidden_dim=8, corruption=Corruption.mae())
    assert not frozen.decoder.embedding.trainable and frozen.decoder.mask_token.trainable
    assert "decoder" not in small_model().get_config()
