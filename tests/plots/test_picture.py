import numpy as np
import pytest

from keras_umd import plots

pytestmark = pytest.mark.host


def test_a_notebook_shows_what_plots_return():
    image = pytest.importorskip("matplotlib.image")
    import io

    images = np.random.default_rng(0).integers(0, 256, (4, 3, 5, 3)).astype("uint8")
    for picture in (plots.image_grid(images), plots.scatter({"a": (1, 2, None)}, "x", "y")):
        shown = image.imread(io.BytesIO(picture._repr_png_()))[..., :3]
        np.testing.assert_allclose(255 * shown, np.asarray(picture), atol=0.5)
        assert picture[:4]._repr_png_()
        assert picture[0]._repr_png_() is None and picture[..., :1]._repr_png_() is None


def test_arithmetic_with_pictures_gives_plain_arrays():
    picture = plots.image_grid(np.full((1, 2, 2, 1), 7, "uint8"))
    assert isinstance(picture, np.ndarray) and type(picture / 2) is np.ndarray
    assert type(picture.max()) is np.uint8 and type(picture.mean(axis=0)) is np.ndarray
