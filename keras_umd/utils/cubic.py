"""Cubic convolution: how a line of pixels, or of positions, becomes one of another length."""

import numpy as np


def cubic_weights(distances):
    """Weights of old points in new ones, by Keys' kernel with a = -1/2; edges are renormalised.

    Args:
        distances: Array `(new, old)`, at least 0: how far apart they are, in steps of the old points, or of the new
            ones, which smooths where these are fewer.

    Returns:
        Float64 array `(new, old)`; each row adds up to 1.

    Reference:
        Keys, "Cubic Convolution Interpolation for Digital Image Processing", 1981, Eq. 15.
    """
    near = 1.5 * distances**3 - 2.5 * distances**2 + 1
    far = -0.5 * distances**3 + 2.5 * distances**2 - 4 * distances + 2
    weights = np.where(distances < 1, near, np.where(distances < 2, far, 0.0))
    return weights / weights.sum(axis=1, keepdims=True)
