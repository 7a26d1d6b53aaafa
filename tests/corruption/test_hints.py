"""Masks that look: exact sets for given hints, and `Random` at their limits."""

import math

import keras
import numpy as np
import pytest

from keras_umd.corruption import masks
from keras_umd.corruption.view import View
from tests.conftest import array

GRID = (4, 5)
NUM = math.prod(GRID)
RNG = np.random.default_rng(0)
HINT = RNG.permuted(np.tile(np.arange(NUM), (6, 1)), axis=1).astype("float32") ** 2


def split(mask, draws, **hints):
    hints = {name: keras.ops.convert_to_tensor(hint) for name, hint in hints.items()}
    visible, masked = mask(keras.ops.convert_to_tensor(draws), GRID, hints)
    visible, masked = array(visible), array(masked)
    assert np.array_equal(np.sort(np.concatenate([visible, masked], axis=1)), np.tile(np.arange(NUM), (6, 1)))
    return visible, masked


def draws_for(mask):
    return RNG.uniform(size=(6, mask.num_draws(GRID))).astype("float32")


def test_attention_masks_what_is_looked_at_most_or_least():
    order = np.argsort(HINT, axis=1)
    high, low = masks.Attention(0.7, "high"), masks.Attention(0.7, "low")
    visible, masked = split(high, draws_for(high), attention=HINT)
    assert visible.shape[1] == 6 and np.array_equal(masked, order[:, 6:])
    assert np.array_equal(split(low, draws_for(low), attention=HINT)[1], order[:, ::-1][:, 6:])
    # Of the top 8 patches, 0.7 * 8 = 5 are shown, and of the others the one that is looked at least.
    hint = masks.Attention(0.7, "hint", show=0.4)
    visible, _ = split(hint, draws := draws_for(hint), attention=HINT)
    for row in range(6):
        top = order[row, -8:]
        shown = top[np.argsort(draws[row, :NUM][top])][:5]
        assert set(visible[row]) == {*shown, order[row, 0]}


def test_hard_patches_are_masked_and_their_share_rises():
    mask = masks.HardPatches(0.75, (0.0, 0.6), steps=100)
    draws, order = draws_for(mask), np.argsort(HINT, axis=1)
    for updates, num_hard in ((0, 0), (50, 4), (100, 9), (1e6, 9)):  # of 15
        hints = {"difficulty": HINT, "updates": np.full(6, updates, "float32")}
        visible, _ = split(mask, draws, **hints)
        for row in range(6):
            rest = order[row, : NUM - num_hard]
            assert set(visible[row]) == set(rest[np.argsort(draws[row][rest])][:5])


@pytest.mark.parametrize(
    "mask", [masks.Attention(0.75, probability=0.0), masks.HardPatches(0.75, 0.0), masks.Adaptive(0.75, floor=1.0)]
)
def test_a_mask_that_does_not_look_is_random_bit_for_bit(mask):
    draws, random = draws_for(mask), masks.Random(0.75)
    hints = dict.fromkeys(mask.reads, keras.ops.convert_to_tensor(-HINT))
    expected = random(keras.ops.convert_to_tensor(draws[:, :NUM]), GRID)
    for actual, known in zip(mask(keras.ops.convert_to_tensor(draws), GRID, hints), expected, strict=True):
        np.testing.assert_array_equal(array(actual), array(known))


@pytest.mark.host
def test_patches_are_shown_as_often_as_draws_without_replacement():
    probability = np.array([0.4, 0.2, 0.1, 0.1, 0.1, 0.1], "float32")
    draws = RNG.uniform(size=(20_000, 6)).astype("float32")
    hints = {"log_probability": np.tile(np.log(probability), (20_000, 1))}
    visible, _ = masks.Adaptive(0.5, floor=0.0)(draws, (2, 3), hints)
    shares = np.bincount(array(visible).ravel(), minlength=6) / 20_000
    # Enumerated: the chance to be among the first three.
    expected = np.zeros(6)
    for first in range(6):
        for second in set(range(6)) - {first}:
            for third in set(range(6)) - {first, second}:
                rest = 1 - probability[first]
                chance = probability[first] * probability[second] / rest
                chance *= probability[third] / (rest - probability[second])
                expected[[first, second, third]] += chance
    np.testing.assert_allclose(shares, expected, atol=0.015)


@pytest.mark.host
def test_what_is_not_given_is_named():
    with pytest.raises(ValueError, match=r"Attention reads hints of a teacher.*\['attention'\]"):
        View("clean", mask=masks.Attention()).split(keras.ops.ones((1, NUM + 1)), GRID)
    with pytest.raises(ValueError, match="`steps` are for a pair"):
        masks.HardPatches(share=(0.0, 0.5))
    with pytest.raises(ValueError, match="`steps` are for a pair"):
        masks.HardPatches(share=0.5, steps=3)
    with pytest.raises(ValueError, match="mode='most'"):
        masks.Attention(mode="most")


def test_a_running_cell_is_half_of_every_cell_and_turns_from_frame_to_frame():
    grid, mask = (4, 2, 6), masks.RunningCell()
    seen = np.zeros(48)
    for phase in range(4):
        draws = RNG.uniform(size=(1, 49)).astype("float32")
        draws[:, 48] = (phase + 0.5) / 4
        first = (array(mask.scores(keras.ops.convert_to_tensor(draws), grid)) < 1).reshape(grid)
        cells = first.reshape(4, 2, 3, 2).transpose(0, 2, 1, 3).reshape(4, 3, 4)  # frame, cell, place in it
        for frame in range(4):
            expected = np.roll([True, True, False, False], phase + frame)
            assert (cells[frame] == expected).all()
        seen += first.ravel()
    assert (seen == 2).all()  # the four phases see each patch twice
    view = View("clean", mask=masks.Shared(masks.Random(0.5)), decoded_ratio=0.5, decoded=mask)
    draws = RNG.uniform(size=(3, view.num_draws(grid))).astype("float32")
    chosen = view.split(keras.ops.convert_to_tensor(draws), grid)
    whole = View("clean", mask=view.mask).split(keras.ops.convert_to_tensor(draws), grid)
    width = view.mask.num_draws(grid)
    scores = array(mask.scores(keras.ops.convert_to_tensor(draws[:, width : width + 49]), grid))
    np.testing.assert_array_equal(array(chosen["visible"]), array(whole["visible"]))
    for row, decoded in enumerate(array(chosen["masked"])):
        masked = array(whole["masked"])[row]
        assert set(decoded) == set(masked[np.argsort(scores[row, masked])][:12])
    assert "decoded" in view.get_config() and "decoded" not in View("clean").get_config()
