"""Paths of a time that knows no steps: rectified flow, EDM, trigonometric.

All are variance-preserving up to a scale: the image times `signal` and the noise times `sigma`, where log-SNR =
2 log(signal / sigma) says how much is left of the image. `docs/paths.md` compares them.
"""

import keras
import numpy as np
from keras import ops

from keras_umd.corruption.schedule import MAX_LOG_SNR, NoiseSchedule
from keras_umd.utils.checks import as_numbers, check_numbers, require


class ContinuousSchedule(NoiseSchedule):
    """A path in closed form. Networks are told its timestep t in (0, T], a float; 0 is the clean image.

    A subclass has its formulas once, for NumPy in float64 and for tensors: `maths` is `numpy` or `keras.ops`.
    """

    is_continuous = True

    def _factors(self, timesteps, maths):
        """`(signal, sigma)` at timesteps in [0, T]."""
        raise NotImplementedError

    def _log_snr(self, timesteps, maths):
        """log(signal^2 / sigma^2) at timesteps in [1, T]."""
        signal, sigma = self._factors(timesteps, maths)
        return 2 * (maths.log(signal) - maths.log(sigma))

    def _timesteps(self, log_snr, maths):
        """The inverse of `_log_snr`, for finite values."""
        raise NotImplementedError

    def levels(self, timesteps):
        timesteps = as_numbers(timesteps=timesteps)
        require(
            np.all((timesteps >= 0) & (timesteps <= self.num_timesteps)),
            f"`timesteps` must lie in [0, {self.num_timesteps}].",
            timesteps=timesteps,
        )
        signal, sigma = self._factors(timesteps, np)
        return {"timestep": timesteps, "signal": signal, "sigma": sigma}

    def signal_and_sigma(self, timesteps, rank=4):
        factors = self._factors(ops.cast(timesteps, "float32"), ops)
        return tuple(ops.reshape(factor, (-1,) + (1,) * (rank - 1)) for factor in factors)

    def timesteps_at(self, log_snr):
        log_snr = np.clip(as_numbers(log_snr=log_snr, finite=False), -MAX_LOG_SNR, MAX_LOG_SNR)
        return np.clip(self._timesteps(log_snr, np), 1, self.num_timesteps)

    def to_log_snr(self, timesteps):
        return ops.clip(self._log_snr(ops.cast(timesteps, "float32"), ops), -MAX_LOG_SNR, MAX_LOG_SNR)

    def to_timesteps(self, log_snr):
        timesteps = self._timesteps(ops.clip(log_snr, -MAX_LOG_SNR, MAX_LOG_SNR), ops)
        return ops.clip(timesteps, 1.0, float(self.num_timesteps))


@keras.saving.register_keras_serializable("keras_umd")
class RectifiedFlow(ContinuousSchedule):
    """The straight line from image to noise (Liu et al., 2023; Lipman et al., 2023): SiT's path, and JiT's.

        x_t = (1 - tau) x_0 + tau * noise,   tau = t / T,   v = noise - x_0

    In SiT and JiT the time runs the other way, 1 being the image. The network is told t, which is T times
    sigmoid(-log_snr / 2). At T nothing is left of the image: the noise alone (`"eps"`) can't start there.

    Example:

    >>> Corruption(schedule=schedules.RectifiedFlow(), levels=levels.LogitNormal(0.8, 0.8))

    Args:
        num_timesteps: Integer, T: the numbers by which the network is told the time.
    """

    def _factors(self, timesteps, maths):
        tau = timesteps / self.num_timesteps
        return 1 - tau, tau

    def _timesteps(self, log_snr, maths):
        return self.num_timesteps / (1 + maths.exp(log_snr / 2))

    def slopes(self, signal, sigma):
        return 0 * signal - 1, 0 * sigma + 1

    def levels(self, timesteps):
        levels = super().levels(timesteps)
        signal_slope, sigma_slope = self.slopes(levels["signal"], levels["sigma"])
        return {**levels, "signal_slope": signal_slope, "sigma_slope": sigma_slope, "time": levels["sigma"]}


