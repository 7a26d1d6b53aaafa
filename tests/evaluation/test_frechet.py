import numpy as np
import pytest

from keras_umd.evaluation.frechet import frechet_distance, gaussian_distance


@pytest.mark.parametrize("case", ["full", "rank_deficient"])
def test_distance_equals_the_authors(golden, case):
    values = golden("fid_is")
    names = [f"fid.{case}.{name}" for name in ("mu1", "sigma1", "mu2", "sigma2")]
    expected = values[f"fid.{case}.distance_by_eigenvalues"]
    # Their means, and the difference of them, are float32.
    np.testing.assert_allclose(gaussian_distance(*(values[name] for name in names)), expected, rtol=2e-7)
    distance = frechet_distance(values[f"fid.{case}.acts1"], values[f"fid.{case}.acts2"])
    np.testing.assert_allclose(distance, expected, rtol=2e-7)


def test_shifted_and_scaled_gaussians_have_the_distance_of_the_closed_form():
    rng = np.random.default_rng(0)
    deviations, others, shift = rng.uniform(0.5, 2, (3, 7))
    distance = gaussian_distance(np.zeros(7), np.diag(deviations**2), shift, np.diag(others**2))
    np.testing.assert_allclose(distance, np.sum(shift**2) + np.sum((deviations - others) ** 2))


def test_the_same_set_has_no_distance():
    features = np.random.default_rng(0).normal(size=(50, 8))
    assert frechet_distance(features, features) < 1e-9
    np.testing.assert_allclose(frechet_distance(features, features + 1), 8)


def test_one_feature_is_enough():
    np.testing.assert_allclose(frechet_distance([[0.0], [2.0]], [[3.0], [5.0]]), 9)


@pytest.mark.parametrize("features", [np.zeros((4, 3)), np.zeros((1, 2)), np.zeros(4)])
def test_sets_that_do_not_fit_are_refused(features):
    with pytest.raises(ValueError, match="of shape"):
        frechet_distance(features, np.zeros((4, 2)))
