import gc

import numpy as np
import pytest

from keras_umd import plots
from keras_umd.plots.progress import _panels

pytestmark = pytest.mark.host


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
    panels = _panels(curves(*LOSSES, "accuracy", "val_accuracy"), curves(*SCORES, "accuracy"))
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
