"""Precision, recall, density and coverage of generated images, by the neighbours of their features."""

import numpy as np

from keras_umd.evaluation.statistics import checked_sets
from keras_umd.utils.checks import check_positive_integers, require

# Rows that are compared at a time: two blocks of 2048 float64 features and their distances take 100 MB.
BLOCK_SIZE = 2048

# Distances from float64 products have errors of up to about 1e-14 of the features' squares.
ROUNDING = 1e-12


def neighbourhood_scores(features, reference, precision_k=3, coverage_k=5):
    """Precision and recall, density and coverage: the quality of images and their variety, measured apart.

    Each image is the centre of a ball, in the features of some network, that reaches to the k-th nearest image of its
    own set. Precision is the share of images in some ball of the reference; recall the share of the reference in some
    ball of the images. Both are sensitive to outliers. Density is the mean number of the reference's balls that an
    image lies in, over k; coverage is the share of the reference's balls with an image in them. Borders belong to the
    balls.

    The values depend on the network and on the numbers of images: compare sets of equal size, usually 10,000 to 50,000
    images.

    Example:

    >>> evaluation.neighbourhood_scores(features[:30], features[:30])["precision"]
    1.0

    Args:
        features, reference: Float arrays of shape `(n, dim)` and `(m, dim)`.
        precision_k: Positive integer, less than n and m. Neighbours for precision and recall.
        coverage_k: Positive integer, less than m and n. Neighbours for density and coverage.

    Returns:
        Dictionary of floats `precision`, `recall` and `coverage` in [0, 1], and `density` of at least 0, about 1 for
        other images of the same distribution.

    Raises:
        ValueError: for sets of fewer images than neighbours, of wrong shapes or with values that are not finite.

    References:
        Kynkäänniemi et al., "Improved Precision and Recall Metric for Assessing Generative Models", 2019.
        Naeem et al., "Reliable Fidelity and Diversity Metrics for Generative Models", 2020.
    """
    features, reference = checked_sets(features, reference)
    check_positive_integers(precision_k=precision_k, coverage_k=coverage_k)
    require(
        max(precision_k, coverage_k) < min(len(features), len(reference)),
        "Both sets must have more images than neighbours.",
        f"precision_k={precision_k}, coverage_k={coverage_k}, {len(features)} features, {len(reference)} of the "
        "reference",
    )
    # Centred, since |x|^2 - 2 x.y + |y|^2 would lose digits where the mean is large.
    center = reference.mean(axis=0, dtype="float64")
    precision_radii, coverage_radii = squared_radii(reference, [precision_k, coverage_k], center)
    (recall_radii,) = squared_radii(features, [precision_k], center)
    is_precise = np.zeros(len(features), bool)
    is_recalled, is_covered = np.zeros((2, len(reference)), bool)
    num_inside = 0
    for rows, x in _blocks(features, center):
        for columns, y in _blocks(reference, center):
            distances = squared_distances(x, y)
            is_precise[rows] |= (distances <= precision_radii[columns]).any(axis=1)
            is_recalled[columns] |= (distances <= recall_radii[rows, None]).any(axis=0)
            is_inside = distances <= coverage_radii[columns]
            is_covered[columns] |= is_inside.any(axis=0)
            num_inside += np.count_nonzero(is_inside)
    return {
        "precision": float(is_precise.mean()),
        "recall": float(is_recalled.mean()),
        "density": float(num_inside / (coverage_k * len(features))),
        "coverage": float(is_covered.mean()),
    }


def squared_radii(features, ks, center):
    """Squared distance of each image to its k-th nearest other image, enlarged by the rounding error.

    Args:
        features: Float array of shape `(n, dim)`.
        ks: List of positive integers, less than n.
        center: Float array of shape `(dim,)`. A point near the features, to subtract against rounding.

    Returns:
        Float64 array of shape `(len(ks), n)`.
    """
    radii = np.empty((len(ks), len(features)))
    for rows, x in _blocks(features, center):
        # The first neighbour, at distance 0, is the image itself.
        nearest = np.full((len(x), max(ks) + 1), np.inf)
        for _, y in _blocks(features, center):
            candidates = np.concatenate([nearest, squared_distances(x, y)], axis=1)
            candidates.partition(max(ks), axis=1)
            nearest = candidates[:, : max(ks) + 1]
        nearest.sort(axis=1)
        radii[:, rows] = nearest[:, ks].T * (1 + ROUNDING) + ROUNDING * np.sum(x**2, axis=1)
    return radii


def squared_distances(x, y):
    """Squared distances of all pairs of float64 arrays of shape `(n, dim)` and `(m, dim)`; `(n, m)`."""
    distances = x @ y.T
    distances *= -2
    distances += np.sum(x**2, axis=1)[:, None]
    distances += np.sum(y**2, axis=1)
    return distances


def _blocks(features, center):
    """Iterate over slices of rows, and their features, centred and in float64."""
    for start in range(0, len(features), BLOCK_SIZE):
        rows = slice(start, start + BLOCK_SIZE)
        yield rows, features[rows] - center
