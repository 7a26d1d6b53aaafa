import gc

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


def test_saved_picture_is_the_grid(tmp_path):
    image = pytest.importorskip("matplotlib.image")
    grid = np.random.default_rng(0).integers(0, 256, (4, 5, 3)).astype("uint8")
    plots.save_image(tmp_path / "new" / "grid.png", grid)
    np.testing.assert_allclose(image.imread(tmp_path / "new" / "grid.png")[..., :3] * 255, grid, atol=0.5)


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


def test_the_guidance_grid_has_a_cell_for_each_scale_and_number_of_steps():
    pytest.importorskip("matplotlib")

    class Model:
        def generate(self, labels, guidance_scale, num_steps, seed):
            return np.full((len(labels), 20, 20, 1), 10 * guidance_scale + num_steps, "uint8")

    picture = plots.guidance_grid(Model(), [0, 1, 2, 3], guidance_scales=(1, 2), num_steps=(3, 5, 7))
    rows = {tuple(np.unique(row)[:-1]) for row in picture[..., 0]}
    for guidance_scale in (1, 2):
        assert any({10 * guidance_scale + steps for steps in (3, 5, 7)} <= set(row) for row in rows)


def curves(*names, points=1):
    return {name: [(step, 2.0 / step) for step in range(1, points + 1)] for name in names}


LOSSES, SCORES = ("loss", "val_loss", "learning_rate"), ("probe/10-shot", "probe/knn", "distance/fid", "rank")


@pytest.mark.parametrize("points", [1, 800])
@pytest.mark.parametrize("losses", [(), LOSSES])
@pytest.mark.parametrize("scores", [(), SCORES])
def test_progress_is_drawn_whatever_there_is_of_it(points, losses, scores):
    pytest.importorskip("matplotlib")
    drawn = plots.progress(curves(*losses, points=points), curves(*scores, points=points), title="step 1")
    assert drawn.dtype == np.uint8 and drawn.shape[0] <= 1000 and drawn.shape[1] == 900
    blue = (drawn == (31, 119, 180)).all(-1)  # the first curve of every panel
    assert blue.any() == bool(losses or scores)


@pytest.mark.parametrize("names", [(), LOSSES])
def test_progress_shows_the_pictures_as_large_as_fits(names):
    pytest.importorskip("matplotlib")
    pictures = {
        "samples": np.full((50, 100, 3), (1, 200, 3), "uint8"),
        "tall": np.full((90, 30, 3), (200, 1, 3), "uint8"),
    }
    drawn = plots.progress(curves(*names), {}, pictures)
    assert drawn.shape == (700, 1600 if names else 700, 3)
    samples, tall = ((drawn == picture[0, 0]).all(-1) for picture in pictures.values())
    for shown, ratio in ((samples, 0.5), (tall, 3)):
        height, width = shown.any(1).sum(), shown.any(0).sum()
        assert height == pytest.approx(ratio * width, rel=0.05) and shown.sum() > 0.95 * height * width
    assert samples.sum() + tall.sum() > 0.25 * 700 * 700


def test_panels_are_groups_of_names():
    panels = plots._panels(curves(*LOSSES, "accuracy", "val_accuracy"), curves(*SCORES, "accuracy"))
    assert [(heading, list(names)) for heading, names in panels] == [
        ("losses", ["loss", "val_loss"]),
        ("learning_rate", ["learning_rate"]),
        ("accuracy", ["accuracy", "val_accuracy"]),
        ("probe", ["10-shot", "knn"]),
        ("distance/fid", ["fid"]),
        ("rank", ["rank"]),
        ("accuracy", ["accuracy"]),
    ]


def test_drawn_progress_takes_no_memory():
    figure = pytest.importorskip("matplotlib.figure")
    for _ in range(3):
        plots.progress(curves("loss"), {})
    gc.collect()
    assert not any(type(thing) is figure.Figure for thing in gc.get_objects())


def test_heat_maps_show_a_sweep_with_the_best_outlined():
    settings = [(sampler, steps, scale) for sampler in ("ddim", "heun") for steps in (10, 20) for scale in (1.0, 2.0)]
    table = [
        {"sampler": sampler, "num_steps": steps, "guidance_scale": scale, "fid": float(i)}
        for i, (sampler, steps, scale) in enumerate(settings)
    ]
    pictures = [plots.heatmaps(table, "fid", "guidance_scale", "num_steps", smallest) for smallest in (True, False)]
    for picture, is_left in zip(pictures, (True, False), strict=True):
        assert picture.dtype == np.uint8 and picture.shape[-1] == 3
        red = np.argwhere((picture == (255, 0, 0)).all(axis=-1))
        assert len(red) > 50  # around the first cell of the left panel, or the last one of the right
        assert (red[:, 1].max() < picture.shape[1] / 2) == is_left
    with pytest.raises(ValueError, match="'kid'"):
        plots.heatmaps(table, "kid", "guidance_scale", "num_steps")


def test_every_point_and_every_cell_is_drawn():
    alone = plots.scatter({"a": (1.0, 0.5, None)}, "cost", "accuracy")
    both = plots.scatter({"a": (1.0, 0.5, None), "b": (2.0, 0.7, 0.1)}, "cost", "accuracy")
    assert alone.dtype == np.uint8 and alone.shape == both.shape and alone.shape[-1] == 3

    def coloured(picture, blue):  # the first point is blue, the second orange
        red, _, last = np.moveaxis(picture.astype(int), -1, 0)
        return np.any(last - red > 80) if blue else np.any(red - last > 80)

    assert coloured(alone, blue=True) and not coloured(alone, blue=False)
    assert coloured(both, blue=True) and coloured(both, blue=False)

    colours = [(250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 250, 0)]
    cells = [np.full((40, 60, 3), colour, "uint8") for colour in colours]
    picture = plots.captioned([cells[:2], cells[2:]], ["up", "down"], ["left", "right"])
    centers = [np.argwhere((picture == colour).all(axis=-1)).mean(axis=0) for colour in colours]
    assert centers[0][0] < centers[2][0] and centers[0][1] < centers[1][1]
    assert centers[1][0] < centers[3][0] and centers[2][1] < centers[3][1]
