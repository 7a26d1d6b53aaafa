"""The law of the noise levels in training."""

import keras
import numpy as np
from keras import ops

from keras_umd.utils.checks import as_numbers, check_instances, check_integers, check_numbers, require
from keras_umd.utils.configurable import Configurable

__all__ = [
    "Adaptive",
    "ContinuousUniform",
    "Levels",
    "LogNormal",
    "LogSNRLevels",
    "LogSNRNormal",
    "LogitNormal",
    "Shifted",
    "Uniform",
]
NUM_NODES = 4001  # of sums that stand for an expectation
MAX_DEVIATIONS = 6.0  # of a normal law: beyond it lie 2e-9


class Levels(Configurable):
    """A law from which each noisy image gets its noise level.

    A subclass has `draw`, or `draw_log_snr` where it is a law of the log-SNR; `support`, where the weights of a
    weighting must be divided by their mean more exactly than by 2^14 draws.

    Example:

    >>> corruption = Corruption.dit(levels=levels.Uniform())      # one of its subclasses
    """

    is_learned = False  # whether `draw` and `draw_log_snr` take `probabilities`, which a term of the objective learns

    def draw(self, batch_size, schedule, seed):
        """Draw the levels of a batch.

        Args:
            batch_size: Integer, or a scalar tensor where TensorFlow traces a batch of unknown size.
            schedule: `NoiseSchedule`.
            seed: `keras.random.SeedGenerator`.

        Returns:
            Tensor of shape `(batch,)`: int32 in [1, T], or float32 where the schedule takes levels between them.
        """
        raise NotImplementedError

    def draw_log_snr(self, batch_size, schedule, seed):
        """The log-SNRs of levels that are drawn, a float32 tensor; arguments as of `draw`."""
        return schedule.to_log_snr(self.draw(batch_size, schedule, seed))

    def support(self, schedule):
        """Levels that stand for the law, to compute an expectation on the host.

        Args:
            schedule: `NoiseSchedule`.

        Returns:
            Pair of float64 arrays of one shape: timesteps in [1, T], and their probabilities, which add up to 1.
        """
        timesteps = self.draw(2**14, schedule, keras.random.SeedGenerator(0))
        timesteps = ops.convert_to_numpy(timesteps).astype("float64")
        return timesteps, np.full(len(timesteps), 1 / len(timesteps))


@keras.saving.register_keras_serializable("keras_umd")
class Uniform(Levels):
    """Every timestep from 1 to T is equally likely (DDPM).

    Example:

    >>> corruption = Corruption.dit(levels=levels.Uniform())
    """

    def draw(self, batch_size, schedule, seed):
        return keras.random.randint((batch_size,), 1, schedule.num_timesteps + 1, dtype="int32", seed=seed)

    def support(self, schedule):
        timesteps = np.arange(1, schedule.num_timesteps + 1, dtype="float64")
        return timesteps, np.full(len(timesteps), 1 / len(timesteps))


@keras.saving.register_keras_serializable("keras_umd")
class ContinuousUniform(Levels):
    """Uniform between 1 and T, integers or not (SiT).

    Example:

    >>> corruption = Corruption.dit(levels=levels.ContinuousUniform())
    """

    def draw(self, batch_size, schedule, seed):
        return keras.random.uniform(
            (batch_size,), 1.0, max(float(schedule.num_timesteps), 1.0 + 1e-6), dtype="float32", seed=seed
        )

    def support(self, schedule):
        # Even in the logarithm: weights such as 1 / tau^2 change most where there is little noise.
        logs = np.linspace(0, np.log(schedule.num_timesteps), NUM_NODES)
        return np.exp(logs), _normalized(np.exp(logs))


class LogSNRLevels(Levels):
    """A law of the log-SNR, l = log(signal^2 / sigma^2), whatever the path: a subclass has `draw_log_snr`.

    What lies outside of the schedule gets the nearer of its ends.

    Example:

    >>> isinstance(levels.LogSNRNormal(), levels.LogSNRLevels)
    True
    """

    def draw(self, batch_size, schedule, seed):
        return schedule.to_timesteps(self.draw_log_snr(batch_size, schedule, seed))


