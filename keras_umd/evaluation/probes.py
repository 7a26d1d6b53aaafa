"""The base of probes, which judge features by the accuracy of a simple classifier, and what they are given."""

import numpy as np

from keras_umd.utils.checks import as_numbers, require
from keras_umd.utils.configurable import Configurable

BLOCK = 8192  # feature vectors that are converted to float64 at a time


class Probe(Configurable):
    """Base of the probes: a simple classifier on features. Subclasses have a `name`, a string.

    `get_config` has all settings that influence the result: the arguments, which subclasses keep as attributes.

    Example:

    >>> class NearestMean(evaluation.Probe):
    ...     name = "nearest mean accuracy"
    ...
    ...     def accuracies(self, train, test):
    ...         means = np.stack([train[0][train[1] == label].mean(axis=0) for label in range(3)])
    ...         found = ((test[0][:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
    ...         return [float(np.mean(found == test[1]))]
    >>> print(evaluation.evaluate_features(model.feature_extractor(), (train, test), NearestMean(), verbose=False))
    | nearest mean accuracy |
    | --------------------- |
    | ...                   |
    """

    name: str | None = None

    def accuracies(self, train, test):
        """Train and judge the classifier.

        Args:
            train, test: Pairs of features `(n, dim)` and labels `(n,)`.

        Returns:
            List of floats in [0, 1], the accuracy of each draw or run.
        """
        raise NotImplementedError


def check_labelled(features, labels):
    """Return features and labels as arrays, or raise a ValueError for shapes that don't fit."""
    as_numbers(features=features, finite=False)
    as_numbers(labels=labels)
    features, labels = np.asarray(features), np.asarray(labels)
    require(
        labels.dtype.kind in "iu" and labels.min(initial=0) >= 0,
        "`labels` must be class indices, integers of at least 0.",
        f"labels of type {labels.dtype}, from {labels.min(initial=0)} on",
    )
    require(
        features.ndim == 2 and len(features) and labels.shape == features.shape[:1],
        "Features must have shape (n, dim) and labels (n,), n at least 1.",
        f"features of shape {features.shape}, labels of shape {labels.shape}",
    )
    are_finite = np.isfinite(features).all(axis=1)
    require(
        are_finite.all(),
        "Features must be finite; look for NaN in the weights of the encoder.",
        f"NaN or infinite values in {np.sum(~are_finite)} of {len(features)} features",
    )
    return features, labels


def checked_sets(train, test):
    """The features and labels of training and of test data, as arrays."""
    for name, pair in (("train", train), ("test", test)):
        is_pair = isinstance(pair, (tuple, list)) and len(pair) == 2
        is_pair = is_pair and all(hasattr(part, "__len__") and not isinstance(part, (str, bytes)) for part in pair)
        require(is_pair, f"`{name}` must be a pair of features (n, dim) and labels (n,).", f"{name}={pair!r:.200}")
    (features, labels), (test_features, test_labels) = check_labelled(*train), check_labelled(*test)
    require(
        features.shape[1] == test_features.shape[1],
        "`train` and `test` must have features of one width.",
        f"train with {features.shape[1]}, test with {test_features.shape[1]}",
    )
    return (features, labels), (test_features, test_labels)


def blocks(array):
    """Parts of an array, one after the other."""
    return (array[start : start + BLOCK] for start in range(0, len(array), BLOCK))
