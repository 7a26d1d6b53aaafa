import numpy as np
import pytest

from keras_umd.evaluation import KNNProbe

pytestmark = pytest.mark.host


def test_scikit_learn_agrees_on_the_digits():
    from sklearn.datasets import load_digits
    from sklearn.neighbors import KNeighborsClassifier

    digits = load_digits()
    x = digits.data + 0.01 * np.random.default_rng(0).normal(size=digits.data.shape)
    train, test = (x[:1000], digits.target[:1000]), (x[1000:], digits.target[1000:])
    for k, temperature in ((1, 0.07), (5, 0.07), (20, 0.5)):
        oracle = KNeighborsClassifier(
            k, metric="cosine", weights=lambda distances, t=temperature: np.exp((1 - distances) / t)
        ).fit(*train)
        assert KNNProbe(k, temperature).accuracies(train, test) == [oracle.score(*test)]


def test_nearer_neighbours_weigh_more():
    angles = np.radians([0, 40, 50])
    train = (np.stack([np.cos(angles), np.sin(angles)], axis=1), [0, 1, 1])
    test = (np.array([[3.0, 0.1]]), [0])  # nearly the direction of the first
    assert KNNProbe(3, temperature=0.07).accuracies(train, test) == [1.0]
    assert KNNProbe(3, temperature=10.0).accuracies(train, test) == [0.0]


def test_only_directions_count():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 5)), np.arange(60) % 3
    lengths = rng.uniform(0.1, 10, (60, 1))
    probe = KNNProbe(4)
    assert probe.accuracies((x, y), (x[::-1], y[::-1])) == probe.accuracies((x * lengths, y), (x[::-1], y[::-1]))


@pytest.mark.parametrize(("k", "message"), [(0, "k=0"), (4, "3 training images. Received: k=4")])
def test_wrong_arguments_are_named(k, message):
    with pytest.raises(ValueError, match=message):
        KNNProbe(k).accuracies((np.ones((3, 2)), [0, 1, 1]), (np.ones((1, 2)), [0]))
