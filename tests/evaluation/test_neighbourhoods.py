import numpy as np
import pytest

from keras_umd.evaluation import neighbourhoods
from keras_umd.evaluation.neighbourhoods import neighbourhood_scores, squared_radii

pytestmark = pytest.mark.host


@pytest.fixture
def small_blocks(monkeypatch):
    """So that 100 images are many blocks, the last one not full."""
    monkeypatch.setattr(neighbourhoods, "BLOCK_SIZE", 16)


def on_a_line(*points):
    return np.array(points, "float64")[:, None]


def distances(x, y):
    return np.linalg.norm(x[:, None] - y[None], axis=-1)


def scores_by_definition(features, reference, precision_k, coverage_k):
    def radii(x, k):
        return np.sort(distances(x, x), axis=1)[:, k]

    between = distances(features, reference)
    inside = between <= radii(reference, coverage_k)
    return {
        "precision": (between <= radii(reference, precision_k)).any(axis=1).mean(),
        "recall": (between <= radii(features, precision_k)[:, None]).any(axis=0).mean(),
        "density": inside.sum() / (coverage_k * len(features)),
        "coverage": inside.any(axis=0).mean(),
    }


def test_scores_equal_their_definition(small_blocks):
    rng = np.random.default_rng(0)
    features, reference = rng.normal(0.3, 0.8, (100, 4)), rng.normal(size=(70, 4))
    scores = neighbourhood_scores(features, reference, precision_k=2, coverage_k=4)
    expected = scores_by_definition(features, reference, 2, 4)
    assert scores == pytest.approx(expected, rel=1e-12)
    assert not {0, 1} & set(scores.values())


def test_radii_reach_to_the_nearest_others(small_blocks):
    x = np.random.default_rng(0).normal(1e4, 1, (70, 5)).astype("float32")
    expected = np.sort(distances(x.astype("float64"), x.astype("float64")), axis=1)
    radii = squared_radii(x, [1, 6], x.mean(axis=0))
    np.testing.assert_allclose(np.sqrt(radii), expected[:, [1, 6]].T, rtol=1e-10)


def test_a_dropped_mode_costs_recall_and_coverage_alone():
    """Worked out by hand. The reference's nearest others are at 1, their second nearest at 2 1 1 2, in either mode.

    Each image lies within 1 of the reference. Within 1 of an image lie four of the reference's eight. With balls that
    reach to the second nearest, those around 0, 1, 2, 3 hold 2, 2, 2, 3 of the images.
    """
    reference = on_a_line(0, 1, 2, 3, 10, 11, 12, 13)
    features = on_a_line(0.5, 1.5, 2.5, 3.5)
    scores = neighbourhood_scores(features, reference, precision_k=1, coverage_k=2)
    assert scores == {"precision": 1.0, "recall": 0.5, "density": 9 / (2 * 4), "coverage": 0.5}


def test_bad_images_cost_precision_and_density_alone():
    """The balls of 0, 1, 2 with radius 1 hold 2, 3, 2 of the images 0, 1, 2; those far away are far from each other."""
    features = on_a_line(0, 1, 2, 100, 200, 300)
    scores = neighbourhood_scores(features, on_a_line(0, 1, 2), precision_k=1, coverage_k=1)
    assert scores == {"precision": 0.5, "recall": 1.0, "density": 7 / 6, "coverage": 1.0}


def test_a_point_on_the_border_lies_in_the_ball():
    """-1 and 5 lie on the borders of the balls of 0 and 3, of radius 1 and 2, whose center of 4 / 3 is no float."""
    scores = neighbourhood_scores(on_a_line(-1, 5), on_a_line(0, 1, 3), precision_k=1, coverage_k=1)
    assert scores == {"precision": 1.0, "recall": 1.0, "density": 1.0, "coverage": 2 / 3}


@pytest.mark.parametrize("mean", [0, 1e4])
def test_the_same_set_overlaps_whole(small_blocks, mean):
    """A ball holds its own image and k others, the farthest of them on its border, also for rows in another order."""
    rng = np.random.default_rng(0)
    reference = rng.normal(mean, 1, (100, 32)).astype("float32")
    scores = neighbourhood_scores(rng.permutation(reference), reference)
    assert scores == {"precision": 1.0, "recall": 1.0, "density": 6 / 5, "coverage": 1.0}


def test_equal_images_are_near_each_other():
    """Of which the balls have no extent, and rounding must not push the images out of them."""
    reference = np.repeat(np.random.default_rng(0).normal(1, 1, (7, 300)), 6, axis=0)
    scores = neighbourhood_scores(reference[::-1], reference)
    assert scores == {"precision": 1.0, "recall": 1.0, "density": 6 / 5, "coverage": 1.0}


def test_sets_far_apart_do_not_overlap():
    features, reference = np.random.default_rng(0).normal(size=(2, 50, 8))
    assert set(neighbourhood_scores(features + 1e6, reference).values()) == {0.0}


def test_density_of_the_same_distribution_is_about_one():
    """Its expectation is 1 (Naeem et al., section 3.3); an image's count has a deviation of about 1, in units of k."""
    features, reference = np.random.default_rng(0).normal(size=(2, 1000, 2))
    assert neighbourhood_scores(features, reference)["density"] == pytest.approx(1, abs=4 / np.sqrt(1000))


@pytest.mark.parametrize(
    ("features", "arguments", "message"),
    [
        (np.zeros((5, 3)), {}, "coverage_k=5, 5 features"),
        (np.zeros((5, 3)), {"precision_k": 5, "coverage_k": 1}, "precision_k=5"),
        (np.zeros((9, 3)), {"coverage_k": 0}, "coverage_k=0"),
        (np.zeros((9, 2)), {}, r"shape \(9, 2\)"),
        (np.full((9, 3), np.nan), {}, "9 rows"),
    ],
)
def test_wrong_arguments_are_named(features, arguments, message):
    with pytest.raises(ValueError, match=message):
        neighbourhood_scores(features, np.zeros((9, 3)), **arguments)