@keras.saving.register_keras_serializable("keras_umd")
class Trigonometric(ContinuousSchedule):
    """A quarter of a circle from image to noise (Albergo et al., 2023; TrigFlow of Lu and Song, 2025).

        x_t = cos(phi) x_0 + sin(phi) * noise,   phi = pi t / (2 T),   v = cos(phi) * noise - sin(phi) x_0

    It is variance-preserving, and nearly `Cosine`, but continuous and with no image left at T.

    Example:

    >>> corruption = Corruption.umd(schedule=schedules.Trigonometric())
    >>> levels = corruption.noise_schedule.levels(np.array([250, 500, 750]))

    Args:
        num_timesteps: Integer, T: the numbers by which the network is told the time.
    """

    def _factors(self, timesteps, maths):
        # By the sine of the rest: the cosine of pi / 2 isn't 0 in floats, and a sampler would divide by it.
        quarter = np.pi / 2 / self.num_timesteps
        return maths.sin(quarter * (self.num_timesteps - timesteps)), maths.sin(quarter * timesteps)

    def _timesteps(self, log_snr, maths):
        return 2 * self.num_timesteps / np.pi * maths.arctan(maths.exp(-log_snr / 2))


@keras.saving.register_keras_serializable("keras_umd")
class EDM(ContinuousSchedule):
    """The path of EDM (Karras et al., 2022), with its scaling of the network's input.

        x_t = (x_0 + s * noise) / sqrt(sigma_data^2 + s^2),   s from sigma_min to sigma_max

    So images of deviation `sigma_data` reach the network with variance 1 at every level. EDM's network F, with its
    c_skip, c_out and loss weight, is minus the velocity of this path, at weight 1: `noisy_losses=("v",)` with
    `levels.LogNormal(-1.2, 1.2)` is EDM's training. The timestep that the network is told is linear in EDM's
    c_noise = ln(s) / 4: 1 at `sigma_min` and T at `sigma_max`. Clean images, at timestep 0, aren't scaled.

    Example:

    >>> corruption = Corruption.umd(schedule=schedules.EDM())
    >>> levels = corruption.noise_schedule.levels(np.array([250, 500, 750]))

    Args:
        sigma_data: Positive float, the deviation of the images' values. 0.5 is that of photographs in [-1, 1].
        sigma_min, sigma_max: Positive floats, the least and the largest noise, in the units of the images.
        num_timesteps: Integer, T, at least 2: the numbers by which the network is told the noise.
    """

    def __init__(self, sigma_data=0.5, sigma_min=0.002, sigma_max=80.0, num_timesteps=1000):
        super().__init__(num_timesteps)
        require(num_timesteps > 1, "`num_timesteps` must be at least 2.", num_timesteps=num_timesteps)
        check_numbers("[1e-6, 1e6]", sigma_data=sigma_data, sigma_min=sigma_min, sigma_max=sigma_max)
        require(
            sigma_min < sigma_max,
            "`sigma_min` must be less than `sigma_max`.",
            sigma_min=sigma_min,
            sigma_max=sigma_max,
        )
        self.sigma_data, self.sigma_min, self.sigma_max = float(sigma_data), float(sigma_min), float(sigma_max)

    @property
    def _rate(self):
        """How much ln(s) rises with a timestep."""
        return np.log(self.sigma_max / self.sigma_min).item() / (self.num_timesteps - 1)

    def _log_sigma(self, timesteps):
        return np.log(self.sigma_min).item() + self._rate * (timesteps - 1)

    def _factors(self, timesteps, maths):
        noise = maths.exp(self._log_sigma(timesteps))
        scale = 1 / maths.sqrt(self.sigma_data**2 + noise**2)
        is_clean = timesteps <= 0
        return maths.where(is_clean, 1.0, scale), maths.where(is_clean, 0.0, noise * scale)

    def _log_snr(self, timesteps, maths):
        return -2 * self._log_sigma(timesteps)

    def _timesteps(self, log_snr, maths):
        return 1 + (-log_snr / 2 - np.log(self.sigma_min).item()) / self._rate

    def slopes(self, signal, sigma):
        return -sigma / self.sigma_data, self.sigma_data * signal

    def levels(self, timesteps):
        levels = super().levels(timesteps)
        signal_slope, sigma_slope = self.slopes(levels["signal"], levels["sigma"])
        return {**levels, "signal_slope": signal_slope, "sigma_slope": sigma_slope}
