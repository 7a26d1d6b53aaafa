"""Targets, terms and their sum, against formulas in NumPy."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_umd import Corruption, Objective
from keras_umd.objectives import Reconstruction
from keras_umd.objectives.targets import X0, Eps, Pixels
from tests.conftest import array

RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(-1, 1, (3, 4, 6, 2)).astype("float32")
PATCH = (2, 3)


def cut(images):
    """Patches of 2 x 3 pixels by slices."""
    rows, columns = range(0, 4, 2), range(0, 6, 3)
    return np.stack([images[:, r : r + 2, c : c + 3].reshape(len(images), -1) for r in rows for c in columns], axis=1)


def test_targets_are_the_patches_of_image_and_noise():
    view = {"x0": IMAGES, "noise": 2 * IMAGES}
    np.testing.assert_array_equal(array(X0()(view, PATCH)), cut(IMAGES))
    np.testing.assert_array_equal(array(Eps()(view, PATCH)), 2 * cut(IMAGES))
    np.testing.assert_array_equal(array(Pixels(normalize=False)(view, PATCH)), cut(IMAGES))


def test_normalised_pixels_have_no_mean_and_deviation_one_in_each_patch_and_come_back():
    target, patches = Pixels(), cut(IMAGES)
    normalised = array(target({"x0": IMAGES}, PATCH))
    expected = (patches - patches.mean(-1, keepdims=True)) / np.sqrt(patches.var(-1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(normalised, expected, atol=1e-5)
    np.testing.assert_allclose(
        array(target.as_pixels(ops.convert_to_tensor(normalised), ops.convert_to_tensor(patches))), patches, atol=1e-5
    )
    brighter = array(target({"x0": 3 * IMAGES + 5}, PATCH))
    np.testing.assert_allclose(brighter, normalised, atol=1e-3)  # nothing but the pattern counts


@pytest.mark.parametrize("where", ["masked", "visible", "all"])
def test_a_reconstruction_is_the_mean_square_over_its_patches(where):
    view = {"x0": IMAGES, "visible": np.array([[2], [0], [3]]), "masked": np.array([[0, 3], [1, 2], [1, 0]])}
    order = {"masked": view["masked"], "visible": view["visible"]}
    order["all"] = np.concatenate([view["visible"], view["masked"]], axis=1)
    term = Reconstruction("clean", X0(), where=where)
    target = term.targets({name: ops.convert_to_tensor(x) for name, x in view.items()}, PATCH)
    expected_target = np.take_along_axis(cut(IMAGES), order[where][:, :, None], axis=1)
    np.testing.assert_array_equal(array(target), expected_target)
    prediction = RNG.normal(size=expected_target.shape).astype("float32")
    losses = array(term.image_losses({"x0": prediction}, target))
    np.testing.assert_allclose(losses, ((prediction - expected_target) ** 2).mean(axis=(1, 2)), rtol=1e-5)


def test_a_prediction_that_two_terms_read_at_different_patches_is_made_once_for_all():
    terms = [Reconstruction("clean", X0(), "masked"), Reconstruction("clean", X0(), "visible", 0.5, name="seen")]
    objective = Objective(terms)
    assert objective.reads("clean") == {"x0": "all"}
    assert objective.loss_names == ["clean_x0_loss", "clean_seen_loss"]
    view = {"x0": IMAGES, "visible": np.array([[2], [0], [3]]), "masked": np.array([[0, 3], [1, 2], [1, 0]])}
    views = {"clean": {name: ops.convert_to_tensor(x) for name, x in view.items()}}
    prediction = RNG.normal(size=(3, 3, 12)).astype("float32")  # in the order visible, masked
    losses = objective.image_losses({"clean": {"x0": prediction}}, objective.targets(views, PATCH))
    patches = cut(IMAGES)
    for name, rows, indices in (
        ("clean_seen_loss", prediction[:, :1], view["visible"]),
        ("clean_x0_loss", prediction[:, 1:], view["masked"]),
    ):
        target = np.take_along_axis(patches, indices[:, :, None], axis=1)
        np.testing.assert_allclose(array(losses[name]), ((rows - target) ** 2).mean(axis=(1, 2)), rtol=1e-5)
    expected = (array(losses["clean_x0_loss"]).sum() + 0.5 * array(losses["clean_seen_loss"]).sum()) / 3
    np.testing.assert_allclose(array(objective.total(losses, 3)), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("corruption", "weights"),
    [
        (Corruption.umd(), {"clean_x0_loss": 1.0, "noisy_x0_loss": 0.5, "noisy_eps_loss": 0.5}),
        (Corruption.mae(), {"clean_x0_loss": 1.0}),
        (Corruption.dit(noisy_losses=["eps"]), {"noisy_eps_loss": 1.0}),
    ],
)
def test_the_papers_objective_weighs_the_errors_of_an_image_to_one(corruption, weights):
    objective = Objective.denoising(corruption)
    assert {term.loss_name: term.weight for term in objective.terms} == weights
    config = keras.saving.serialize_keras_object(objective)
    again = keras.saving.deserialize_keras_object(config)
    assert again.loss_names == objective.loss_names
    assert keras.saving.serialize_keras_object(again) == config


@pytest.mark.parametrize("kind", ["x0", "eps", "both"])
def test_every_reading_recovers_image_and_noise_from_what_was_predicted_exactly(kind):
    x0, eps = RNG.normal(size=(2, 3, 4)).astype("float64")
    signal, sigma = 0.6, 0.8
    prediction = Objective.denoising(Corruption.dit()).prediction(kind, ["noisy"])
    outputs = {"x0": x0, "eps": eps}
    level = {"signal": signal, "sigma": sigma}
    estimate = prediction.estimate({name: outputs[name] for name in prediction.names}, signal * x0 + sigma * eps, level)
    np.testing.assert_allclose(array(estimate[0]), x0, atol=1e-6)
    np.testing.assert_allclose(array(estimate[1]), eps, atol=1e-6)


def test_a_sampler_is_told_what_it_can_read():
    with pytest.raises(ValueError, match="clean images alone.*clean_x0_loss"):
        Objective.denoising(Corruption.mae()).prediction("x0", [])
    with pytest.raises(ValueError, match=r"\['x0'\].*predict_from='eps'"):
        Objective.denoising(Corruption.dit(noisy_losses=["x0"])).prediction("eps", ["noisy"])
    objective = Objective.denoising(Corruption.umd())
    assert objective.prediction(None, ["noisy"]).names == ("eps",)
    assert Objective.denoising(Corruption.dit(noisy_losses=["x0"])).prediction(None, ["noisy"]).names == ("x0",)


def test_terms_need_different_names_and_a_known_place():
    with pytest.raises(ValueError, match="different names.*clean_x0_loss"):
        Objective([Reconstruction("clean", X0()), Reconstruction("clean", X0(), "visible")])
    with pytest.raises(ValueError, match="where='everywhere'"):
        Reconstruction("clean", X0(), "everywhere")
    with pytest.raises(ValueError, match="must be a list of Term.*Pixels"):
        Objective([Pixels()])
    with pytest.raises(ValueError, match="must be a list of Term"):
        Objective(Reconstruction("clean", X0()))
    with pytest.raises(ValueError, match="target='x0'"):
        Reconstruction("clean", "x0")


def test_a_head_has_one_target():
    raw, normalized = Reconstruction("noisy", Pixels(normalize=False)), Reconstruction("clean", Pixels())
    with pytest.raises(ValueError, match=r"(?s)another `name`.*normalize=False.*normalize=True"):
        Objective([raw, normalized])
    Objective([Reconstruction("noisy", Pixels()), normalized])


def test_clean_views_have_no_noise_to_predict():
    with pytest.raises(ValueError, match=r"take X0\(\). Received: a view of \['images', 'x0'\]"):
        Eps()({"images": IMAGES, "x0": IMAGES}, PATCH)
