import itertools
import sys
import types

import numpy as np
import pytest

from keras_umd.evaluation.image_scores import kernel_distance, squared_discrepancy

pytestmark = pytest.mark.host


def kernel(x, y):
    return (np.dot(x, y) / len(x) + 1) ** 3


def mean_kernel(pairs):
    return np.mean([kernel(x, y) for x, y in pairs])


@pytest.fixture
def sets():
    rng = np.random.default_rng(0)
    return rng.normal(size=(60, 8)), rng.normal(0.3, 1.5, size=(50, 8))


def test_discrepancy_is_the_mean_over_pairs(sets):
    x, y = sets[0][:9], sets[1][:7]
    expected = mean_kernel(itertools.permutations(x, 2)) + mean_kernel(itertools.permutations(y, 2))
    expected -= 2 * mean_kernel(itertools.product(x, y))
    assert squared_discrepancy(x, y) == pytest.approx(expected, rel=1e-12)


def test_discrepancy_is_torch_fidelitys(sets, monkeypatch):
    torchvision, datasets = types.ModuleType("torchvision"), types.ModuleType("torchvision.datasets")
    torchvision.datasets, datasets.CIFAR10, datasets.STL10 = datasets, object, object
    for module in (torchvision, datasets):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    metric_kid = pytest.importorskip("torch_fidelity.metric_kid", exc_type=ImportError)
    x, y = sets[0][:50], sets[1]
    expected = metric_kid.polynomial_mmd(x, y, degree=3, gamma=None, coef0=1)
    assert kernel_distance(x, y, num_subsets=3, subset_size=50) == (
        pytest.approx(expected, rel=1e-12),
        pytest.approx(0),
    )


def test_two_points_have_the_distance_of_the_kernel():
    """k(a, a) + k(b, b) - 2 k(a, b) for a = (1, 0) and b = (0, 2): 1.5^3 + 3^3 - 2."""
    x, y = np.tile([1, 0], (5, 1)), np.tile([0, 2], (6, 1))
    assert kernel_distance(x, y, num_subsets=2, subset_size=4) == (pytest.approx(28.375), 0)


def test_the_same_set_has_the_expectation_of_the_estimator(sets):
    """Pairs within a set are of different images, those between the sets of all: 2 / n of (distinct - equal) stays."""
    x = sets[0][:40]
    distinct, equal = mean_kernel(itertools.permutations(x, 2)), mean_kernel(zip(x, x, strict=True))
    mean, _ = kernel_distance(x, x, num_subsets=1, subset_size=40)
    assert mean == pytest.approx(2 / 40 * (distinct - equal), rel=1e-10)


def test_sets_of_the_same_distribution_have_no_distance_on_average():
    """200 independent pairs of 20 images; the mean is 0 within four of its standard errors."""
    rng = np.random.default_rng(0)
    distances = [squared_discrepancy(*rng.normal(1, 1, size=(2, 20, 4))) for _ in range(200)]
    assert abs(np.mean(distances)) < 4 * np.std(distances) / np.sqrt(200)


def test_subsets_follow_the_seed_and_have_the_whole_sets_distance_on_average(sets):
    first, again, other = (kernel_distance(*sets, 200, 20, seed) for seed in (0, 0, 1))
    assert first == again != other
    mean, deviation = first
    assert mean == pytest.approx(squared_discrepancy(*sets), abs=4 * deviation / np.sqrt(200))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "subset_size=1000, 60 features, 50 of the reference"),
        ({"subset_size": 51}, "pass a smaller one .*subset_size=51"),
        ({"subset_size": 1}, "subset_size=1,"),
        ({"num_subsets": 0}, "num_subsets=0"),
        ({"features": np.zeros((60, 7)), "subset_size": 5}, r"shape \(60, 7\)"),
    ],
)
def test_wrong_arguments_are_named(sets, arguments, message):
    with pytest.raises(ValueError, match=message):
        kernel_distance(**{"features": sets[0], "reference": sets[1], **arguments})
