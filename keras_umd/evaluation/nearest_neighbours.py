"""The k-nearest-neighbours probe, which needs no training."""

import numpy as np

from keras_umd.evaluation.probes import Probe, check_labelled
from keras_umd.utils.checks import check_positive_integers

BLOCK = 512  # test images at a time


class KNNProbe(Probe):
    """Classifies each test image by a weighted vote of its nearest training images.

    Neighbours are found by cosine similarity; a vote weighs exp(similarity / temperature), as in Wu et al., 2018, and
    DINO.

    Args:
        k: Integer. Number of neighbours.
        temperature: Positive float.
    """

    def __init__(self, k=20, temperature=0.07):
        check_positive_integers(k=k)
        if not temperature > 0:
            raise ValueError(f"`temperature` must be positive. Received: temperature={temperature}")
        self.k = k
        self.temperature = temperature

    @property
    def name(self):
        return f"{self.k}-NN accuracy"

    def accuracies(self, train, test):
        """The accuracy on the test set, a list of one: nothing is random."""
        (features, labels), (test_features, test_labels) = check_labelled(*train), check_labelled(*test)
        if self.k > len(features):
            raise ValueError(f"There are {len(features)} training images. Received: k={self.k}")
        features, test_features = _directions(features), _directions(test_features)
        num_classes = int(labels.max()) + 1
        num_right = 0
        for start in range(0, len(test_features), BLOCK):
            part = slice(start, start + BLOCK)
            cosines = test_features[part] @ features.T  # (block, n)
            nearest = np.argpartition(-cosines, self.k - 1, axis=1)[:, : self.k]
            cosines = np.take_along_axis(cosines, nearest, axis=1)
            votes = np.exp((cosines - cosines.max(axis=1, keepdims=True)) / self.temperature)
            places = np.arange(len(votes))[:, None] * num_classes + labels[nearest]
            sums = np.bincount(places.ravel(), votes.ravel(), minlength=len(votes) * num_classes)
            num_right += np.sum(sums.reshape(-1, num_classes).argmax(axis=1) == test_labels[part])
        return [float(num_right / len(test_features))]

    def get_config(self):
        return {"k": self.k, "temperature": self.temperature}


def _directions(features):
    """Features of length 1, in float64."""
    features = features.astype("float64")
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
