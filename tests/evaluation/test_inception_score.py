import numpy as np
import pytest

from keras_umd.evaluation.image_scores import inception_score, softmax

pytestmark = pytest.mark.host


@pytest.mark.parametrize("case", ["is.n200", "is.n205"])
@pytest.mark.parametrize(("splits", "name"), [(10, "inception_score"), (1, "inception_score_splits1")])
def test_score_equals_the_authors(golden, case, splits, name):
    values = golden("fid_is")
    mean, deviation = inception_score(values[f"{case}.p_yx"], splits)
    np.testing.assert_allclose(mean, values[f"{case}.{name}"], rtol=1e-12)
    assert (deviation == 0) == (splits == 1)


def test_certain_images_of_all_classes_score_the_number_of_classes():
    """All other probabilities are 0, of which the logarithm is not taken."""
    assert inception_score(np.eye(7), splits=1) == (pytest.approx(7), 0)
    assert inception_score(np.eye(7)[[0, 0, 1, 1]], splits=1) == (pytest.approx(2), 0)


def test_images_that_look_the_same_to_the_classifier_score_one():
    assert inception_score(np.full((20, 5), 0.2)) == (pytest.approx(1), pytest.approx(0))
    assert inception_score(np.eye(5)[np.full(20, 3)]) == (pytest.approx(1), pytest.approx(0))


def test_mean_and_deviation_are_over_consecutive_parts():
    """Of 5 images the first part has 2, of the same class, and the second 3, of three classes."""
    assert inception_score(np.eye(4)[[1, 1, 0, 2, 3]], splits=2) == (pytest.approx(2), pytest.approx(1))


def test_softmax_keeps_probabilities_that_are_tiny_and_logits_that_are_large():
    probabilities = softmax(np.array([[0, -600], [1000, 1000]], "float32"))
    np.testing.assert_allclose(probabilities, [[1, np.exp(-600)], [0.5, 0.5]])
    assert probabilities.dtype == "float64"


def test_float16_probabilities_are_enough():
    probabilities = softmax(np.random.default_rng(0).normal(size=(100, 1000)))
    expected = inception_score(probabilities)
    np.testing.assert_allclose(inception_score(probabilities.astype("float16")), expected, rtol=1e-3)


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda: inception_score(np.full((9, 2), 0.5)), r"shape \(9, 2\), splits=10"),
        (lambda: inception_score(np.full(20, 0.5)), r"shape \(20,\)"),
        (lambda: inception_score(np.full((9, 2), 0.5), splits=0), "splits=0"),
        (lambda: inception_score(np.full((20, 2), 2.0)), "softmax of logits"),
        (lambda: inception_score(np.tile([2.0, -1.0], (20, 1))), "from -1.0 to 2.0"),
        (lambda: inception_score(np.full((20, 2), np.nan)), "from nan"),
    ],
)
def test_wrong_arguments_are_named(use, message):
    with pytest.raises(ValueError, match=message):
        use()