@keras.saving.register_keras_serializable("keras_umd")
class LogSNRNormal(LogSNRLevels):
    """A normal log-SNR.

    Example:

    >>> corruption = Corruption.dit(levels=levels.LogSNRNormal(0.0, 2.0))

    Args:
        mean: Float. 0 is as much noise as image; the larger, the less noise.
        deviation: Positive float.
    """

    def __init__(self, mean=0.0, deviation=2.0):
        check_numbers("[-30, 30]", mean=mean)
        check_numbers("(0, 30]", deviation=deviation)
        self.mean, self.deviation = float(mean), float(deviation)

    @property
    def moments(self):
        """Mean and deviation of the log-SNR."""
        return self.mean, self.deviation

    def draw_log_snr(self, batch_size, schedule, seed):
        mean, deviation = self.moments
        return mean + deviation * keras.random.normal((batch_size,), dtype="float32", seed=seed)

    def support(self, schedule):
        mean, deviation = self.moments
        z = np.linspace(-MAX_DEVIATIONS, MAX_DEVIATIONS, NUM_NODES)
        return schedule.timesteps_at(mean + deviation * z), _normalized(np.exp(-(z**2) / 2))


@keras.saving.register_keras_serializable("keras_umd")
class LogitNormal(LogSNRNormal):
    """A normal logit of the noise's share, sigma / (signal + sigma): of tau in a rectified flow (Esser et al., 2024).

    JiT's is `LogitNormal(0.8, 0.8)` (it writes -0.8, for the image's share), RAE's and SD3's `LogitNormal(0, 1)`.

    Example:

    >>> corruption = Corruption.dit(levels=levels.LogitNormal())

    Args:
        mean: Float. The larger, the more noise.
        deviation: Positive float.
    """

    def __init__(self, mean=0.0, deviation=1.0):
        super().__init__(mean, deviation)

    @property
    def moments(self):
        return -2 * self.mean, 2 * self.deviation


@keras.saving.register_keras_serializable("keras_umd")
class LogNormal(LogitNormal):
    """A normal logarithm of noise over signal: of EDM's sigma (Karras et al., 2022, section 5).

    That is the logit of the noise's share: the law is `LogitNormal`'s, with other defaults. EDM's is
    `LogNormal(-1.2, 1.2)`, EDM2's at 64 pixels `LogNormal(-0.8, 1.6)`.

    Example:

    >>> corruption = Corruption.dit(levels=levels.LogNormal(-1.2, 1.2))

    Args:
        mean: Float. The larger, the more noise.
        deviation: Positive float.
    """

    def __init__(self, mean=-1.2, deviation=1.2):
        super().__init__(mean, deviation)


