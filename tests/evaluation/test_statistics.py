import numpy as np
import pytest

from keras_umd.evaluation.statistics import BUFFERED_IMAGES, FeatureStatistics, checked_sets

pytestmark = pytest.mark.host


@pytest.fixture
def features():
    """More than are buffered, correlated, with a mean of 10,000 deviations."""
    rng = np.random.default_rng(0)
    return 1e4 + rng.normal(size=(2 * BUFFERED_IMAGES + 333, 6)) @ rng.normal(size=(6, 6))


def statistics_of(*batches):
    statistics = FeatureStatistics(batches[0].shape[1])
    for batch in batches:
        statistics.update(batch)
    return statistics


def assert_same(statistics, features):
    assert statistics.num_images == len(features)
    # Of a float64 mean, 1e4 to 16 digits, the products of deviations of about 2 can keep 11 digits, not 8 as with
    # the difference of E[xx'] and E[x]E[x]'.
    np.testing.assert_allclose(statistics.mean, features.mean(axis=0), rtol=1e-14)
    expected = np.cov(features, rowvar=False)
    np.testing.assert_allclose(statistics.covariance, expected, atol=1e-11 * np.abs(expected).max())


@pytest.mark.parametrize("batch_size", [1, 7, 1000, BUFFERED_IMAGES, 10_000])
def test_batches_of_any_size_give_the_same(features, batch_size):
    starts = range(0, len(features), batch_size)
    statistics = statistics_of(*(features[start : start + batch_size] for start in starts))
    assert_same(statistics, features)
    whole = statistics_of(features)
    np.testing.assert_array_equal(statistics.mean, whole.mean)
    np.testing.assert_array_equal(statistics.covariance, whole.covariance)


def test_reading_between_batches_changes_nothing(features):
    statistics = FeatureStatistics(6)
    for end in (3, 700, 702, len(features)):
        statistics.update(features[statistics.num_images : end])
        assert_same(statistics, features[:end])


def test_sets_made_in_parts_are_merged(features):
    statistics, other = statistics_of(features[:1500]), statistics_of(features[1500:])
    statistics.merge(other)
    statistics.merge(FeatureStatistics(6))
    assert_same(statistics, features)
    assert_same(other, features[1500:])
    start = FeatureStatistics(6)
    start.merge(statistics)
    assert_same(start, features)


def test_what_is_read_is_not_what_is_counted_on(features):
    statistics = statistics_of(features)
    statistics.mean[:] = 0
    statistics.covariance[:] = 0
    assert_same(statistics, features)


def test_features_of_float32_are_taken_as_they_are():
    features = np.random.default_rng(0).normal(100, 1, (400, 3)).astype("float32")
    assert_same(statistics_of(features), features.astype("float64"))


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused_and_not_counted(wrong):
    statistics = statistics_of(np.ones((2, 3)))
    features = np.zeros((5, 3))
    features[3:, 1] = wrong
    with pytest.raises(ValueError, match="in 2 rows, first 3"):
        statistics.update(features)
    assert statistics.num_images == 2
    np.testing.assert_array_equal(statistics.covariance, np.zeros((3, 3)))


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda: FeatureStatistics(0), "dim=0"),
        (lambda: FeatureStatistics(3).update(np.zeros(3)), r"shape \(3,\)"),
        (lambda: FeatureStatistics(3).update(np.zeros((2, 4))), r"\(batch, 3\).*shape \(2, 4\)"),
        (lambda: FeatureStatistics(3).mean, "at least 1 .*num_images=0"),
        (lambda: statistics_of(np.zeros((1, 3))).covariance, "at least 2 .*num_images=1"),
        (lambda: FeatureStatistics(3).merge(FeatureStatistics(4)), "dim=4"),
        (lambda: checked_sets(np.zeros((3, 2)), np.full((3, 2), np.nan)), "3 rows"),
    ],
)
def test_wrong_arguments_are_named(use, message):
    with pytest.raises(ValueError, match=message):
        use()
