import numpy as np
import pytest

from keras_umd import plots

pytestmark = pytest.mark.host


def test_grid_places_each_image():
    images = np.arange(5, dtype="uint8")[:, None, None, None] * np.ones((5, 2, 3, 1), "uint8")
    grid = plots.image_grid(images, columns=3, scale=2)
    assert grid.shape == (2 * 5 + 1, 3 * 7 + 1, 3)
    for i in range(5):
        row, column = divmod(i, 3)
        assert np.all(grid[1 + row * 5 : 5 + row * 5, 1 + column * 7 : 7 + column * 7] == i)
    assert np.all(grid[0] == 255)


def test_reconstructions_stand_under_their_originals():
    images = np.full((4, 2, 2, 3), 10, "uint8")
    grid = plots.reconstruction_grid(images, {"masked": images + 1, "reconstruction": images + 2})
    assert grid[1, 1, 0] == 10
    assert grid[4, 1, 0] == 11
    assert grid[7, 1, 0] == 12
    assert grid.shape == (10, 13, 3)


def test_other_arrays_are_refused():
    with pytest.raises(ValueError, match="float64"):
        plots.image_grid(np.zeros((1, 2, 2, 1)))


def test_strips_have_a_row_for_each_image():
    frames = np.arange(6, dtype="uint8").reshape(3, 2, 1, 1, 1) * np.ones((3, 2, 2, 2, 1), "uint8")
    picture = plots.strips(frames)
    assert picture.shape == (2 * 3 + 1, 3 * 3 + 1, 3)
    assert picture[1::3, 1::3, 0].tolist() == [[0, 2, 4], [1, 3, 5]]
    with pytest.raises(ValueError, match="num_frames"):
        plots.strips(frames[0])
