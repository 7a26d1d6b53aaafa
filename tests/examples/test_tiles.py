"""Tiles of tissue: which they are, that they are tissue, and that a run goes on with those that were next."""

import runpy

import keras
import numpy as np
import pytest

import keras_umd
from keras_umd import Corruption, callbacks
from keras_umd.data import Order
from tests.examples.conftest import EXAMPLES

pytestmark = [pytest.mark.system, pytest.mark.docs]
SATURATION, SHARE, TILE = 0.2, 0.6, 8


@pytest.fixture(scope="module")
def example():
    return runpy.run_path(str(EXAMPLES / "tiles.py"))


@pytest.fixture(scope="module")
def pictures():
    """Glass, a little uneven, and on it spots of tissue of uneven colours; the second has only one."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:67, :101]
    found = []
    for spots in ([(20, 25, 16), (50, 80, 14), (10, 90, 6)], [(30, 40, 12)]):
        picture = rng.integers(225, 245, (67, 101, 1)).repeat(3, axis=2)
        for row, column, radius in spots:
            inside = (rows - row) ** 2 + (columns - column) ** 2 < radius**2
            picture[inside] = rng.integers((120, 40, 100), (220, 120, 180), (inside.sum(), 3))
        found.append(picture.astype("uint8"))
    return found


@pytest.fixture
def tissue(example, pictures):
    return example["Tissue"](pictures, [0, 1], TILE, SATURATION, SHARE)


def test_tiles_are_a_function_of_seed_epoch_and_index(example, pictures, tissue):
    images, labels = tissue.tiles(3, 5, range(40))
    again = example["Tissue"](pictures, [0, 1], TILE, SATURATION, SHARE)
    np.testing.assert_array_equal(again.tiles(3, 5, [17, 2])[0], images[[17, 2]])
    assert images.shape == (40, TILE, TILE, 3) and set(labels) == {0, 1}
    draws = {(seed, epoch): [tissue.draw(seed, epoch, i) for i in range(40)] for seed in (3, 4) for epoch in (5, 6)}
    assert len({tuple(drawn) for drawn in draws.values()}) == 4
    assert max(sum(a == b for a, b in zip(draws[3, 5], draws[other], strict=True)) for other in [(3, 6), (4, 5)]) < 5
    number, top, left, orientation = draws[3, 5][0]
    cut = pictures[number][top : top + TILE, left : left + TILE]
    turned = np.rot90(cut, orientation % 4)
    np.testing.assert_array_equal(images[0], turned[:, ::-1] if orientation > 3 else turned)


def test_tiles_are_tissue_and_all_tissue_is_a_tile(pictures, tissue):
    rgb_to_hsv = pytest.importorskip("matplotlib.colors").rgb_to_hsv
    for picture, corners in zip(pictures, tissue.corners, strict=True):
        is_tissue = rgb_to_hsv(picture / 255.0)[..., 1] > SATURATION
        windows = np.lib.stride_tricks.sliding_window_view(is_tissue, (TILE, TILE))[:: TILE // 4, :: TILE // 4]
        windows = windows[: 67 // 2 - 3, : 101 // 2 - 3]  # whole cells of the picture
        expected = np.argwhere(windows.mean(axis=(2, 3)) >= SHARE) * (TILE // 4)
        np.testing.assert_array_equal(corners, expected)
        assert 0 < len(corners) < windows.shape[0] * windows.shape[1] / 2
    drawn = {tissue.draw(0, 0, index)[:3] for index in range(2000)}
    every = {(number, *corner) for number, corners in enumerate(tissue.corners) for corner in corners.tolist()}
    assert drawn <= every and len(drawn) > 0.9 * len(every)


def test_glass_alone_is_refused(example):
    with pytest.raises(SystemExit, match="No tile"):
        example["Tissue"]([np.full((32, 32, 3), 240, "uint8")], [0], TILE, SATURATION, SHARE)


class Stop(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if batch == 4:
            raise KeyboardInterrupt


def trained(example, tissue, folder, *more):
    """A model after two epochs of six batches."""
    keras.utils.set_random_seed(0)
    sizes = {"patch_size": 4, "hidden_dim": 16, "num_layers": 1, "num_heads": 2, "decoder_layers": 1}
    model = keras_umd.UMD((TILE, TILE, 3), **sizes, corruption=Corruption.mae(), seed=0)
    model.compile("adam")
    tiles = example["dataset"](tissue, Order(24, 4, shuffle=False, drop_remainder=True, seed=1))
    every = [*more, *callbacks.standard(folder, dataset=tiles, save_freq=3)]
    model.fit(tiles, epochs=2, callbacks=every, verbose=0)
    return model


def test_a_stopped_run_ends_where_an_unbroken_one_does(example, tissue, tmp_path):
    whole = trained(example, tissue, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        trained(example, tissue, tmp_path / "broken", Stop())
    resumed = trained(example, tissue, tmp_path / "broken")
    assert int(resumed.optimizer.iterations) == 12
    for one, other in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_classes_are_those_of_the_training_folder(example, pictures, tmp_path):
    for folder, names in (("slides", ("first", "second")), ("others", ("second",)), ("wrong", ("second", "third"))):
        for name in names:
            (tmp_path / folder / name).mkdir(parents=True)
            np.save(tmp_path / folder / name / "slide.npy", pictures[0])
    names = example["class_names"](tmp_path / "slides")
    assert example["read"](tmp_path / "slides", names)[1] == [0, 1]
    assert example["read"](tmp_path / "others", names)[1] == [1]
    with pytest.raises(SystemExit, match=r"third.*those to train on are \['first', 'second'\]"):
        example["read"](tmp_path / "wrong", names)


def test_the_example_runs_on_a_folder_of_classes(pictures, run_example, tmp_path):
    pillow = pytest.importorskip("PIL.Image")
    for name, picture in zip(("first", "second"), pictures, strict=True):
        (tmp_path / "slides" / name).mkdir(parents=True)
        np.save(tmp_path / "slides" / name / "slide.npy", picture)
        (tmp_path / "others" / name).mkdir(parents=True)
        pillow.fromarray(picture).save(tmp_path / "others" / name / "slide.png")
    small = ("--tile", 8, "--tiles", 16, "--epochs", 2, "--batch-size", 8, "--test-tiles", 8, "--num-layers", 1)
    arguments = ("--data", "slides", "--test", "others", *small, "--hidden-dim", 16, "--num-heads", 2)
    printed = run_example("tiles.py", *arguments)
    assert "2 pictures" in printed and "mean colour: 0." in printed and "ridge accuracy" in printed
    assert (tmp_path / "runs" / "tiles" / "reconstructions.png").exists()
    again = run_example("tiles.py", *arguments)
    assert "finished its 2 epochs" in again and again.endswith(printed[printed.index("Error of") :])
