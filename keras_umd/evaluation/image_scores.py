"""Scores of generated images, from the features or the class probabilities that some network gives them."""

import numpy as np

from keras_umd.evaluation.statistics import FeatureStatistics, checked_sets
from keras_umd.utils.checks import (
    as_numbers,
    check_integers,
    check_labels,
    check_positive_integers,
    is_between,
    require,
)


def frechet_distance(features, reference):
    """Fréchet distance of two sets of images, in the features of some network; 0 for the same distribution.

    It may be called FID only for the features of FID's own Inception network. It is biased upwards for few images, and
    the covariances need more images than features: compare sets of equal size.

    Example:

    >>> round(evaluation.frechet_distance(features[:30], features[:30]), 6)
    0.0

    Args:
        features, reference: Float arrays of shape `(n, dim)` and `(m, dim)`, n and m at least 2.

    Returns:
        Float of at least 0.

    Raises:
        ValueError: for sets of other shapes or with values that are not finite.

    Reference:
        Heusel et al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium", 2017.
    """
    moments = []
    for images in checked_sets(features, reference):
        statistics = FeatureStatistics(images.shape[1])
        statistics.update(images)
        moments += [statistics.mean, statistics.covariance]
    return gaussian_distance(*moments)


def gaussian_distance(mean, covariance, other_mean, other_covariance):
    """|m - m'|^2 + trace(C + C' - 2 (C C')^(1/2)), computed in float64 without a matrix square root of C C'.

    The trace of the root is the sum of the singular values of R^T R', for C = R R^T and C' = R' R'^T, so that singular
    covariances, of fewer images than features, need no correction.

    Example:

    >>> float(evaluation.gaussian_distance(np.zeros(2), np.eye(2), np.ones(2), np.eye(2)))
    2.0

    Args:
        mean, other_mean: Float arrays of shape `(dim,)`.
        covariance, other_covariance: Float arrays of shape `(dim, dim)`, symmetric.

    Returns:
        Float of at least 0.
    """
    values = {"mean": mean, "covariance": covariance, "other_mean": other_mean, "other_covariance": other_covariance}
    values = {name: as_numbers(**{name: value}) for name, value in values.items()}
    shapes = {name: value.shape for name, value in values.items()}
    dim = values["mean"].size
    require(
        list(shapes.values()) == [(dim,), (dim, dim)] * 2 and dim,
        "`mean` and `other_mean` must be of shape (dim,), `covariance` and `other_covariance` of (dim, dim).",
        shapes,
    )
    mean, covariance, other_mean, other_covariance = values.values()
    trace_of_root = np.linalg.svd(_root(covariance).T @ _root(other_covariance), compute_uv=False).sum()
    squared = np.sum((np.asarray(mean) - other_mean) ** 2)
    return max(float(squared + np.trace(covariance) + np.trace(other_covariance) - 2 * trace_of_root), 0.0)


def _root(matrix):
    """A root R of a symmetric matrix R R^T; negative eigenvalues, of rounding, count as 0."""
    values, vectors = np.linalg.eigh(np.asarray(matrix, "float64"))
    return vectors * np.sqrt(np.maximum(values, 0))


def kernel_distance(features, reference, num_subsets=100, subset_size=1000, seed=0):
    """The squared maximum mean discrepancy of two sets of images, in the features of some network.

    The estimate is unbiased, unlike the Fréchet distance, so that it suits small sets; it can be negative. It may be
    called KID only for the features of FID's own Inception network; KID is often given times 1000.

    Example:

    >>> scores = evaluation.kernel_distance(features[:30], features[30:], num_subsets=5, subset_size=20)

    Args:
        features, reference: Float arrays of shape `(n, dim)` and `(m, dim)`.
        num_subsets: Positive integer. Number of pairs of random subsets, of which the distances are averaged.
        subset_size: Integer from 2 to the smaller of n and m. Images of a subset, drawn without replacement.
        seed: Integer, for the draws.

    Returns:
        Two floats: mean and standard deviation over the subsets.

    Raises:
        ValueError: for subsets larger than a set, and for sets of wrong shapes or with values that are not finite.

    Reference:
        Bińkowski et al., "Demystifying MMD GANs", 2018.
    """
    features, reference = checked_sets(features, reference)
    check_positive_integers(num_subsets=num_subsets, subset_size=subset_size)
    check_integers(0, seed=seed)
    require(
        is_between(subset_size, 2, min(len(features), len(reference))),
        "`subset_size` must be at least 2 and at most the size of the smaller set; pass a smaller one for few images.",
        f"subset_size={subset_size}, {len(features)} features, {len(reference)} of the reference",
    )
    rng = np.random.default_rng(seed)
    distances = [
        squared_discrepancy(*(x[rng.choice(len(x), subset_size, replace=False)] for x in (features, reference)))
        for _ in range(num_subsets)
    ]
    return float(np.mean(distances)), float(np.std(distances))


