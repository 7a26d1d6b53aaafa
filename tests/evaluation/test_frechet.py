import numpy as np
import pytest

from keras_umd.evaluation.image_scores import frechet_distance, gaussian_distance
from keras_umd.evaluation.statistics import FeatureStatistics

pytestmark = pytest.mark.host


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


def test_streamed_samples_approach_the_distance_of_the_closed_form():
    """100 batches of 400: n = 40,000 samples each of N(0, s^2) and N(shift, s'^2).

    The squared shift is off by a standard error of 2 |shift| sqrt((s^2 + s'^2) / n), the squared differences of the
    deviations s - s' by about 2 |s - s'| sqrt((s^2 + s'^2) / 2n), which is less in each feature here; four standard
    errors are allowed.
    """
    rng = np.random.default_rng(0)
    deviations, others, shift = np.array([[0.5, 1, 2], [1, 1, 1.5], [1, -2, 0.5]])
    streams = FeatureStatistics(3), FeatureStatistics(3)
    for _ in range(100):
        streams[0].update(deviations * rng.normal(size=(400, 3)))
        streams[1].update(shift + others * rng.normal(size=(400, 3)))
    moments = [moment for stream in streams for moment in (stream.mean, stream.covariance)]
    variances = 4 * shift**2 * (deviations**2 + others**2) / streams[0].num_images
    expected = np.sum(shift**2) + np.sum((deviations - others) ** 2)
    assert gaussian_distance(*moments) == pytest.approx(expected, abs=4 * np.sqrt(2 * variances.sum()))


def test_fewer_images_than_features_keep_the_distance_exact():
    """Of 20 images in 300 features: as in the 40 dimensions at most in which they and the reference lie."""
    rng = np.random.default_rng(0)
    sets = rng.normal(size=(2, 20, 40)) + 0.1
    rotation, _ = np.linalg.qr(rng.normal(size=(300, 40)))
    assert frechet_distance(*(sets @ rotation.T)) == pytest.approx(frechet_distance(*sets), rel=1e-9)
    assert frechet_distance(sets[0] @ rotation.T, sets[0][::-1] @ rotation.T) < 1e-9


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