@keras.saving.register_keras_serializable("keras_umd.levels")  # masks have one of this name
class Adaptive(LogSNRLevels):
    """Log-SNRs as often as the noise is hard to predict there, which `objectives.VariationalBound` learns (VDM).

    The range of the log-SNR is cut into bins of one width. How often each is drawn is in proportion to the mean squared
    error of the noise in it: of all laws the one under which the terms of the variational bound vary least with the
    noise level (Kingma et al., "Variational Diffusion Models", 2021, section 5.2, with a history instead of a network).
    Before anything is known all bins are alike. It is that even law under which weights of a `weighting` have mean 1.

    It is for likelihoods. Most of what is drawn has little noise, and with a plain loss of x_0 samples are far worse
    than with `Uniform` (docs/paths.md).

    Example:

    >>> model = UMD(corruption=Corruption.dit(levels=levels.Adaptive()))
    >>> model.objective.loss_names
    ['noisy_x0_loss', 'noisy_eps_loss', 'noisy_variational_bound_loss']

    Args:
        log_snr: Pair of floats, least and largest log-SNR that are drawn; both must lie in the schedule's range, which
            is [-19.8, 10.1] for `Cosine()`, [-10.1, 9.2] for `Linear()` and [-8.8, 12.4] for `EDM()`.
        num_bins: Integer from 2 to 1024.
    """

    is_learned = True

    def __init__(self, log_snr=(-8.5, 9.0), num_bins=64):
        ends = as_numbers(log_snr=log_snr)
        require(
            ends.shape == (2,) and ends[0] < ends[1] and np.all(np.abs(ends) <= 30),
            "`log_snr` must be two numbers in [-30, 30], the lower first.",
            log_snr=log_snr,
        )
        check_integers(2, 1024, num_bins=num_bins)  # of more, float32 couldn't draw the rare ones
        self.log_snr = tuple(ends.tolist())
        self.num_bins = int(num_bins)

    @property
    def width(self):
        """That of a bin, in units of the log-SNR."""
        return (self.log_snr[1] - self.log_snr[0]) / self.num_bins

    def check_schedule(self, schedule):
        """Raise a ValueError if the schedule doesn't reach the ends: both would be drawn as its own."""
        least, most = schedule.log_snr(np.array([schedule.num_timesteps, 1]))
        require(
            least <= self.log_snr[0] and self.log_snr[1] <= most,
            f"`log_snr` must lie in the schedule's range, [{least:.4g}, {most:.4g}].",
            log_snr=self.log_snr,
        )

    def draw(self, batch_size, schedule, seed, probabilities=None):
        return schedule.to_timesteps(self.draw_log_snr(batch_size, schedule, seed, probabilities))

    def draw_log_snr(self, batch_size, schedule, seed, probabilities=None):
        """As of `Levels`, with the probability of each bin, a float32 tensor `(num_bins,)`; even by default."""
        uniform = keras.random.uniform((batch_size,), dtype="float32", seed=seed)
        if probabilities is None:
            return self.log_snr[0] + self.width * self.num_bins * uniform
        ends = ops.cumsum(probabilities)
        bins = ops.minimum(ops.searchsorted(ends, uniform * ends[-1], side="right"), self.num_bins - 1)
        own = ops.take(probabilities, bins)
        share = (uniform * ends[-1] - (ops.take(ends, bins) - own)) / own
        return self.log_snr[0] + self.width * (ops.cast(bins, "float32") + ops.clip(share, 0.0, 1.0))

    def bins_of(self, log_snr):
        """The bins of log-SNRs, an int32 tensor of their shape; of those outside, the nearest."""
        places = ops.floor((log_snr - self.log_snr[0]) / self.width)
        return ops.cast(ops.clip(places, 0, self.num_bins - 1), "int32")

    def support(self, schedule):
        middles = self.log_snr[0] + self.width * (np.arange(self.num_bins) + 0.5)
        return schedule.timesteps_at(middles), np.full(self.num_bins, 1 / self.num_bins)


@keras.saving.register_keras_serializable("keras_umd")
class Shifted(Levels):
    """Another law, shifted to more noise, as larger images need (Esser et al., 2024, section 5.3.2).

    A share tau of noise becomes shift * tau / (1 + (shift - 1) * tau), so 2 log(shift) is taken off the log-SNR; two
    shifts act as their product. SD3 takes 3 at 1024 pixels, RAE the square root of (the numbers in an image) / 4096.

    Example:

    >>> corruption = Corruption.dit(levels=levels.Shifted(levels.LogitNormal(), shift=3.0))

    Args:
        levels: `Levels`.
        shift: Float in [0.01, 100]. Above 1 is more noise, below 1 less.
    """

    def __init__(self, levels, shift):
        check_instances(Levels, "a Levels, as LogitNormal(),", levels=levels)
        require(not levels.is_learned, "`levels` must be a law that isn't learned: it finds its own.", levels=levels)
        check_numbers("[0.01, 100]", shift=shift)
        self.levels, self.shift = levels, float(shift)

    @property
    def _change(self):
        return -2 * np.log(self.shift).item()

    def draw(self, batch_size, schedule, seed):
        return schedule.to_timesteps(self.draw_log_snr(batch_size, schedule, seed))

    def draw_log_snr(self, batch_size, schedule, seed):
        return self.levels.draw_log_snr(batch_size, schedule, seed) + self._change

    def support(self, schedule):
        timesteps, probabilities = self.levels.support(schedule)
        return schedule.timesteps_at(schedule.log_snr(timesteps) + self._change), probabilities


def _normalized(densities):
    """Probabilities of nodes at even distances, by the trapezoid rule."""
    densities = densities * np.where(np.isin(np.arange(len(densities)), (0, len(densities) - 1)), 0.5, 1.0)
    return densities / densities.sum()
