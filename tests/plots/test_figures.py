import numpy as np
import pytest

from keras_umd import plots

pytestmark = pytest.mark.host


@pytest.mark.parametrize("channels", [1, 3])
def test_saved_picture_is_the_image(tmp_path, channels):
    image = pytest.importorskip("matplotlib.image")
    grid = np.random.default_rng(0).integers(0, 256, (4, 5, channels)).astype("uint8")
    plots.save_image(tmp_path / "new" / "grid.png", grid)
    np.testing.assert_allclose(image.imread(tmp_path / "new" / "grid.png")[..., :3] * 255, grid + np.zeros(3), atol=0.5)


@pytest.mark.parametrize("scale", [1, 3])
def test_what_is_shown_is_the_picture_pixel_by_pixel(scale, monkeypatch):
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.switch_backend("agg")
    shown = []

    def show():
        canvas = plt.gcf().canvas
        canvas.draw()
        shown.append(np.asarray(canvas.buffer_rgba())[..., :3].copy())

    monkeypatch.setattr(plt, "show", show)
    images = np.random.default_rng(0).integers(0, 256, (6, 40, 50, 1)).astype("uint8")
    grid = plots.image_grid(images)
    plots.show(images, scale=scale)
    plots.show(grid)
    np.testing.assert_array_equal(shown[0], plots.image_grid(images, scale=scale))
    np.testing.assert_array_equal(shown[1], grid)
    assert not plt.get_fignums()
    with pytest.raises(ValueError, match="`images` must be uint8.*float64"):
        plots.show(grid / 255.0)
