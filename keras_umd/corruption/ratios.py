"""Laws of mask ratios that differ from image to image."""

import math

import keras
from keras import ops

from keras_umd.utils.checks import check_numbers, require
from keras_umd.utils.configurable import Configurable

__all__ = ["Ratios", "TruncatedNormal", "Uniform"]


class Ratios(Configurable):
    """A law of mask ratios: a function from uniform numbers to ratios in [`low`, `high`].

    Example:

    >>> law = ratios.Uniform(0.5, 0.75)
    >>> law(ops.convert_to_tensor([0.0, 0.5]))
    """

    def _check(self, low, high):
        check_numbers("[0, 1]", low=low, high=high)
        require(low <= high, "`low` must not be above `high`.", low=low, high=high)
        self.low = low
        self.high = high

    def __call__(self, draws):
        """Ratios of uniform numbers in [0, 1), both float32 tensors of one shape."""
        raise NotImplementedError


@keras.saving.register_keras_serializable("keras_umd", name="UniformRatios")
class Uniform(Ratios):
    """Every ratio between two is equally likely.

    Example:

    >>> View("clean", mask=masks.Varying(masks.Random(0.5), ratios.Uniform(0.5, 0.75)))

    Args:
        low, high: Floats in [0, 1], rising.
    """

    def __init__(self, low=0.5, high=0.75):
        self._check(low, high)

    def __call__(self, draws):
        return self.low + draws * (self.high - self.low)


@keras.saving.register_keras_serializable("keras_umd", name="TruncatedNormalRatios")
class TruncatedNormal(Ratios):
    """A normal law without its tails (Li et al., "MAGE", 2023, section 3.1, whose numbers are the defaults).

    Example:

    >>> View("clean", mask=masks.Varying(masks.Random(0.5), ratios.TruncatedNormal()))

    Args:
        mean: Float, the mode, if it lies between the ends.
        deviation: Positive float.
        low, high: Floats in [0, 1], rising, the ends.
    """

    def __init__(self, mean=0.55, deviation=0.25, low=0.5, high=1.0):
        check_numbers("[-10, 10]", mean=mean)
        check_numbers("(0, 100]", deviation=deviation)
        self._check(low, high)
        ends = [_cumulative((end - mean) / deviation) for end in (low, high)]
        require(
            low == high or ends[1] - ends[0] > 1e-4,
            "Hardly any of the law lies between `low` and `high`.",
            f"mean={mean}, deviation={deviation}, low={low}, high={high}",
        )
        self.mean = mean
        self.deviation = deviation
        self._ends = ends

    def __call__(self, draws):
        first, last = self._ends
        shares = ops.clip(2.0 * (first + draws * (last - first)) - 1.0, -1 + 1e-6, 1 - 1e-6)
        ratios = self.mean + self.deviation * math.sqrt(2) * ops.erfinv(shares)
        return ops.clip(ratios, self.low, self.high)


def _cumulative(x):
    return 0.5 * (1 + math.erf(x / math.sqrt(2)))
