import numpy as np
import pytest

from keras_umd.evaluation import KNNProbe, KNNSweep

pytestmark = pytest.mark.host


def clusters(num_images, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, num_images)
    centres = np.random.default_rng(9).normal(size=(4, 6))
    return centres[labels] + 0.9 * rng.normal(size=(num_images, 6)), labels


def test_all_settings_equal_scikit_learn():
    neighbors = pytest.importorskip("sklearn.neighbors")
    train, test = clusters(120, 0), clusters(80, 1)
    sweep = KNNSweep(ks=(1, 5, 40), temperatures=(0.05, 0.5))
    scores = sweep.sweep(train, test)
    assert set(scores) == {(k, t) for k in (1, 5, 40) for t in (0.05, 0.5)}
    for (k, temperature), accuracy in scores.items():
        judge = neighbors.KNeighborsClassifier(
            k, metric="cosine", algorithm="brute", weights=lambda d, t=temperature: np.exp(-d / t)
        )
        assert accuracy == judge.fit(*train).score(*test)
        assert accuracy == KNNProbe(k, temperature).accuracies(train, test)[0]
    assert len(set(scores.values())) > 2


def test_settings_are_chosen_without_the_test_images():
    train, test = clusters(200, 0), clusters(80, 1)
    sweep = KNNSweep(ks=(1, 30, 10_000), temperatures=(0.1,))  # more neighbours than there are images
    (accuracy,) = sweep.accuracies(train, test)
    assert sweep.chosen == (30, 0.1)
    assert accuracy == KNNProbe(30, 0.1).accuracies(train, test)[0]
    wrong = test[0], (test[1] + 1) % 4
    sweep.accuracies(train, wrong)
    assert sweep.chosen == (30, 0.1)
