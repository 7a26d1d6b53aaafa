"""A policy on frozen features: the task is what it says, and the encoder stays what it was."""

import argparse
import re
import runpy

import keras
import numpy as np
import pytest

import keras_umd
from keras_umd import Corruption
from tests.examples.conftest import EXAMPLES

pytestmark = [pytest.mark.system, pytest.mark.docs]


@pytest.fixture(scope="module")
def example():
    return runpy.run_path(str(EXAMPLES / "frozen_features.py"))


@pytest.fixture
def scenes(example):
    return example["Scenes"].drawn(np.random.default_rng(0), 50)


def test_the_law_halves_the_way_and_gets_there(example, scenes):
    near = scenes.discs[:, 0] + [0.3, -0.1]
    after = example["Scenes"](near, scenes.discs, scenes.colors).after(example["law"])
    np.testing.assert_allclose(after.hand - scenes.discs[:, 0], np.tile([0.3, -0.1], (50, 1)) / 2**20, atol=1e-12)
    assert example["outcome"](scenes.after(example["law"]))[0] == 1.0
    assert example["outcome"](scenes)[0] < 0.2


def test_pictures_show_what_there_is(example):
    places = np.array([[[0.5, -0.25], [-0.5, 0.5], [-0.5, -0.5]]])  # (x, y); y goes down
    colors = np.array([[[1, 0.1, 0.1], [0, 1, 0], [0, 0, 1]]])
    image = example["draw"](example["Scenes"](np.array([[0.0, 0.25]]), places, colors))[0]
    assert image.shape == (32, 32, 3) and image.dtype == np.uint8
    at = {"red": (12, 24), "green": (24, 8), "blue": (8, 8), "hand": (20, 16), "nothing": (2, 16)}
    expected = {
        "red": (255, 26, 26),
        "green": (0, 255, 0),
        "blue": (0, 0, 255),
        "hand": 3 * (255,),
        "nothing": 3 * (51,),
    }
    for name, (row, column) in at.items():
        np.testing.assert_allclose(image[row, column], expected[name], atol=10, err_msg=name)  # an edge is soft
    is_red = (image[..., 0] > 200) & (image[..., 1] < 100)
    assert is_red.sum() == pytest.approx(np.pi * 3.2**2, rel=0.15)  # the radius in pixels


def test_the_encoder_is_frozen(example, scenes):
    keras.utils.set_random_seed(0)
    sizes = {"patch_size": 8, "hidden_dim": 16, "num_layers": 1, "num_heads": 2, "decoder_layers": 1}
    encoder = keras_umd.UMD((32, 32, 3), **sizes, corruption=Corruption.mae()).feature_extractor()
    before = encoder.get_weights()
    recorded = example["demonstrate"](scenes)
    assert [len(x) for x in recorded] == [50 * 5] * 3
    args = argparse.Namespace(epochs=4, batch_size=25)
    head, error = example["cloned"](args, encoder, recorded, recorded)
    for one, other in zip(before, encoder.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert error < np.mean((recorded[2] / 0.2) ** 2)  # of standing still
    images, state = keras.Input((32, 32, 3), dtype="uint8"), keras.Input((2,))
    policy = keras.Model([images, state], head([encoder(images), state]))
    apart = head.predict([encoder.predict(recorded[0][:8], verbose=0), recorded[1][:8]], verbose=0)
    np.testing.assert_allclose(policy.predict([recorded[0][:8], recorded[1][:8]], verbose=0), apart, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*rate")
def test_the_table_has_all_rows(run_example):
    small = ("--frames", 64, "--steps", 2, "--demonstrations", 4, "--epochs", 1, "--episodes", 4, "--seeds", 0, 1)
    printed = run_example("frozen_features.py", *small)
    rows = dict(re.findall(r"^\| ([\w, ]+) \| (.*) \|$", printed, re.MULTILINE))
    names = ["the control law", "frozen MAE", "frozen, random weights", "pixels", "blind"]
    assert list(rows)[1:] == names
    assert all(re.fullmatch(r"(\d+\.\d{3} \+- \d+\.\d{3}( \| )?){3}", rows[name]) for name in names)
    assert rows["the control law"].startswith("1.000 +- 0.000 | 0.000")
