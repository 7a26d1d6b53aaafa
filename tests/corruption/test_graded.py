"""Levels by patch: a gate between masks and noise, whose profiles are the methods."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_umd import UMD, Corruption, View
from keras_umd.corruption import levels, masks, noise, schedules, weightings
from keras_umd.objectives import Objective, Reconstruction
from keras_umd.objectives.targets import X0, Eps, Velocity
from tests.conftest import array, trained_like

pytestmark = pytest.mark.usefixtures("op_by_op")

RNG = np.random.default_rng(0)
SIZES = {"image_shape": (8, 8, 1), "patch_size": 2, "hidden_dim": 16, "num_layers": 1, "num_heads": 2}
SMALL = {**SIZES, "decoder_layers": 1, "seed": 0}
X = RNG.uniform(-1, 1, (6, 8, 8, 1)).astype("float32")


def corrupted(*views, **settings):
    corruption = Corruption(views=list(views), **settings)
    return corruption.corrupt(ops.convert_to_tensor(X), corruption.draw(X.shape, 2, seed=3), 2)


def graded(*factors, mask=None, share=None, name="noisy", **settings):
    return View(name, noise=noise.Graded(factors, **settings), mask=mask, share=share)


PROFILES = {
    "dit": (Corruption.dit(), [graded(1.0)]),
    "maskdit": (Corruption.maskdit(), [graded(1.0, mask=masks.Random(0.5))]),
    "mae": (Corruption.mae(), [graded(0.0, mask=masks.Random(0.75), name="clean")]),
    "umd": (
        Corruption.umd(),
        [
            graded(0.0, mask=masks.Random(0.75), share=0.5, name="clean"),
            graded(1.0, mask=masks.Random(0.375), share=0.5),
        ],
    ),
}


@pytest.mark.host
@pytest.mark.parametrize("name", PROFILES)
def test_the_methods_are_profiles_of_one_gate_bit_for_bit(name):
    corruption, views = PROFILES[name]
    draws = corruption.draw(X.shape, 2, seed=3)
    images = ops.convert_to_tensor(X)
    expected, own = (c.corrupt(images, draws, 2) for c in (corruption, Corruption(views=views)))
    for view in expected:
        for key in ("images", "x0", "visible", "masked"):
            if key in expected[view]:
                np.testing.assert_array_equal(array(own[view][key]), array(expected[view][key]))
        assert array(own[view]["still"]).all() == (view == "clean")


@pytest.mark.parametrize("path", [schedules.Cosine(1000), schedules.RectifiedFlow()], ids=["cosine", "flow"])
@pytest.mark.parametrize("mask", [None, masks.Random(0.25)], ids=["whole", "masked"])
def test_each_patch_has_the_level_of_its_group(path, mask):
    law = levels.Uniform() if isinstance(path, schedules.Cosine) else levels.ContinuousUniform()
    view = graded(0.0, 0.5, 1.0, mask=mask, shares=(0.25, 0.25, 0.5), levels=law)
    corruption = Corruption(schedule=path, views=[view])
    draws = corruption.draw(X.shape, 2, seed=3)
    found = {
        k: array(v) for k, v in corruption.corrupt(ops.convert_to_tensor(X), draws, 2)["noisy"].items() if k != "level"
    }
    timesteps, normal = array(draws["timesteps"]), array(draws["noise"])
    number = 16 if mask is None else 12
    for row, order in enumerate(np.argsort(array(draws["mask_noise"])[:, :16], axis=1)):
        for rank, patch in enumerate(order[:number]):
            factor = (0.0, 0.5, 1.0)[np.searchsorted([0.25 * number, 0.5 * number], rank, side="right")]
            t = factor * timesteps[row]
            t = np.ceil(t) if law.__class__ is levels.Uniform else max(t, 1.0) * (factor > 0)
            level = path.level(ops.convert_to_tensor(np.array([t], "float32")), 1)
            signal, sigma = (float(array(level[key])[0]) for key in ("signal", "sigma"))
            r, c = 2 * (patch // 4), 2 * (patch % 4)
            at = np.s_[row, r : r + 2, c : c + 2]
            expected = signal * X[at] + sigma * normal[at]
            np.testing.assert_allclose(found["images"][at], expected, atol=1e-5)
            assert found["still"][row, patch] == (factor == 0)
            if factor == 0:
                np.testing.assert_array_equal(found["images"][at], X[at])
        index = found["level_index"][row]
        np.testing.assert_array_equal(np.bincount(index), [number // 4, number // 4, number // 2])


def loss_of(target, view, where="all"):
    term = Reconstruction("noisy", target, where)
    targets = term.targets(view, (2, 2))
    values = targets["values"] if isinstance(targets, dict) else targets
    prediction = RNG.normal(size=values.shape).astype("float32")
    squares = ((prediction - array(values)) ** 2).mean(-1)
    return array(term.image_losses({target.name: ops.convert_to_tensor(prediction)}, targets)), squares


def test_patches_without_noise_count_in_no_error_of_noise():
    view = corrupted(graded(0.0, 1.0))["noisy"]
    still = array(view["still"])
    for target in (Eps(), Velocity()):
        own, squares = loss_of(target, view)
        np.testing.assert_allclose(own, [s[~a].mean() for s, a in zip(squares, still, strict=True)], rtol=1e-5)
    own, squares = loss_of(X0(), view)
    np.testing.assert_allclose(own, squares.mean(1), rtol=1e-5)
    view = corrupted(graded(0.0, 1.0, mask=masks.Random(0.25)))["noisy"]
    own, squares = loss_of(Eps(), view, "visible")
    noisy = ~np.take_along_axis(array(view["still"]), array(view["visible"]), 1)
    np.testing.assert_allclose(own, [s[a].mean() for s, a in zip(squares, noisy, strict=True)], rtol=1e-5)


@pytest.mark.host
@pytest.mark.parametrize("conditioning", ["adaln_zero", "token", None])
def test_equal_levels_are_as_one_level_and_others_are_told(conditioning):
    outputs, models, images = {}, {}, None
    for name, factors in {"one": None, "equal": (1.0, 1.0), "differing": (0.2, 1.0)}.items():
        kind = noise.Gaussian() if factors is None else noise.Graded(factors)
        corruption = Corruption(views=[View("noisy", noise=kind, mask=masks.Random(0.5))])
        keras.utils.set_random_seed(0)
        # With open gates: AdaLN-zero starts as the identity, and would hide what differs.
        model = models[name] = trained_like(UMD(**SMALL, conditioning=conditioning, corruption=corruption))
        inputs = model.make_views(X, draws=corruption.draw(X.shape, 2, seed=1))[0]
        if name == "differing":  # the images of before: only what is told differs
            inputs["views"]["noisy"]["images"] = images
        images = inputs["views"]["noisy"]["images"]
        found = model(inputs)["noisy"]
        outputs[name] = {key: array(found[key]) for key in ("representation", "x0", "eps")}
    for key, one in outputs["one"].items():
        np.testing.assert_allclose(outputs["equal"][key], one, atol=2e-6 * np.abs(one).max())
        is_told = np.abs(outputs["differing"][key] - one).max() > 1e-3
        assert is_told == (conditioning is not None), key
    sizes = [sum(int(np.prod(v.shape)) for v in model.network_weights) for model in models.values()]
    assert len(set(sizes)) == 1


@pytest.mark.host
def test_a_model_of_levels_by_patch_trains_generates_and_is_described(tmp_path):
    corruption = Corruption(views=[graded(0.0, 0.5, 1.0, mask=masks.Random(0.375))])
    model = UMD(**SMALL, corruption=corruption)
    model.compile("adamw")
    history = model.fit(X, batch_size=3, verbose=0).history
    assert np.isfinite(history["loss"][0]) and {"noisy_x0_loss", "noisy_eps_loss"} <= set(history)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert repr(again.corruption) == repr(corruption)
    assert again.generate(num_images=2, num_steps=2, seed=0).shape == (2, 8, 8, 1)
    (view, *_) = corruption.for_finetuning().views
    assert type(view.noise) is noise.Gaussian and view.mask is None


@pytest.mark.host
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: noise.Graded(()), "`factors` must be a tuple"),
        (lambda: noise.Graded((0.0, 1.5)), "`factors` must be a tuple"),
        (lambda: noise.Graded((0.0, 1.0), (0.5, 0.6)), "`shares` must be"),
        (lambda: noise.Graded((0.0, 1.0), (1.0,)), "`shares` must be"),
        (lambda: Corruption(views=[graded(0.0, 1.0)], weighting=weightings.MinSNR(5.0)), "one level for each image"),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
    assert Objective.denoising(Corruption(views=[graded(0.5)])).loss_names == ["noisy_x0_loss", "noisy_eps_loss"]