def squared_discrepancy(x, y):
    """Unbiased estimate of the squared maximum mean discrepancy, with the kernel (x.y / dim + 1)^3, in float64.

    Args:
        x, y: Float arrays of shape `(n, dim)` and `(m, dim)`, n and m at least 2.

    Returns:
        Float.
    """
    x, y = np.asarray(x, "float64"), np.asarray(y, "float64")
    return _mean_of_pairs(_kernel(x, x)) + _mean_of_pairs(_kernel(y, y)) - 2 * _kernel(x, y).mean()


def _kernel(x, y):
    base = x @ y.T / x.shape[1] + 1
    return base * base * base  # NumPy's power is many times slower


def _mean_of_pairs(kernel):
    """Mean without the diagonal, where images are paired with themselves."""
    n = len(kernel)
    return (kernel.sum() - np.trace(kernel)) / (n * (n - 1))


def label_agreement(probabilities, labels):
    """The share of images that a classifier takes for their label.

    Example:

    >>> evaluation.label_agreement(np.eye(3)[[0, 1, 2, 2]], [0, 1, 2, 0])
    0.75

    Args:
        probabilities: Float array of shape `(n, classes)`, of a classifier; logits do as well.
        labels: Int array of shape `(n,)`, what the images were to show.

    Returns:
        Float in [0, 1].
    """
    as_numbers(probabilities=probabilities)
    probabilities, labels = np.asarray(probabilities), np.asarray(labels)
    require(
        probabilities.ndim == 2 and len(probabilities) and labels.shape == probabilities.shape[:1],
        "`probabilities` must be of shape (n, classes) and `labels` of shape (n,), n at least 1.",
        f"probabilities of shape {probabilities.shape}, labels of shape {labels.shape}",
    )
    check_labels(labels, probabilities.shape[1])
    return float(np.mean(probabilities.argmax(axis=1) == labels))


def inception_score(probabilities, splits=10):
    """Exponential of the mean KL divergence of p(class | image) from p(class): from 1 to the number of classes.

    It is high when the classifier is sure of each image and the images are of many classes. Without a reference, it
    doesn't notice when all images of a class are the same. It may be called Inception score only for the original
    classifier, FID's own Inception network. It rises with the number of images; 50,000 are usual.

    Example:

    >>> scores = evaluation.inception_score(np.eye(3)[np.arange(30) % 3], splits=1)

    Args:
        probabilities: Float array of shape `(n, classes)` of values in [0, 1], with rows that sum to 1.
        splits: Positive integer, at most n. Number of consecutive parts, each with a score of its own. The images must
            be shuffled: sorted by class, each part would have few classes.

    Returns:
        Two floats: mean and standard deviation over the parts.

    Raises:
        ValueError: for values that are no probabilities, and for fewer images than parts.

    Reference:
        Salimans et al., "Improved Techniques for Training GANs", 2016.
    """
    check_positive_integers(splits=splits)
    as_numbers(finite=False, probabilities=probabilities)
    probabilities = np.asarray(probabilities)
    require(
        probabilities.ndim == 2 and len(probabilities) >= splits,
        "`probabilities` must have shape (n, classes), with at least one image for each of the splits.",
        f"probabilities of shape {probabilities.shape}, splits={splits}",
    )
    require(  # float16 sums to 1 within a thousandth
        probabilities.min() >= 0 and np.abs(probabilities.sum(axis=1, dtype="float64") - 1).max() < 1e-3,
        "`probabilities` must be at least 0 and add up to 1 for each image; take the softmax of logits first.",
        f"values from {probabilities.min()} to {probabilities.max()}",
    )
    n = len(probabilities)
    parts = (probabilities[i * n // splits : (i + 1) * n // splits].astype("float64") for i in range(splits))
    # The mean KL divergence from the mean is the entropy of the mean minus the mean of the entropies.
    scores = [np.exp(_entropy(part.mean(axis=0)) - _entropy(part).mean()) for part in parts]
    return float(np.mean(scores)), float(np.std(scores))


def softmax(logits):
    """Probabilities in float64, from logits of shape `(..., classes)` and any float type."""
    logits = np.asarray(logits, "float64")
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def _entropy(probabilities):
    # 0 log 0 = 0
    return -np.sum(probabilities * np.log(np.where(probabilities > 0, probabilities, 1)), axis=-1)
