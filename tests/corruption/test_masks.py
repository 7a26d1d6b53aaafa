"""Masks: how many patches stay visible, which, and that nothing but the given numbers decides it."""

import math

import keras
import numpy as np
import pytest
from keras import ops

from keras_umd import Corruption, View
from keras_umd.corruption import masks
from keras_umd.corruption.masks.color_noise import _blur_matrix
from keras_umd.corruption.noise import Gaussian
from tests.conftest import array

MASKS = [masks.Random(0.7), *(masks.ColorNoise(color, 0.7) for color in ("red", "blue", "green", "purple"))]
GRIDS = [(8,), (3, 5), (1, 16), (2, 3, 4)]


def uniform(*shape, seed=0):
    return np.random.default_rng(seed).uniform(size=shape).astype("float32")


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("mask", MASKS, ids=repr)
def test_the_indices_are_a_partition_of_the_patches_of_each_image(mask, grid):
    num_patches = math.prod(grid)
    visible, masked = mask(ops.convert_to_tensor(uniform(5, mask.num_draws(grid))), grid)
    assert visible.shape == (5, mask.num_visible(grid)) == (5, int(num_patches * (1 - mask.ratio)))
    order = np.sort(np.concatenate([array(visible), array(masked)], axis=1), axis=1)
    np.testing.assert_array_equal(order, np.tile(np.arange(num_patches), (5, 1)))


@pytest.mark.parametrize("mask", MASKS, ids=repr)
def test_a_mask_of_an_image_depends_on_its_own_numbers_alone(mask):
    draws = uniform(4, mask.num_draws((4, 6)))
    together = array(mask.scores(ops.convert_to_tensor(draws), (4, 6)))
    alone = array(mask.scores(ops.convert_to_tensor(draws[2:3]), (4, 6)))
    np.testing.assert_allclose(together[2:3], alone, atol=1e-6)
    config = keras.saving.serialize_keras_object(mask)
    again = keras.saving.deserialize_keras_object(config)
    np.testing.assert_array_equal(array(again.scores(ops.convert_to_tensor(draws), (4, 6))), together)


def autocorrelations(is_masked):
    """Of masks `(n, 14, 14)` with a quarter masked, at distances of 1, 2 and 3."""
    x = is_masked - 0.25
    return [(x[:, :, d:] * x[:, :, :-d]).mean() / (x**2).mean() for d in (1, 2, 3)]


@pytest.mark.parametrize("color", ["red", "blue", "green", "purple"])
def test_colored_masks_look_like_those_of_noise_that_scipy_filters(color):
    filtered = pytest.importorskip("scipy.ndimage").gaussian_filter
    number, mask = 1500, masks.ColorNoise(color, ratio=0.25)
    _, masked = mask(ops.convert_to_tensor(uniform(number, 196)), (14, 14))
    is_masked = np.zeros((number, 196))
    np.put_along_axis(is_masked, array(masked), 1.0, axis=1)
    np.testing.assert_allclose(is_masked.mean(axis=0), 0.25, atol=0.06)  # no place is preferred

    white = np.random.default_rng(1).normal(size=(number, 14, 14))
    smooth = [filtered(white, (0, std, std), mode="wrap") for std in mask.std]
    green = smooth[0] - smooth[-1]
    noise = {"red": smooth[0], "blue": white - smooth[0], "green": green, "purple": white - green}[color]
    strongest = noise.reshape(number, -1) >= np.sort(noise.reshape(number, -1), axis=1)[:, -49, None]
    own, expected = (autocorrelations(x.reshape(number, 14, 14)) for x in (is_masked, strongest))
    np.testing.assert_allclose(own, expected, atol=0.015)
    assert (own[0] > 0.05) == (color in ("red", "green"))  # clusters, or patches that keep apart


def test_the_strongest_noise_is_masked():
    mask = masks.ColorNoise("red", ratio=0.5, std=(1e-3,))  # no filter at all
    draws = uniform(3, 16)
    visible, masked = (array(x) for x in mask(ops.convert_to_tensor(draws), (4, 4)))
    chosen = [np.take_along_axis(draws, indices, axis=1) for indices in (visible, masked)]
    assert np.all(chosen[0].max(axis=1) < chosen[1].min(axis=1))


@pytest.mark.host
@pytest.mark.parametrize(
    "mask", [masks.ColorNoise("blue", std=0.2), masks.ColorNoise("green", std=(0.19, 0.2))], ids=repr
)
def test_the_narrowest_filters_prefer_no_place(mask):
    visible, _ = mask(ops.convert_to_tensor(uniform(400, 196)), (14, 14))
    np.testing.assert_allclose(np.bincount(array(visible).ravel(), minlength=196) / 400, 0.25, atol=0.1)


@pytest.mark.host
def test_the_filter_is_a_gaussian_that_wraps_around():
    gaussian = pytest.importorskip("scipy.ndimage").gaussian_filter1d
    x = np.random.default_rng(0).normal(size=9)
    np.testing.assert_allclose(_blur_matrix(9, 1.0) @ x, gaussian(x, 1.0, mode="wrap"), atol=1e-6)


