"""The few-shot linear probe: ridge regression in closed form."""

import numpy as np

from keras_umd.evaluation.probes import Probe, check_labelled
from keras_umd.utils.checks import check_positive_integers

BIAS_FEATURE = 100.0
BLOCK = 8192  # feature vectors that are converted to float64 at a time


class RidgeClassifier:
    """Linear classifier by ridge regression to one-hot targets, as in the paper and big_vision's few-shot evaluator.

    Features are standardized with mean and standard deviation of the training set, a constant feature of 100 serves as
    the bias, targets are -1 and 1, and the weights are `(A'A + l2 I)^-1 A'y`. All in float64: in float32 the solution
    is off by up to 5e-3.

    Args:
        l2: Positive float. Strength of the ridge penalty, on the bias too.
    """

    def __init__(self, l2=1024.0):
        if not l2 > 0:
            raise ValueError(f"`l2` must be positive. Received: l2={l2}")
        self.l2 = l2

    def fit(self, features, labels, num_classes=None):
        """Solve for the weights.

        Args:
            features: Array of shape `(n, dim)`.
            labels: Int array of shape `(n,)`.
            num_classes: Integer. Defaults to the largest label plus one.

        Returns:
            The classifier itself, with `weights` of shape `(dim + 1, num_classes)`.
        """
        features, labels = check_labelled(features, labels)
        num_classes = int(labels.max()) + 1 if num_classes is None else num_classes
        self._mean = features.mean(axis=0, dtype="float64")
        squares = sum(((block - self._mean) ** 2).sum(axis=0) for block in _blocks(features))
        self._deviation = np.sqrt(squares / len(features)) + 1e-5
        n, dim = len(features), features.shape[1] + 1
        if n < dim:  # the dual form: the same solution from the smaller linear system
            a, targets = self._design(features), _targets(labels, num_classes)
            self.weights = a.T @ np.linalg.solve(a @ a.T + self.l2 * np.eye(n), targets)
            return self
        gram, moments = self.l2 * np.eye(dim), np.zeros((dim, num_classes))
        for block, block_labels in zip(_blocks(features), _blocks(labels), strict=True):
            a = self._design(block)
            gram += a.T @ a
            moments += a.T @ _targets(block_labels, num_classes)
        self.weights = np.linalg.solve(gram, moments)
        return self

    def scores(self, features):
        """Scores of shape `(n, num_classes)`; the largest is the predicted class."""
        return self._design(np.asarray(features, "float64")) @ self.weights

    def accuracy(self, features, labels):
        """Share of `features` whose largest score is that of their label; a float in [0, 1]."""
        features, labels = check_labelled(features, labels)
        guesses = [self.scores(block).argmax(axis=1) for block in _blocks(features)]
        return float(np.mean(np.concatenate(guesses) == labels))

    def _design(self, features):
        standardized = (features - self._mean) / self._deviation
        return np.concatenate([standardized, np.full((len(features), 1), BIAS_FEATURE)], axis=1)


class FewShotProbe(Probe):
    """The paper's probe: a `RidgeClassifier` fitted to a few labelled images of each class.

    Example:

    >>> probe = FewShotProbe(shots=10, num_draws=5)
    >>> probe.accuracies((train_features, train_labels), (test_features, test_labels))
    [0.91, 0.92, 0.9, 0.92, 0.91]

    Args:
        shots: Integer. Images of each class, drawn at random without replacement; `None` for all.
        num_draws: Integer. Number of draws, each with a fit; 1 where all images are used.
        l2: Positive float, see `RidgeClassifier`.
        seed: Integer, for the draws.
    """

    def __init__(self, shots=10, num_draws=5, l2=1024.0, seed=0):
        if shots is not None:
            check_positive_integers(shots=shots)
        check_positive_integers(num_draws=num_draws)
        self.shots = shots
        self.num_draws = num_draws if shots is not None else 1
        self.l2 = l2
        self.seed = seed
        self.classifier = RidgeClassifier(l2)

    @property
    def name(self):
        return "ridge accuracy" if self.shots is None else f"{self.shots}-shot accuracy"

    def accuracies(self, train, test):
        """The accuracy on the test set after each draw.

        Raises:
            ValueError: if a class has fewer than `shots` training images, or features and labels don't fit.
        """
        features, labels = check_labelled(*train)
        num_classes = int(max(labels.max(), np.max(test[1]))) + 1
        accuracies = []
        for draw in range(self.num_draws):
            chosen = self._chosen(labels, draw)
            self.classifier.fit(features[chosen], labels[chosen], num_classes)
            accuracies.append(self.classifier.accuracy(*test))
        return accuracies

    def _chosen(self, labels, draw):
        if self.shots is None:
            return slice(None)
        rng = np.random.default_rng([self.seed, draw])
        chosen = []
        for label in np.unique(labels):
            members = np.flatnonzero(labels == label)
            if len(members) < self.shots:
                raise ValueError(f"Class {label} has {len(members)} training images. Received: shots={self.shots}")
            chosen.append(rng.choice(members, self.shots, replace=False))
        return np.concatenate(chosen)

    def get_config(self):
        return {"shots": self.shots, "num_draws": self.num_draws, "l2": self.l2, "seed": self.seed}


def _targets(labels, num_classes):
    return 2.0 * (labels[:, None] == np.arange(num_classes)) - 1.0


def _blocks(array):
    return (array[start : start + BLOCK] for start in range(0, len(array), BLOCK))
