"""What all probes have in common: they judge features by how well a simple classifier does with them."""

import numpy as np


class Probe:
    """A simple classifier on features, and how it is trained.

    Subclasses have a `name`, `accuracies(train, test)` for two pairs of features `(n, dim)` and labels `(n,)`, one
    accuracy in [0, 1] for each draw or run, and `get_config()`, all that decides about the result.
    """

    name = None

    def accuracies(self, train, test):
        raise NotImplementedError

    def get_config(self):
        raise NotImplementedError


def check_labelled(features, labels):
    """Features and labels as arrays that fit."""
    features, labels = np.asarray(features), np.asarray(labels)
    if features.ndim != 2 or not len(features) or labels.shape != features.shape[:1]:
        raise ValueError(
            "Features must have shape (n, dim) and labels (n,), n at least 1. "
            f"Received: features of shape {features.shape}, labels of shape {labels.shape}"
        )
    return features, labels
