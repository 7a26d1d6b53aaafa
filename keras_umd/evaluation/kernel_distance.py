"""The kernel distance of two sets of features, unbiased for small sets (Bińkowski et al., 2018)."""

import numpy as np

from keras_umd.evaluation.statistics import checked_sets
from keras_umd.utils.checks import check_positive_integers


def kernel_distance(features, reference, num_subsets=100, subset_size=1000, seed=0):
    """The squared maximum mean discrepancy of two sets of images, in the features of some network.

    The estimate is unbiased, unlike the Fréchet distance, so that it suits small sets; it can be negative. It may be
    called KID only for the features of FID's own Inception network; KID is often given times 1000.

    Args:
        features, reference: Float arrays of shape `(n, dim)` and `(m, dim)`.
        num_subsets: Positive integer. Number of pairs of random subsets, of which the distances are averaged.
        subset_size: Integer from 2 to the smaller of n and m. Images of a subset, drawn without replacement.
        seed: Integer, for the draws.

    Returns:
        Two floats: mean and standard deviation over the subsets.

    Raises:
        ValueError: for subsets larger than a set, and for sets of wrong shapes or with values that are not finite.
    """
    features, reference = checked_sets(features, reference)
    check_positive_integers(num_subsets=num_subsets, subset_size=subset_size)
    if not 2 <= subset_size <= min(len(features), len(reference)):
        raise ValueError(
            "`subset_size` must be at least 2 and at most the size of the smaller set; pass a smaller one for few "
            f"images. Received: subset_size={subset_size}, {len(features)} features, {len(reference)} of the reference"
        )
    rng = np.random.default_rng(seed)
    distances = []
    for _ in range(num_subsets):
        subsets = [x[rng.choice(len(x), subset_size, replace=False)] for x in (features, reference)]
        distances.append(squared_discrepancy(*subsets))
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
