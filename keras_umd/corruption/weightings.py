"""How much an error counts at each noise level.

All predictions of a noisy image are its x_0 up to a factor: a loss on any of them is an error of x_0 times a weight of
the noise level. So a weighting is that weight, and the prediction another matter: `V()` is the loss of velocity, also
for a network that predicts x_0 (JiT). `docs/paths.md` has the formulas.
"""

import keras
import numpy as np
from keras import ops

from keras_umd.utils.checks import check_numbers, require
from keras_umd.utils.configurable import Configurable

__all__ = ["V", "Eps", "Function", "MinSNR", "Weighting", "X"]
MIN_RATIO = 1e-10  # of signal to noise: log-SNR -46, below which a level isn't told from noise alone


def snr(level):
    """Signal over noise, squared: e^l."""
    return ops.square(ops.divide(level["signal"], level["sigma"]))


class Weighting(Configurable):
    """The weight of the squared error of x_0 at a noise level; a subclass has `weight`.

    Example:

    >>> @keras.saving.register_keras_serializable("mine")
    ... class Root(weightings.Weighting):
    ...     def weight(self, level):
    ...         return level["signal"] / level["sigma"]
    >>> corruption = Corruption.dit(noisy_losses=["x0"], noisy_patches="all", weighting=Root(max_weight=10))

    Args:
        max_weight: Positive float, at which weights are cut off, or `None`.
    """

    def __init__(self, max_weight=None):
        check_numbers("(0, 1e12]", optional=True, max_weight=max_weight)
        self.max_weight = max_weight

    def weight(self, level):
        """The weight before it is cut off.

        Args:
            level: Dictionary of float tensors of one shape, as `NoiseSchedule.level` returns it.
        """
        raise NotImplementedError

    def __call__(self, level):
        """The weight, a float tensor; arguments as of `weight`."""
        weight = self.weight(level)
        return weight if self.max_weight is None else ops.minimum(weight, self.max_weight)


@keras.saving.register_keras_serializable("keras_umd.weightings")  # targets have the same names
class X(Weighting):
    """1: the loss of x_0.

    Example:

    >>> corruption = Corruption.dit(noisy_losses=["x0"], noisy_patches="all", weighting=weightings.X())
    """

    def weight(self, level):
        return ops.ones_like(level["signal"])


@keras.saving.register_keras_serializable("keras_umd.weightings")  # targets have the same names
class Eps(Weighting):
    """e^l, with the log-SNR l: the loss of the noise (DDPM).

    Example:

    >>> corruption = Corruption.dit(noisy_losses=["x0"], noisy_patches="all", weighting=weightings.Eps())
    """

    def weight(self, level):
        return snr(level)


@keras.saving.register_keras_serializable("keras_umd.weightings")  # targets have the same names
class V(Weighting):
    """The loss of the velocity along the schedule's path.

    It is 1 + e^l on a variance-preserving path (Salimans and Ho, 2022), (1 + e^(l/2))^2 = 1 / tau^2 on a rectified flow
    (SiT; JiT cuts it off at 400) and 1 / sigma_data^2 + e^l on EDM's.

    Example:

    >>> corruption = Corruption.dit(noisy_losses=["x0"], noisy_patches="all", weighting=weightings.V(max_weight=400))
    """

    def weight(self, level):
        return ops.square(turn(level) / level["sigma"])


@keras.saving.register_keras_serializable("keras_umd.weightings")  # targets have the same names
class MinSNR(Weighting):
    """min(e^l, gamma): the loss of the noise, but of no level more than gamma (Hang et al., 2023).

    Example:

    >>> corruption = Corruption.dit(noisy_losses=["x0"], noisy_patches="all", weighting=weightings.MinSNR(gamma=5.0))

    Args:
        gamma: Positive float.
    """

    def __init__(self, gamma=5.0):
        check_numbers("(0, 1e12]", gamma=gamma)
        super().__init__()
        self.gamma = gamma

    def weight(self, level):
        return ops.minimum(snr(level), self.gamma)


@keras.saving.register_keras_serializable("keras_umd.weightings")  # targets have the same names
class Function(Weighting):
    """Any function of the log-SNR.

    Example:

    >>> @keras.saving.register_keras_serializable("mine")
    ... def sigmoid(log_snr):                                   # Hoogeboom et al., "Simpler Diffusion", 2024
    ...     return ops.exp(log_snr) * ops.sigmoid(-log_snr - 3)
    >>> Corruption(weighting=sigmoid)                           # or weightings.Function(sigmoid, max_weight=10)

    Args:
        function: callable, from a float tensor of log-SNRs to weights of at least 0. Registered with Keras, it is saved
            with the model.
        max_weight: As of `Weighting`.
    """

    def __init__(self, function, max_weight=None):
        require(callable(function), "`function` must be a function of the log-SNR.", function=function)
        super().__init__(max_weight)
        self.function = function

    def weight(self, level):
        return self.function(2 * ops.log(ops.maximum(level["signal"] / level["sigma"], MIN_RATIO)))


def turn(level):
    """How fast the path turns from image to noise, signal * sigma' - sigma * signal': 1 where it preserves variance."""
    return level["signal"] * level["sigma_slope"] - level["sigma"] * level["signal_slope"]


def mean_weight(weight, levels, schedule):
    """The mean of a function of the level under the levels that training draws, a float.

    Args:
        weight: callable. From a dictionary as of `NoiseSchedule.level` to a tensor.
        levels: `Levels`.
        schedule: `NoiseSchedule`.
    """
    timesteps, probabilities = levels.support(schedule)
    level = schedule.levels(timesteps)
    signal_slope, sigma_slope = schedule.slopes(level["signal"], level["sigma"])
    level = {**level, "signal_slope": signal_slope, "sigma_slope": sigma_slope}
    level = {name: ops.convert_to_tensor(value.astype("float32")) for name, value in level.items()}
    weights = ops.convert_to_numpy(ops.broadcast_to(weight(level), (len(timesteps),))).astype("float64")
    mean = float(np.sum(weights * probabilities))
    require(
        bool(np.isfinite(mean)) and weights.min() >= 0 and mean > 0,
        "`weighting` must give finite weights of at least 0, not all of them 0, at the levels that are drawn.",
        f"weights from {weights.min():g} to {weights.max():g}",
    )
    return mean


SHORT = {"x": X, "eps": Eps, "v": V}


def get(weighting):
    """A weighting from `"x"`, `"eps"` or `"v"`, from a function of the log-SNR, or itself; `None` is none."""
    if weighting is None or isinstance(weighting, Weighting):
        return weighting
    if callable(weighting) and not isinstance(weighting, type):
        return Function(weighting)
    require(
        isinstance(weighting, str) and weighting in SHORT,
        f"`weighting` must be one of {', '.join(map(repr, SHORT))}, an object from keras_umd.corruption.weightings, or "
        "a function of the log-SNR.",
        weighting=weighting,
    )
    return SHORT[weighting]()
