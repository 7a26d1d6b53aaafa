"""The few-shot linear probe: ridge regression in closed form."""

import numpy as np

BIAS_FEATURE = 100.0


class FewShotProbe:
    """Linear classifier by ridge regression to one-hot targets, as the paper probes (big_vision's few-shot evaluator).

    Features are whitened with mean and standard deviation of the training set, a constant feature of 100 makes the
    bias, targets are -1 and 1, and the weights are `(A'A + l2 I)^-1 A'y`. All in float64: in float32 the solution is
    off by up to 5e-3.

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
            The probe itself, with `weights` of shape `(dim + 1, num_classes)`.
        """
        features, labels = _checked(features, labels)
        num_classes = int(labels.max()) + 1 if num_classes is None else num_classes
        self._mean, self._deviation = features.mean(axis=0), features.std(axis=0) + 1e-5
        a = self._design(features)
        targets = 2.0 * (labels[:, None] == np.arange(num_classes)) - 1.0
        n, dim = a.shape
        if n >= dim:
            self.weights = np.linalg.solve(a.T @ a + self.l2 * np.eye(dim), a.T @ targets)
        else:  # the same solution from the smaller of the two systems
            self.weights = a.T @ np.linalg.solve(a @ a.T + self.l2 * np.eye(n), targets)
        return self

    def scores(self, features):
        """Scores of shape `(n, num_classes)`; the largest is the predicted class."""
        return self._design(np.asarray(features, "float64")) @ self.weights

    def accuracy(self, features, labels):
        """Share of `features` whose largest score is that of their label."""
        features, labels = _checked(features, labels)
        return float(np.mean(self.scores(features).argmax(axis=1) == labels))

    def _design(self, features):
        whitened = (features - self._mean) / self._deviation
        return np.concatenate([whitened, np.full((len(features), 1), BIAS_FEATURE)], axis=1)


def few_shot_accuracy(train_features, train_labels, test_features, test_labels, shots=10, seed=0, l2=1024.0):
    """Accuracy on the test set of a probe that saw `shots` images of each class.

    Args:
        train_features, test_features: Arrays of shape `(n, dim)`.
        train_labels, test_labels: Int arrays of shape `(n,)`.
        shots: Integer. Images of each class, drawn at random without repetition.
        seed: Integer, for that draw.
        l2: Positive float, see `FewShotProbe`.

    Returns:
        Float in [0, 1].

    Raises:
        ValueError: if a class has fewer than `shots` images, or features and labels don't fit.
    """
    train_features, train_labels = np.asarray(train_features), np.asarray(train_labels)
    if shots < 1 or len(train_features) != len(train_labels):
        raise ValueError(
            "`shots` must be at least 1, and there must be one label for each feature vector. "
            f"Received: shots={shots}, {len(train_features)} features, {len(train_labels)} labels"
        )
    rng = np.random.default_rng(seed)
    chosen = []
    for label in np.unique(train_labels):
        members = np.flatnonzero(train_labels == label)
        if len(members) < shots:
            raise ValueError(f"Class {label} has {len(members)} training images. Received: shots={shots}")
        chosen.append(rng.choice(members, shots, replace=False))
    chosen = np.concatenate(chosen)
    num_classes = int(max(np.max(train_labels), np.max(test_labels))) + 1
    probe = FewShotProbe(l2).fit(train_features[chosen], train_labels[chosen], num_classes)
    return probe.accuracy(test_features, test_labels)


def _checked(features, labels):
    features, labels = np.asarray(features, "float64"), np.asarray(labels)
    if features.ndim != 2 or labels.shape != features.shape[:1]:
        raise ValueError(
            "Features must have shape (n, dim) and labels (n,). "
            f"Received: features of shape {features.shape}, labels of shape {labels.shape}"
        )
    return features, labels
