"""The profile of an average over a training: a power function of time, as wide as a share of the training so far."""

import keras
import numpy as np
from keras import ops

from keras_umd.utils.checks import check_numbers
from keras_umd.utils.configurable import Configurable


@keras.saving.register_keras_serializable("keras_umd")
class PowerProfile(Configurable):
    """An average whose weights grow as a power of time, in the place of a decay (Karras et al., 2312.02696, section 3).

    After n updates, the value of update i has the weight `(i^(g+1) - (i-1)^(g+1)) / n^(g+1)`. Its width is always the
    same share of the training: it forgets the start without a decay that was chosen for one length. Snapshots of two
    such averages are enough to make that of any other width afterwards (`callbacks.SnapshotAverages`).

    Example:

    >>> model.compile(recipes.AdamW(1e-3, ema_decay=[recipes.PowerProfile(0.05), recipes.PowerProfile(0.10)]))
    >>> model.fit(images, batch_size=8, epochs=1)
    >>> pictures = model.generate(num_images=4, num_steps=4, weights=recipes.PowerProfile(0.10))

    Args:
        std: Float in (0, 0.28], the standard deviation of the weights' times as a share of the training so far. 0.05
            and 0.10 are the paper's; 0.289 would be the mean of all.
    """

    def __init__(self, std):
        check_numbers("(0, 0.28]", std=std)
        self.std = float(std)
        self.exponent = exponent_of(self.std)

    def newest_weight(self, num_updates):
        """The weight that the newest value gets in update `num_updates`, counted from 1: `1 - (1 - 1/n)^(g+1)`.

        Args:
            num_updates: Float scalar, of at least 1.
        """
        # Without differences of nearly equal numbers; the first value gets all of the weight, -expm1(-inf).
        return -ops.expm1((self.exponent + 1) * ops.log1p(-1.0 / num_updates))

    def __eq__(self, other):
        return isinstance(other, PowerProfile) and self.std == other.std

    def __hash__(self):
        return hash((PowerProfile, self.std))


def exponent_of(std):
    """The exponent g of the power function with a relative standard deviation.

    That is the root of `g^3 + 7 g^2 + (16 - std^-2) g + 12 - std^-2` with g > -0.5 (2312.02696, section 3.1).
    """
    roots = np.roots([1.0, 7.0, 16.0 - std**-2.0, 12.0 - std**-2.0])
    return float(np.max(roots.real))


def std_of(exponent):
    """The relative standard deviation of a power function, the inverse of `exponent_of`."""
    g = exponent
    return float(np.sqrt((g + 1) / ((g + 2) ** 2 * (g + 3))))


def reconstruction_weights(exponents, times, exponent, time):
    """How to mix snapshots of averages to come closest to another average, by least squares (2312.02696, section 3.2).

    Args:
        exponents, times: Float arrays `(n,)`, the power functions of the snapshots and when they were taken.
        exponent, time: Floats, of the average that is wanted.

    Returns:
        Float64 array `(n,)` of sum 1, the weights of the snapshots.
    """
    exponents, times = np.asarray(exponents, "float64"), np.asarray(times, "float64")
    products = _inner_product(exponents[:, None], times[:, None], exponents, times)
    target = _inner_product(exponents, times, float(exponent), float(time))
    weights = np.linalg.lstsq(products, target, rcond=1e-13)[0]
    return weights / weights.sum()


def _inner_product(g_a, t_a, g_b, t_b):
    """Of two power functions `(g+1) t^g / T^(g+1)`, each 0 beyond its own T."""
    powers = np.where(t_a < t_b, g_b, -g_a)
    return (g_a + 1) * (g_b + 1) * (t_a / t_b) ** powers / ((g_a + g_b + 1) * np.maximum(t_a, t_b))
