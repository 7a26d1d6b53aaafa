"""The Fréchet distance between two sets of features, taken as Gaussians (Heusel et al., 2017)."""

import numpy as np


def frechet_distance(features, reference):
    """How far a set of images is from another, in the features of some network; 0 for the same distribution.

    It may be called FID only for the features of FID's own Inception network. The covariances need more images than
    features; the distance falls with the number of images, so compare sets of equal size.

    Args:
        features, reference: Float arrays of shape `(n, dim)` and `(m, dim)`, n and m at least 2.

    Returns:
        Float of at least 0.
    """
    sets = [np.asarray(x, "float64") for x in (features, reference)]
    if any(x.ndim != 2 or len(x) < 2 for x in sets) or sets[0].shape[1] != sets[1].shape[1]:
        raise ValueError(
            "`features` and `reference` must be of shape (n, dim), with the same dim and at least two rows. "
            f"Received: features of shape {sets[0].shape}, reference of shape {sets[1].shape}"
        )
    means = [x.mean(axis=0) for x in sets]
    covariances = [np.cov(x, rowvar=False).reshape(x.shape[1], -1) for x in sets]
    return gaussian_distance(means[0], covariances[0], means[1], covariances[1])


def gaussian_distance(mean, covariance, other_mean, other_covariance):
    """|m - m'|^2 + trace(C + C' - 2 (C C')^(1/2)), computed in float64 without a matrix square root of C C'.

    The trace of the root is the sum of the singular values of C^(1/2) C'^(1/2), so that singular covariances, of fewer
    images than features, need no correction.

    Args:
        mean, other_mean: Float arrays of shape `(dim,)`.
        covariance, other_covariance: Float arrays of shape `(dim, dim)`, symmetric.
    """
    roots = _symmetric_root(covariance) @ _symmetric_root(other_covariance)
    trace_of_root = np.linalg.svd(roots, compute_uv=False).sum()
    squared = np.sum((np.asarray(mean) - other_mean) ** 2)
    return max(float(squared + np.trace(covariance) + np.trace(other_covariance) - 2 * trace_of_root), 0.0)


def _symmetric_root(matrix):
    values, vectors = np.linalg.eigh(np.asarray(matrix, "float64"))
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
