"""At which noise levels a sampler looks: timesteps from T down to 1."""

import keras
import numpy as np

from keras_umd.utils.checks import as_numbers, check_numbers, require
from keras_umd.utils.configurable import Configurable

# With the cosine schedule timestep T has an SNR of 1e-9, and a grid that is even in the noise level would spend a third
# to half of its steps where an image can't be told from noise. It starts here instead: twice EDM's largest noise level.
MAX_NOISE_RATIO = 160.0
KARRAS_RHO = 7.0


def uniform(num_times, schedule, start):
    """Even in the timestep: rounded to those that the model was trained at (the paper's choice), or down to 0."""
    if getattr(schedule, "is_continuous", False):
        return np.linspace(start, 0, num_times + 1)[:-1]
    return np.append(start, np.round(np.linspace(start, 1, num_times)[1:]))


def quadratic(num_times, schedule, start):
    """Even in the square root of the timestep: denser at little noise (Song et al., 2020, section D.2)."""
    return np.linspace(np.sqrt(start), 1, num_times) ** 2


def log_snr(num_times, schedule, start):
    """Even in the logarithm of the signal-to-noise ratio (Lu et al., 2022)."""
    first = max(schedule.log_snr(start), -2 * np.log(MAX_NOISE_RATIO))
    return schedule.timesteps_at(np.linspace(first, schedule.log_snr(1), num_times))


def karras(num_times, schedule, start):
    """Even in the 7th root of noise over signal (Karras et al., 2022, Eq. 5)."""
    noise_ratio = np.exp(-schedule.log_snr(np.array([start, 1])) / 2)
    first, last = np.minimum(noise_ratio, MAX_NOISE_RATIO) ** (1 / KARRAS_RHO)
    return schedule.timesteps_at(-2 * KARRAS_RHO * np.log(np.linspace(first, last, num_times)))


GRIDS = {"uniform": uniform, "quadratic": quadratic, "log_snr": log_snr, "karras": karras}


def time_grid(timesteps, num_times, schedule, start=None):
    """The timesteps of a sampler, from the first to the last before 0.

    Args:
        timesteps: `"uniform"`, `"quadratic"`, `"log_snr"` or `"karras"`, or `ShiftedGrid`.
        num_times: Integer from 1 to `start`.
        schedule: `NoiseSchedule`.
        start: Number in [1, T], the timestep to start from. Defaults to T.

    Returns:
        Float64 array of shape `(num_times,)`, falling. All but `"uniform"` give timesteps between integers.
    """
    start = schedule.num_timesteps if start is None else start
    return (GRIDS[timesteps] if isinstance(timesteps, str) else timesteps)(num_times, schedule, start)


@keras.saving.register_keras_serializable("keras_umd")
class ShiftedGrid(Configurable):
    """A grid shifted to more noise, as larger images need (Esser et al., 2024): for `timesteps` of samplers.

    A share tau of noise, sigma / (signal + sigma), becomes shift * tau / (1 + (shift - 1) * tau), with the start as 1.

    Example:

    >>> pictures = model.generate(num_images=4, num_steps=5, sampler=samplers.Euler(samplers.ShiftedGrid(3.0)))

    Args:
        shift: Float in [0.01, 100]. Above 1 is more noise, below 1 less.
        timesteps: The name of the grid to shift.
    """

    def __init__(self, shift, timesteps="uniform"):
        check_numbers("[0.01, 100]", shift=shift)
        require(isinstance(check_timesteps(timesteps), str), "`timesteps` must be a name.", timesteps=timesteps)
        self.shift, self.timesteps = float(shift), timesteps

    def __call__(self, num_times, schedule, start):
        times = GRIDS[self.timesteps](num_times, schedule, start)
        noise = 1 / (1 + np.exp(schedule.log_snr(times) / 2))
        share = noise / noise[0]
        noise = noise[0] * self.shift * share / (1 + (self.shift - 1) * share)
        shifted = schedule.timesteps_at(2 * (np.log1p(-noise[1:]) - np.log(noise[1:])))
        shifted = np.append(times[0], shifted)
        require(
            np.all(np.diff(shifted) < 0),
            "`shift` takes several steps to the least noise of the schedule; take fewer steps, or a larger shift.",
            shift=self.shift,
            num_times=num_times,
        )
        return shifted


def is_explicit(timesteps):
    """Whether they are a list of timesteps, and no grid."""
    return isinstance(timesteps, tuple)


def check_timesteps(timesteps):
    """A grid, or an explicit list of numbers as a tuple of floats."""
    if isinstance(timesteps, ShiftedGrid):
        return timesteps
    if isinstance(timesteps, str):
        require(
            timesteps in GRIDS,
            f"`timesteps` must be one of {', '.join(map(repr, GRIDS))}, or a list of timesteps.",
            timesteps=timesteps,
        )
        return timesteps
    values = as_numbers(timesteps=timesteps)
    require(
        values.ndim == 1 and len(values) and values.min() >= 1 and not np.any(np.diff(values) > 0),
        "Explicit `timesteps` must be numbers of at least 1 that don't rise: sampling goes from T to 1.",
        timesteps=timesteps,
    )
    return tuple(values.tolist())
