"""The interface of probes, which judge features by the accuracy of a simple classifier."""

import numpy as np


class Probe:
    """Base of the probes: a simple classifier on features. Subclasses have a `name`, a string."""

    name = None

    def accuracies(self, train, test):
        """Train and judge the classifier.

        Args:
            train, test: Pairs of features `(n, dim)` and labels `(n,)`.

        Returns:
            List of floats in [0, 1], the accuracy of each draw or run.
        """
        raise NotImplementedError

    def get_config(self):
        """Dictionary of all settings that influence the result."""
        raise NotImplementedError


def check_labelled(features, labels):
    """Return features and labels as arrays, or raise a ValueError for shapes that don't fit."""
    features, labels = np.asarray(features), np.asarray(labels)
    if features.ndim != 2 or not len(features) or labels.shape != features.shape[:1]:
        raise ValueError(
            "Features must have shape (n, dim) and labels (n,), n at least 1. "
            f"Received: features of shape {features.shape}, labels of shape {labels.shape}"
        )
    return features, labels
