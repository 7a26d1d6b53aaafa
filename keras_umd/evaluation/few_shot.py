"""The few-shot probe: ridge regression on the features of a few images of each class."""

import numpy as np

from keras_umd.evaluation.probes import Probe, blocks, check_labelled, checked_sets
from keras_umd.utils.checks import as_numbers, check_integers, check_numbers, check_positive_integers, require

BIAS_FEATURE = 100.0
MAX_CLASSES = 1_000_000  # a vector of the features' width each


class RidgeClassifier:
    """Linear classifier by ridge regression to one-hot targets, as in the paper and big_vision's few-shot evaluator.

    Features are standardized with mean and standard deviation of the training set, a constant feature of 100 serves as
    the bias, targets are -1 and 1, and the weights are `(A'A + l2 I)^-1 A'y`. All in float64: in float32 the solution
    is off by up to 5e-3.

    Example:

    >>> classifier = evaluation.RidgeClassifier()
    >>> classifier.fit(features[:45], feature_labels[:45])
    >>> accuracy = classifier.accuracy(features[45:], feature_labels[45:])

    Args:
        l2: Positive float. Strength of the ridge penalty, on the bias too.
    """

    def __init__(self, l2=1024.0):
        check_numbers("(0, inf)", l2=l2)
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
        check_integers(int(labels.max()) + 1, MAX_CLASSES, optional=True, num_classes=num_classes)
        num_classes = int(labels.max()) + 1 if num_classes is None else num_classes
        self._mean = features.mean(axis=0, dtype="float64")
        squares = sum(((block - self._mean) ** 2).sum(axis=0) for block in blocks(features))
        self._deviation = np.sqrt(squares / len(features)) + 1e-5
        n, dim = len(features), features.shape[1] + 1
        if n < dim:  # the dual form: the same solution from the smaller linear system
            a, targets = self._design(features), _targets(labels, num_classes)
            self.weights = a.T @ np.linalg.solve(a @ a.T + self.l2 * np.eye(n), targets)
        else:
            gram, moments = self.l2 * np.eye(dim), np.zeros((dim, num_classes))
            for block, block_labels in zip(blocks(features), blocks(labels), strict=True):
                a = self._design(block)
                gram += a.T @ a
                moments += a.T @ _targets(block_labels, num_classes)
            self.weights = np.linalg.solve(gram, moments)
        return self

    def scores(self, features):
        """Scores of shape `(n, num_classes)`; the largest is the predicted class."""
        features = as_numbers(features=features, finite=False)
        require(
            features.ndim == 2 and features.shape[1] == len(self._mean),
            f"`features` must have shape (n, {len(self._mean)}), as those of `fit`.",
            f"features of shape {features.shape}",
        )
        return self._design(features) @ self.weights

    def accuracy(self, features, labels):
        """Share of `features` whose largest score is that of their label; a float in [0, 1]."""
        features, labels = check_labelled(features, labels)
        return float(
            np.mean(np.concatenate([self.scores(block).argmax(axis=1) for block in blocks(features)]) == labels)
        )

    def _design(self, features):
        standardized = (features - self._mean) / self._deviation
        return np.concatenate([standardized, np.full((len(features), 1), BIAS_FEATURE)], axis=1)


class FewShotProbe(Probe):
    """The paper's probe: a `RidgeClassifier` fitted to a few labelled images of each class.

    Example:

    >>> probe = evaluation.FewShotProbe(shots=10, num_draws=3)
    >>> accuracies = probe.accuracies((features[:45], feature_labels[:45]), (features[45:], feature_labels[45:]))
    >>> len(accuracies)
    3

    Args:
        shots: Integer. Images of each class, drawn at random without replacement; `None` for all.
        num_draws: Integer. Number of draws, each with a fit; 1 where all images are used.
        l2: Positive float, see `RidgeClassifier`.
        seed: Integer, for the draws.
    """

    def __init__(self, shots=10, num_draws=5, l2=1024.0, seed=0):
        check_integers(1, optional=True, shots=shots)
        check_positive_integers(num_draws=num_draws)
        check_integers(0, seed=seed)
        self.shots = None if shots is None else int(shots)
        self.num_draws = int(num_draws) if shots is not None else 1
        self.l2 = l2
        self.seed = int(seed)
        self.classifier = RidgeClassifier(l2)

    @property
    def name(self):
        return "ridge accuracy" if self.shots is None else f"{self.shots}-shot accuracy"

    def accuracies(self, train, test):
        """The accuracy on the test set after each draw.

        Raises:
            ValueError: if a class has fewer than `shots` training images, or features and labels don't fit.
        """
        (features, labels), test = checked_sets(train, test)
        num_classes = int(max(labels.max(), test[1].max())) + 1
        draws = (self._chosen(labels, draw) for draw in range(self.num_draws))
        return [self.classifier.fit(features[i], labels[i], num_classes).accuracy(*test) for i in draws]

    def _chosen(self, labels, draw):
        if self.shots is None:
            return slice(None)
        members = {label: np.flatnonzero(labels == label) for label in np.unique(labels)}
        for label, images in members.items():
            require(
                len(images) >= self.shots, f"Class {label} has {len(images)} training images.", f"shots={self.shots}"
            )
        rng = np.random.default_rng([self.seed, draw])
        return np.concatenate([rng.choice(images, self.shots, replace=False) for images in members.values()])


def _targets(labels, num_classes):
    return 2.0 * (labels[:, None] == np.arange(num_classes)) - 1.0
