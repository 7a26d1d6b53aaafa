"""Noise schedules: how much of an image is left at each noise level."""

import keras
import numpy as np
from keras import ops

from keras_umd.corruption.continuous import EDM, RectifiedFlow, Trigonometric
from keras_umd.corruption.schedule import MAX_TIMESTEPS, NoiseSchedule
from keras_umd.utils.checks import as_numbers, check_integers, require

__all__ = ["EDM", "Cosine", "Linear", "NoiseSchedule", "RectifiedFlow", "Trigonometric", "VariancePreserving"]


@keras.saving.register_keras_serializable("keras_umd")
class VariancePreserving(NoiseSchedule):
    """Variance-preserving noise with an added noise-free step (Eq. 1 and section 4).

        x_t = sqrt(alpha_bar[t]) * x_0 + sqrt(1 - alpha_bar[t]) * noise

    `alpha_bar` has T + 1 entries: entry 0 is the clean image, `alpha_bar[0] = 1`, and entries 1 to T are those of DDPM.
    Tables are made in float64 and used in float32.

    Example:

    >>> corruption = Corruption(schedule=NoiseSchedule.from_betas(np.linspace(1e-4, 0.02, 500)))

    Args:
        betas: List or array of shape `(T,)`, numbers in (0, 1).
    """

    def __init__(self, betas):
        betas = as_numbers(betas=betas)
        require(
            betas.ndim == 1 and len(betas) and np.all((betas > 0) & (betas < 1)),
            "`betas` must be a list of numbers between 0 and 1.",
            betas=betas,
        )
        super().__init__(len(betas))
        self.betas = betas
        self.alpha_bar = np.concatenate([[1.0], np.cumprod(1.0 - betas)])
        self._signal = np.sqrt(self.alpha_bar).astype("float32")
        self._sigma = np.sqrt(1.0 - self.alpha_bar).astype("float32")
        with np.errstate(divide="ignore"):
            self._log_snr = np.log(self.alpha_bar) - np.log1p(-self.alpha_bar)

    def log_snr(self, timesteps):
        # Between integers it is linear, so that a sampler can take any steps it likes.
        timesteps = self._checked(timesteps)
        steps = np.arange(1, self.num_timesteps + 1)
        return np.where(timesteps == 0, np.inf, np.interp(timesteps, steps, self._log_snr[1:]))

    def _checked(self, timesteps):
        timesteps = as_numbers(timesteps=timesteps)
        require(
            np.all((timesteps == 0) | ((timesteps >= 1) & (timesteps <= self.num_timesteps))),
            f"`timesteps` must be 0 or lie in [1, {self.num_timesteps}].",
            timesteps=timesteps,
        )
        return timesteps

    def levels(self, timesteps):
        log_snr = self.log_snr(timesteps)
        signal, sigma = 1 / np.sqrt(1 + np.exp(-log_snr)), 1 / np.sqrt(1 + np.exp(log_snr))
        return {"timestep": np.asarray(timesteps, "float64"), "signal": signal, "sigma": sigma}

    def signal_and_sigma(self, timesteps, rank=4):
        shape = (-1,) + (1,) * (rank - 1)
        if "int" in keras.backend.standardize_dtype(timesteps.dtype):
            signal = ops.take(ops.convert_to_tensor(self._signal), timesteps)
            sigma = ops.take(ops.convert_to_tensor(self._sigma), timesteps)
        else:
            before = ops.cast(ops.floor(timesteps), "int32")
            after = ops.minimum(before + 1, self.num_timesteps)
            table = ops.convert_to_tensor(self._log_snr.astype("float32"))
            share = timesteps - ops.cast(before, timesteps.dtype)
            log_snr = (1 - share) * ops.take(table, before) + share * ops.take(table, after)
            signal, sigma = ops.sqrt(ops.sigmoid(log_snr)), ops.sqrt(ops.sigmoid(-log_snr))
        return ops.reshape(signal, shape), ops.reshape(sigma, shape)

    def get_config(self):
        config = super().get_config()
        return {**config, "betas": self.betas.tolist()} if "betas" in config else config

    def __repr__(self):
        return f"{type(self).__name__}(num_timesteps={self.num_timesteps})"


@keras.saving.register_keras_serializable("keras_umd")
class Cosine(VariancePreserving):
    """The cosine schedule (Nichol and Dhariwal, 2021, Eq. 17), the paper's for pixels.

    Example:

    >>> corruption = Corruption.umd(schedule=schedules.Cosine())
    >>> levels = corruption.noise_schedule.levels(np.array([250, 500, 750]))

    Args:
        num_timesteps: Integer, T.
    """

    name = "cosine"

    def __init__(self, num_timesteps=1000):
        NoiseSchedule.__init__(self, num_timesteps)  # checks it
        edges = np.cos((np.arange(self.num_timesteps + 1) / self.num_timesteps + 0.008) / 1.008 * np.pi / 2) ** 2
        super().__init__(np.minimum(1.0 - edges[1:] / edges[:-1], 0.999))


@keras.saving.register_keras_serializable("keras_umd.schedules")  # decoders have one of this name, in older files
class Linear(VariancePreserving):
    """Betas that rise linearly (DDPM), the paper's for latents.

    Example:

    >>> corruption = Corruption.umd(schedule=schedules.Linear())
    >>> levels = corruption.noise_schedule.levels(np.array([250, 500, 750]))

    Args:
        num_timesteps: Integer, T, over 20. The betas are scaled so that as much noise is added as in 1000 steps.
    """

    name = "linear"

    def __init__(self, num_timesteps=1000):
        NoiseSchedule.__init__(self, num_timesteps)
        scale = 1000.0 / self.num_timesteps
        betas = np.linspace(1e-4 * scale, 0.02 * scale, self.num_timesteps)
        require(betas[-1] < 1, "The linear schedule needs over 20 timesteps.", num_timesteps=num_timesteps)
        super().__init__(betas)


SCHEDULES = {schedule.name: schedule for schedule in (Cosine, Linear)}


def get(schedule, num_timesteps=None):
    """A schedule from its name, or itself.

    Args:
        schedule: `"cosine"`, `"linear"` or a `NoiseSchedule`.
        num_timesteps: Integer, T, of a schedule by name. Defaults to 1000.
    """
    check_integers(1, MAX_TIMESTEPS, optional=True, num_timesteps=num_timesteps)
    if isinstance(schedule, NoiseSchedule):
        require(
            num_timesteps in (None, schedule.num_timesteps),
            "`num_timesteps` is set by the schedule object.",
            f"num_timesteps={num_timesteps} and {schedule}",
        )
        return schedule
    require(
        isinstance(schedule, str) and schedule in SCHEDULES,
        f"`schedule` must be one of {', '.join(map(repr, SCHEDULES))}, or a NoiseSchedule, for example "
        "NoiseSchedule.from_betas(betas) or schedules.RectifiedFlow().",
        schedule=schedule,
    )
    return SCHEDULES[schedule](1000 if num_timesteps is None else num_timesteps)


def schedule_config(schedule):
    """The arguments `schedule` and `num_timesteps` that give this schedule again, in a config."""
    is_named = type(schedule) is SCHEDULES.get(schedule.name)
    return {"schedule": schedule.name, **schedule.get_config()} if is_named else {"schedule": schedule}
