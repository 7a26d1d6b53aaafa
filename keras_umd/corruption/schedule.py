"""The interface of a noise schedule."""

import functools

import numpy as np
from keras import ops

from keras_umd.utils.checks import as_numbers, check_integers, check_tensors, require
from keras_umd.utils.configurable import Configurable

MAX_LOG_SNR = 60.0  # beyond it, nothing is left of the image or of the noise in float32
MAX_TIMESTEPS = 1_000_000  # a thousand times the paper's; the tables of many more would fill the memory


class NoiseSchedule(Configurable):
    """The factors of image and noise at each timestep: x_t = signal * x_0 + sigma * noise.

    Timestep 0 is the clean image, T = `num_timesteps` the most noise. `Cosine` and `Linear` are the paper's,
    `RectifiedFlow`, `EDM` and `Trigonometric` those of other systems. Another one comes from its betas, by
    `NoiseSchedule.from_betas`, or from a subclass that says what `levels` and `signal_and_sigma` are; where its path
    isn't variance-preserving, also what its `slopes` are.

    Example:

    >>> schedule = model.corruption.noise_schedule
    >>> x0, noise = np.zeros((2, 8, 8, 1), "float32"), np.ones((2, 8, 8, 1), "float32")
    >>> x_t = schedule.add_noise(x0, noise, np.array([0, 1000]))
    >>> schedule.levels(np.array([0, 1000]))["sigma"].round(3)
    array([0., 1.])

    Args:
        num_timesteps: Integer, T.
    """

    name: str | None = None  # by which `Corruption(schedule=...)` knows it
    is_continuous = False  # whether networks are trained between the integers, and even grids needn't be rounded

    def __init__(self, num_timesteps=1000):
        check_integers(1, MAX_TIMESTEPS, num_timesteps=num_timesteps)
        self.num_timesteps = int(num_timesteps)

    @staticmethod
    def from_betas(betas):
        """A variance-preserving schedule from its betas, see `VariancePreserving`."""
        from keras_umd.corruption.schedules import VariancePreserving  # which rests on this class

        return VariancePreserving(betas)

    def levels(self, timesteps):
        """The noise levels at timesteps that may lie between two integers, on the host.

        Args:
            timesteps: Array of numbers, each 0 or in [1, T].

        Returns:
            Dictionary of float64 arrays of their shape: `timestep`, `signal`, `sigma`; of a path that isn't
            variance-preserving also `signal_slope` and `sigma_slope`, as of `slopes`; of one that samplers should
            follow by its own time also `time`, in whose units the slopes are.
        """
        raise NotImplementedError

    def slopes(self, signal, sigma):
        """How fast both factors change along the path, at given factors: the velocity is the sum of both terms.

            v = signal_slope * x_0 + sigma_slope * noise

        By default those of a variance-preserving path, which turns by an angle (Salimans and Ho, 2022).

        Args:
            signal, sigma: Float arrays or tensors of one shape.

        Returns:
            Pair of the same, `(signal_slope, sigma_slope)`.
        """
        return -sigma, signal

    def level(self, timesteps, rank=4):
        """What a noise level is, for targets and weightings: the factors and their slopes.

        Args:
            timesteps, rank: As of `signal_and_sigma`.

        Returns:
            Dictionary of float32 tensors that broadcast with images: `signal`, `sigma`, `signal_slope`, `sigma_slope`.
        """
        signal, sigma = self.signal_and_sigma(timesteps, rank)
        signal_slope, sigma_slope = self.slopes(signal, sigma)
        return {"signal": signal, "sigma": sigma, "signal_slope": signal_slope, "sigma_slope": sigma_slope}

    def signal_and_sigma(self, timesteps, rank=4):
        """Factors of the image and of the noise at `timesteps`, each of shape `(batch, 1, 1, 1)` for rank 4.

        Args:
            timesteps: Tensor of shape `(batch,)`: integers in [0, T], or floats, 0 or in [1, T].
            rank: Integer, that of the images.
        """
        raise NotImplementedError

    def log_snr(self, timesteps):
        """log(signal^2 / sigma^2) at `timesteps`, as of `levels`; infinite at 0."""
        levels = self.levels(timesteps)
        with np.errstate(divide="ignore"):
            return 2 * (np.log(levels["signal"]) - np.log(levels["sigma"]))

    def timesteps_at(self, log_snr):
        """The timesteps in [1, T] of given log-SNRs: the inverse of `log_snr`."""
        steps = np.arange(self.num_timesteps, 0, -1)
        return np.interp(as_numbers(log_snr=log_snr, finite=False), self.log_snr(steps), steps)

    def to_log_snr(self, timesteps):
        """`log_snr` of a tensor of timesteps in [1, T], for what is drawn in a training step."""
        table = ops.convert_to_tensor(self._table)
        timesteps = ops.cast(timesteps, "float32")
        before = ops.clip(ops.cast(ops.floor(timesteps), "int32"), 1, self.num_timesteps)
        after = ops.minimum(before + 1, self.num_timesteps)
        share = timesteps - ops.cast(before, "float32")
        return (1 - share) * ops.take(table, before - 1) + share * ops.take(table, after - 1)

    def to_timesteps(self, log_snr):
        """The inverse of `to_log_snr`, a float32 tensor in [1, T]; of what lies outside, the nearer end."""
        if self.num_timesteps == 1:
            return ops.ones_like(log_snr)
        table = ops.convert_to_tensor(self._table)
        after = ops.clip(ops.searchsorted(-table, -log_snr), 1, self.num_timesteps - 1)
        start, end = ops.take(table, after - 1), ops.take(table, after)
        return ops.cast(after, "float32") + ops.clip((start - log_snr) / (start - end), 0.0, 1.0)

    @functools.cached_property
    def _table(self):
        """The log-SNR of timesteps 1 to T, float32; finite also where no signal is left."""
        return np.maximum(self.log_snr(np.arange(1, self.num_timesteps + 1)), -MAX_LOG_SNR).astype("float32")

    def add_noise(self, images, noise, timesteps):
        """x_t from x_0 (Eq. 1).

        Args:
            images, noise: Float tensors of one shape, `(batch, ...)`.
            timesteps: Tensor of shape `(batch,)`, as of `signal_and_sigma`.
        """
        images, noise, timesteps = _tensors(images=images, noise=noise, timesteps=timesteps)
        signal, sigma = self.signal_and_sigma(timesteps, len(images.shape))
        return signal * images + sigma * noise

    def predict_x0(self, x_t, noise, timesteps):
        """The x_0 that `noise` implies at `x_t`: Eq. 1 solved for the image, where there is a signal."""
        x_t, noise, timesteps = _tensors(x_t=x_t, noise=noise, timesteps=timesteps)
        signal, sigma = self.signal_and_sigma(timesteps, len(x_t.shape))
        return (x_t - sigma * noise) / signal

    def predict_noise(self, x_t, x0, timesteps):
        """The noise that `x0` implies at `x_t`, for `timesteps` of at least 1: Eq. 1 solved for the noise."""
        x_t, x0, timesteps = _tensors(x_t=x_t, x0=x0, timesteps=timesteps)
        signal, sigma = self.signal_and_sigma(timesteps, len(x_t.shape))
        return (x_t - signal * x0) / sigma


def _tensors(*, timesteps, **images):
    """Images, noise and timesteps as tensors, or a ValueError for other things and shapes."""
    check_tensors(1, timesteps=timesteps)
    require(timesteps.shape[0] != 0, "`timesteps` must be one for each image.", "timesteps of shape (0,)")
    ranks = set()
    for name, x in images.items():
        check_tensors(None, types=("float",), **{name: x})
        ranks.add(len(x.shape))
    require(
        len(ranks) == 1 and min(ranks) >= 2,
        f"`{'` and `'.join(images)}` must be of one shape (batch, ...).",
        ", ".join(f"{name} of shape {tuple(x.shape)}" for name, x in images.items()),
    )
    return [ops.convert_to_tensor(x) if isinstance(x, np.ndarray) else x for x in (*images.values(), timesteps)]
