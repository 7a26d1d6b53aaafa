import numpy as np
import pytest

from keras_umd import plots

pytestmark = pytest.mark.host
IMAGES = np.full((2, 4, 6, 1), 9, "uint8")


def test_maps_lie_beside_their_images_and_the_most_telling_come_first():
    even = np.full((2, 6), 1 / 6)
    maps = np.stack([even, np.eye(6)[[0, 5]], np.array([[5, 1, 1, 1, 1, 1]] * 2) / 10, even], axis=1)
    picture = plots.attention_grid(IMAGES, maps, grid=(2, 3), num_queries=2)
    assert picture.shape == (2 * 4 + 3, 3 * 6 + 4, 3)
    assert (picture[1:5, 1:7] == 9).all()
    first = picture[1:5, 8:14]  # the second query: all on the first patch, 2 x 2 pixels
    assert first[:2, :2].min() > first[2:].max() and (first[2:] == first[3, 5]).all()
    assert picture[9, 13].sum() > picture[6, 8].sum()  # the other image's: on the last patch
    chosen = plots.attention_grid(IMAGES, maps, grid=(2, 3), queries=[0])
    assert len(np.unique(chosen[1:5, 8:14].reshape(-1, 3), axis=0)) == 1  # even: one colour


def test_maps_of_another_grid_are_refused():
    with pytest.raises(ValueError, match="grid"):
        plots.attention_grid(IMAGES, np.ones((2, 1, 6)), grid=(3, 3))
    with pytest.raises(ValueError, match="divide"):
        plots.attention_grid(IMAGES, np.ones((2, 1, 12)), grid=(3, 4))
