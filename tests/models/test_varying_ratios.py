"""Ratios that differ by image, hidden behind a mask token, and ratios that rise in stages."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_umd import UMD, Corruption, View, callbacks
from keras_umd.corruption import masks, ratios
from tests.conftest import array

pytestmark = pytest.mark.usefixtures("op_by_op")

RNG = np.random.default_rng(0)
SIZES = {"image_shape": (8, 8, 1), "patch_size": 2, "hidden_dim": 16, "num_layers": 1, "num_heads": 2}
SMALL = {**SIZES, "decoder_layers": 1, "conditioning": "token", "seed": 0}


def model_of(mask, **settings):
    keras.utils.set_random_seed(0)
    return UMD(**{**SMALL, "corruption": Corruption(views=[View("clean", mask=mask)]), **settings})


def images(n=4):
    return RNG.uniform(-1, 1, (n, 8, 8, 1)).astype("float32")


@pytest.mark.parametrize(
    ("law", "name"),
    [
        (ratios.TruncatedNormal(0.55, 0.25, 0.5, 1.0), "truncnorm"),
        (ratios.TruncatedNormal(0.9, 0.1, 0.4, 0.6), "truncnorm"),
        (ratios.Uniform(0.5, 0.75), "uniform"),
    ],
    ids=repr,
)
def test_laws_are_those_of_scipy(law, name):
    stats = pytest.importorskip("scipy.stats")
    draws = np.linspace(0.001, 0.999, 97).astype("float32")
    if name == "uniform":
        expected = stats.uniform.ppf(draws, law.low, law.high - law.low)
    else:
        ends = [(end - law.mean) / law.deviation for end in (law.low, law.high)]
        expected = stats.truncnorm.ppf(draws, *ends, loc=law.mean, scale=law.deviation)
    np.testing.assert_allclose(array(law(ops.convert_to_tensor(draws))), expected, atol=2e-4)


@pytest.mark.host
def test_a_law_hides_the_next_patches_that_a_higher_ratio_would():
    mask, grid = masks.Varying(masks.Random(0.5), ratios.Uniform(0.5, 1.0)), (4, 5)
    draws = RNG.uniform(size=(50, mask.num_draws(grid))).astype("float32")
    draws[0, -1] = 1 - 1e-7  # a ratio of 1: one patch stays
    tensors = ops.convert_to_tensor(draws)
    visible, masked = map(array, mask(tensors, grid))
    hidden = array(mask.hidden(tensors, grid))
    kept = np.maximum(np.round(20 * (1 - (0.5 + draws[:, -1] / 2))), 1)
    np.testing.assert_array_equal((~hidden).sum(1), kept)
    order = np.argsort(draws[:, :20], axis=1)
    for row in range(50):
        assert set(visible[row][~hidden[row]]) == set(order[row, : int(kept[row])])
    assert masked.shape == (50, 10) and kept[0] == 1


@pytest.mark.host
def test_at_a_constant_ratio_it_is_the_mask_whatever_the_token():
    plain, varying = model_of(masks.Random(0.5)), model_of(masks.Varying(masks.Random(0.5), ratios.Uniform(0.5, 0.501)))
    token = varying.encoder.mask_token
    values = {v.path: v.value for v in plain.network_weights}
    for variable in varying.network_weights:
        if variable is not token:
            variable.assign(values[variable.path])
    token.assign(100.0 * np.ones(token.shape))
    x = images()
    draws = varying.corruption.draw(x.shape, 2, seed=1)
    given = [model.make_views(x, draws=draws) for model in (plain, varying)]
    assert not array(given[1][0]["views"]["clean"]["hidden"]).any()
    outputs = [model(inputs) for model, (inputs, _) in zip((plain, varying), given, strict=True)]
    np.testing.assert_array_equal(*(array(output["clean"]["representation"]) for output in outputs))
    losses = [
        array(model.objective.image_losses(output, y)["clean_x0_loss"])
        for model, output, (_, y) in zip((plain, varying), outputs, given, strict=True)
    ]
    np.testing.assert_allclose(*losses, rtol=1e-5)


def test_hidden_patches_cannot_be_seen_and_count():
    model = model_of(masks.Varying(masks.Random(0.25), ratios.Uniform(0.6, 0.9)))
    x = images()
    draws = model.corruption.draw(x.shape, 2, seed=1)
    inputs, y = model.make_views(x, draws=draws)
    view = inputs["views"]["clean"]
    hidden, visible, masked = (array(view[name]) for name in ("hidden", "visible", "masked"))
    assert 0 < hidden.sum() < hidden.size
    changed = x.copy()
    for row in range(4):  # everything else that the encoder could look at
        for patch in [*visible[row][hidden[row]], *masked[row]]:
            r, c = 2 * (patch // 4), 2 * (patch % 4)
            changed[row, r : r + 2, c : c + 2] = 1.0
    other = model(model.make_views(changed, draws=draws)[0])["clean"]
    own = model(inputs)["clean"]
    np.testing.assert_allclose(array(own["representation"]), array(other["representation"]), atol=1e-6)
    errors = ((array(own["x0"]) - array(y["clean_x0_loss"]["values"])) ** 2).mean(-1)
    unseen = np.concatenate([hidden, np.ones_like(masked, bool)], axis=1)
    expected = [errors[row][unseen[row]].mean() for row in range(4)]
    np.testing.assert_allclose(
        array(model.objective.image_losses({"clean": own}, y)["clean_x0_loss"]), expected, rtol=1e-5
    )


@pytest.mark.host
def test_a_law_hides_patches_where_none_is_left_out():
    """MAETok's masks: the encoder gets a token of every patch."""
    model = model_of(masks.Varying(masks.Random(0.0), ratios.Uniform(0.4, 0.6)))
    inputs, y = model.make_views(images(), seed=0)
    view = inputs["views"]["clean"]
    number = array(view["hidden"]).sum(axis=1)
    assert view["visible"].shape == (4, 16) and view["masked"].shape == (4, 0)
    assert number.min() >= 6 and number.max() <= 10
    loss = array(model.objective.image_losses(model(inputs), y)["clean_x0_loss"])
    assert np.all(loss > 0)


