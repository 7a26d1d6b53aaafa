"""The probe by nearest neighbours, which trains nothing."""

import numpy as np

from keras_umd.evaluation.probes import Probe, checked_sets
from keras_umd.utils.checks import check_numbers, check_positive_integers, require

TEST_BLOCK = 512  # test images that look for their neighbours at a time


class KNNProbe(Probe):
    """Classifies each test image by a weighted vote of its nearest training images.

    Neighbours are found by cosine similarity; a vote weighs exp(similarity / temperature), as in Wu et al., 2018, and
    DINO.

    Example:

    >>> probe = evaluation.KNNProbe(k=5)
    >>> accuracies = probe.accuracies((features[:45], feature_labels[:45]), (features[45:], feature_labels[45:]))

    Args:
        k: Integer. Number of neighbours.
        temperature: Positive float.
    """

    def __init__(self, k=20, temperature=0.07):
        check_positive_integers(k=k)
        check_numbers("(0, inf)", temperature=temperature)
        self.k = int(k)
        self.temperature = temperature

    @property
    def name(self):
        return f"{self.k}-NN accuracy"

    def accuracies(self, train, test):
        """The accuracy on the test set, a list of one: nothing is random."""
        (features, labels), (test_features, test_labels) = checked_sets(train, test)
        require(self.k <= len(features), f"There are {len(features)} training images.", f"k={self.k}")
        features, test_features = directions(features), directions(test_features)
        num_classes = int(labels.max()) + 1
        num_right = 0
        for start in range(0, len(test_features), TEST_BLOCK):
            part = slice(start, start + TEST_BLOCK)
            cosines = test_features[part] @ features.T  # (block, n)
            nearest = np.argpartition(-cosines, self.k - 1, axis=1)[:, : self.k]
            cosines = np.take_along_axis(cosines, nearest, axis=1)
            sums = votes_of(cosines, labels[nearest], self.temperature, num_classes)
            num_right += np.sum(sums.argmax(axis=1) == test_labels[part])
        return [float(num_right / len(test_features))]


def votes_of(cosines, labels, temperature, num_classes):
    """The votes for each class, `(n, num_classes)`, of neighbours with `cosines` and `labels` `(n, k)`."""
    votes = np.exp((cosines - cosines.max(axis=1, keepdims=True)) / temperature)
    places = np.arange(len(votes))[:, None] * num_classes + labels
    sums = np.bincount(places.ravel(), votes.ravel(), minlength=len(votes) * num_classes)
    return sums.reshape(-1, num_classes)


def directions(features):
    """Features of length 1, in float64."""
    features = features.astype("float64")
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