def test_a_structured_mask_decodes_a_random_subset_of_the_masked_patches():
    """Not those with the lowest scores: a second shuffle has numbers of its own."""
    view = View("clean", mask=masks.ColorNoise("red", ratio=0.5), decoded_ratio=0.25)
    grid, number = (4, 4), 2000
    assert view.num_draws(grid) == 32
    draws = uniform(number, 32)
    chosen = view.split(ops.convert_to_tensor(draws), grid)
    visible, masked = view.mask(ops.convert_to_tensor(draws[:, :16]), grid)
    np.testing.assert_array_equal(array(chosen["visible"]), array(visible))
    assert chosen["masked"].shape == (number, 2) == (number, view.num_decoded(grid))
    # The rank of a decoded patch among the masked ones is uniform.
    ranks = np.argmax(array(masked)[:, :, None] == array(chosen["masked"])[:, None], axis=1)
    assert np.all(np.take_along_axis(array(masked), ranks, axis=1) == array(chosen["masked"]))
    np.testing.assert_allclose(np.bincount(ranks.ravel(), minlength=8) / (2 * number), 1 / 8, atol=0.02)


@pytest.mark.host
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: masks.Random(1.0), "ratio=1.0"),
        (lambda: masks.ColorNoise("pink"), "color='pink'"),
        (lambda: masks.ColorNoise("green", std=(2.0, 1.0)), r"std=\(2.0, 1.0\)"),
        (lambda: masks.ColorNoise("red", std=(1.0, 2.0)), r"std=\(1.0, 2.0\)"),
        # Of these nothing is left, and one mask would be that of all images.
        (lambda: masks.ColorNoise("green", std=(1.0, 1.0)), r"rising numbers.*std=\(1.0, 1.0\)"),
        (lambda: masks.ColorNoise("green", std=(0.1, 0.15)), r"must reach 0.2.*std=\(0.1, 0.15\)"),
        (lambda: masks.ColorNoise("blue", std=(0.1,)), r"must reach 0.2.*std=\(0.1,\)"),
        (lambda: View("clean", mask=masks.Random(), decoded=masks.Attention()), "`decoded` can't read hints"),
        (lambda: View("clean", share=0.0), "share=0.0"),
        (lambda: View("clean", decoded_ratio=0.0), "decoded_ratio=0.0"),
        (lambda: Corruption(views=[]), r"views=\[\]"),
        (lambda: Corruption(views=[View("a", share=0.5), View("b", share=0.4)]), r"add up to 1.*0.5, 0.4"),
        (lambda: Corruption(views=[View("a", share=1.0), View("b")]), "Either all"),
        (lambda: Corruption(views=[View("a"), View("a")]), "must differ"),
        (lambda: Corruption(views=View("a")), "must be a list of View"),
        (lambda: Corruption(views=[View("a")], decoded_ratio=0.5), "leave out the others.*'decoded_ratio': 0.5"),
        (lambda: View("clean", mask="random"), "mask='random'"),
        (lambda: View("clean", mask=0.5), "mask=0.5"),
        (lambda: View("noisy", masks.Random(0.5)), r"noise=Random\(ratio=0.5\)"),
        (lambda: View(3), "name=3"),
        (lambda: Gaussian("uniform"), "levels='uniform'"),
    ],
)
def test_wrong_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_views_without_shares_see_every_image():
    corruption = Corruption(views=[View("seen", mask=masks.Random(0.5)), View("noised", noise=Gaussian())])
    images = np.random.default_rng(0).normal(size=(3, 4, 4, 1)).astype("float32")
    draws = corruption.draw(images.shape, 2, seed=0)
    views = corruption.corrupt(images, draws, 2)
    for view in views.values():
        np.testing.assert_array_equal(array(view["x0"]), images)
    assert array(views["seen"]["timesteps"]).tolist() == [0, 0, 0]
    assert np.all(array(views["noised"]["timesteps"]) > 0)
    assert views["seen"]["visible"].shape == (3, 2)
    assert "visible" not in views["noised"]


@pytest.mark.host
def test_finetuning_keeps_at_most_5_percent_clean_and_masks_no_noisy_patch():
    ratios = Corruption.umd(schedule="linear").for_finetuning().get_config()
    assert (ratios["clean_ratio"], ratios["noisy_mask_ratio"], ratios["clean_mask_ratio"]) == (0.05, 0.0, 0.75)
    assert ratios["schedule"] == "linear"
    own = Corruption(views=[View("clean", mask=masks.ColorNoise("green"), share=1.0)])
    clean, noisy = own.for_finetuning().views
    assert (clean.share, noisy.share, noisy.mask) == (0.05, 0.95, None)
    assert clean.mask.color == "green"
    kept = Corruption(views=[View("a", Gaussian(), masks.Random(0.5), 0.5), View("b", Gaussian(), None, 0.5)])
    assert [(view.share, view.mask) for view in kept.for_finetuning().views] == [(0.5, None), (0.5, None)]
