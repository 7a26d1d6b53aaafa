"""The Fréchet distance between two sets of features, taken as Gaussians (Heusel et al., 2017)."""

import numpy as np

from keras_umd.evaluation.statistics import FeatureStatistics, checked_sets


def frechet_distance(features, reference):
    """Fréchet distance of two sets of images, in the features of some network; 0 for the same distribution.

    It may be called FID only for the features of FID's own Inception network. It is biased upwards for few images, and
    the covariances need more images than features: compare sets of equal size.

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

    Args:
        mean, other_mean: Float arrays of shape `(dim,)`.
        covariance, other_covariance: Float arrays of shape `(dim, dim)`, symmetric.

    Returns:
        Float of at least 0.
    """
    product = _root(covariance).T @ _root(other_covariance)
    trace_of_root = np.linalg.svd(product, compute_uv=False).sum()
    squared = np.sum((np.asarray(mean) - other_mean) ** 2)
    return max(float(squared + np.trace(covariance) + np.trace(other_covariance) - 2 * trace_of_root), 0.0)


def _root(matrix):
    """A root R of a symmetric matrix R R^T; negative eigenvalues, of rounding, count as 0."""
    values, vectors = np.linalg.eigh(np.asarray(matrix, "float64"))
    return vectors * np.sqrt(np.maximum(values, 0))
