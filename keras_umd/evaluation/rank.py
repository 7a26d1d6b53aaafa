"""RankMe: the effective rank of a representation, without labels."""

import numpy as np


def rank_me(features):
    """The effective rank of features: the exponential of the entropy of their singular values (Garrido et al., 2023).

    It lies between 1, for features of one direction, and the smaller of n and dim. A fall during training shows a
    collapse; the paper uses 25,600 images.

    Args:
        features: Float array of shape `(n, dim)`.

    Returns:
        Float of at least 1.
    """
    features = np.asarray(features, "float64")
    if features.ndim != 2 or not features.size:
        raise ValueError(f"`features` must be of shape (n, dim). Received: features of shape {features.shape}")
    values = np.linalg.svd(features, compute_uv=False)
    shares = values / np.maximum(values.sum(), 1e-12) + 1e-7
    return float(np.exp(-np.sum(shares * np.log(shares))))