@pytest.mark.host
def test_a_model_whose_ratios_vary_trains_and_gives_its_features(tmp_path):
    model = model_of(masks.Varying())
    model.compile("adamw")
    token = array(model.encoder.mask_token.value).copy()
    x = RNG.integers(0, 256, (4, 8, 8, 1)).astype("uint8")
    model.fit(x, batch_size=4, verbose=0)
    assert not np.array_equal(token, array(model.encoder.mask_token.value))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(array(again.encode(x)), array(model.encode(x)))
    np.testing.assert_array_equal(array(model.feature_extractor()(x)), array(model.encode(x)))
    assert model.with_classes(3).encoder.has_mask_token
    with pytest.raises(ValueError, match="for clean views"):
        View("noisy", noise=Corruption.dit().views[0].noise, mask=masks.Varying())
    with pytest.raises(ValueError, match="`law` must reach above"):
        masks.Varying(masks.Random(0.75), ratios.Uniform(0.5, 0.75))


def test_stages_change_the_number_of_visible_patches():
    model = model_of(masks.Random(0.25))
    model.compile("sgd")
    stages = callbacks.MaskStages({0: masks.Random(0.25), 2: masks.Random(0.75)})
    ratios_seen = []
    look = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda *_: ratios_seen.append(model.corruption.views[0].mask.ratio)
    )
    seen = []
    original = type(model).predict_view

    def spy(self, view, read=None):
        seen.append(view["visible"].shape[1])
        return original(self, view, read)

    type(model).predict_view = spy
    try:
        model.fit(images(), batch_size=4, epochs=3, verbose=0, callbacks=[stages, look])
    finally:
        type(model).predict_view = original
    assert ratios_seen == [0.25, 0.25, 0.75] and set(seen) == {12, 4} and seen[-1] == 4


@pytest.mark.host
def test_ratios_rise_along_a_cosine():
    stages = callbacks.MaskStages.rising(0.15, 0.75, epochs=60, stages=4)
    assert list(stages.masks) == [0, 10, 20, 30, 40]
    found = [mask.ratio for mask in stages.masks.values()]
    expected = [0.15 + 0.6 * (1 - np.cos(np.pi * (i + 0.5) / 4)) / 2 for i in range(4)]
    np.testing.assert_allclose(found, [*expected, 0.75])
    with pytest.raises(ValueError, match="0 among them"):
        callbacks.MaskStages({1: masks.Random()})
