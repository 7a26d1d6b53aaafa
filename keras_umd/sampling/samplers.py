"""From noise to images: running the corruption backwards."""

import keras
import numpy as np
from keras import ops

from keras_umd.sampling.sampler import Sampler
from keras_umd.sampling.time_grids import ShiftedGrid, is_explicit
from keras_umd.utils.checks import check_numbers, require

__all__ = ["DDIM", "DPMSolverPP2M", "Euler", "Heun", "Sampler", "ShiftedGrid"]


@keras.saving.register_keras_serializable("keras_umd")
class DDIM(Sampler):
    """Denoising diffusion implicit models (Song et al., 2020; Eq. 2).

    `eta=0` is deterministic: Euler's method for the probability flow, with noise over signal as the time. `eta=1` is
    ancestral sampling, DDPM, the paper's choice.

    Example:

    >>> pictures = model.generate([0, 1, 2], sampler=samplers.DDIM(eta=0.0), num_steps=5, seed=0)

    Args:
        eta: Float in [0, 1]. Share of fresh noise in each step.
        timesteps: As of `Sampler`.
    """

    def __init__(self, eta=1.0, timesteps="uniform"):
        check_numbers("[0, 1]", eta=eta)
        super().__init__(timesteps)
        self.eta = eta

    @property
    def is_stochastic(self):
        return self.eta > 0

    def columns(self, now, after):
        kept = now["signal"] / after["signal"]
        added = np.maximum(now["sigma"] ** 2 - (kept * after["sigma"]) ** 2, 0)  # from `after` to `now`
        deviation = self.eta * after["sigma"] / now["sigma"] * np.sqrt(added)
        return {
            "signal_next": after["signal"],
            "direction": np.sqrt(np.maximum(after["sigma"] ** 2 - deviation**2, 0)),
            "deviation": deviation,
        }

    def step(self, x_t, memory, x0, eps, fresh_noise, row):
        x_next = row["signal_next"] * x0 + row["direction"] * eps
        return (x_next + row["deviation"] * fresh_noise if self.is_stochastic else x_next), memory


@keras.saving.register_keras_serializable("keras_umd")
class Euler(DDIM):
    """Euler's method for the probability flow: `DDIM` without fresh noise.

    On a rectified flow it is Euler's method in its own time, x + (tau' - tau) * v; on EDM's path that in sigma.

    Example:

    >>> pictures = model.generate([0, 1, 2], sampler=samplers.Euler(), num_steps=5, seed=0)

    Args:
        timesteps: As of `Sampler`.
    """

    def __init__(self, timesteps="uniform"):
        super().__init__(0.0, timesteps)


@keras.saving.register_keras_serializable("keras_umd")
class DPMSolverPP2M(Sampler):
    """DPM-Solver++ (2M): second order from one call a step, by the x_0 of the step before (Lu et al., 2022, Alg. 2).

    Deterministic. The first step and the last, which goes to the image, are of first order; so is the second where the
    first starts from no signal.

    Example:

    >>> pictures = model.generate([0, 1, 2], sampler=samplers.DPMSolverPP2M(), num_steps=5, seed=0)

    Args:
        timesteps: As of `Sampler`, without repetitions.
    """

    def __init__(self, timesteps="log_snr"):
        super().__init__(timesteps)
        require(
            not is_explicit(self.timesteps) or np.all(np.diff(self.timesteps) != 0),
            "`timesteps` must fall in every step.",
            timesteps=timesteps,
        )

    def columns(self, now, after):
        with np.errstate(divide="ignore"):  # infinite in the last step, and where there is no signal
            step = np.log(after["signal"] / after["sigma"]) - np.log(now["signal"] / now["sigma"])
        extrapolation = np.zeros_like(step)
        extrapolation[1:-1] = step[1:-1] / (2 * step[:-2])
        x0_weight = -after["signal"] * np.expm1(-step)
        return {
            "x_weight": after["sigma"] / now["sigma"],
            "x0_weight": x0_weight * (1 + extrapolation),
            "previous_weight": -x0_weight * extrapolation,
        }

    def initial_memory(self, x_T):
        return (ops.zeros_like(x_T),)

    def step(self, x_t, memory, x0, eps, fresh_noise, row):
        (previous_x0,) = memory
        return row["x_weight"] * x_t + row["x0_weight"] * x0 + row["previous_weight"] * previous_x0, (x0,)


@keras.saving.register_keras_serializable("keras_umd")
class Heun(Sampler):
    """Heun's method: second order from two calls a step (Karras et al., 2022, Alg. 1).

    Deterministic. The last step, which goes to the image, is one of Euler's with one call; with an even number of calls
    the first step is too, so that `num_steps` is exactly what the network is called. Explicit timesteps are those of
    the steps: k of them take 2 k - 1 calls. The time is noise over signal and the slope the noise; a step that starts
    from no signal has signal over noise as the time and x_0 as the slope. A rectified flow is followed in its own time,
    with the velocity as the slope (SiT, JiT).

    Example:

    >>> pictures = model.generate([0, 1, 2], sampler=samplers.Heun(), num_steps=5, seed=0)    # three steps

    Args:
        timesteps: As of `Sampler`.
    """

    def __init__(self, timesteps="karras"):
        super().__init__(timesteps)

    def num_times(self, num_calls):
        return num_calls // 2 + 1

    def num_calls(self, num_times):
        return 2 * num_times - 1

    def table(self, levels, num_calls):
        """Two calls a step, predictor (Euler) and corrector (trapezoid); one for the steps in `of_one_call`."""
        last = self.num_times(num_calls) - 1
        of_one_call = (last,) if num_calls % 2 else (0, last)
        pairs = [(step, 0) for step in range(last + 1)] + [(s, 1) for s in range(last + 1) if s not in of_one_call]
        step, is_second = np.array(sorted(pairs)).T
        signal, sigma = levels["signal"], levels["sigma"]
        calls = {**{name: column[step + is_second] for name, column in levels.items()}, "is_second": is_second}
        if "time" in levels:
            return {**calls, "x_weight": np.ones(len(step)), "slope_weight": np.diff(levels["time"])[step]}
        with np.errstate(divide="ignore", invalid="ignore"):  # where there is no signal, and `by_x0` chooses
            ratio = sigma / signal
            by_eps = signal[step + 1] / signal[step], signal[step + 1] * (ratio[step + 1] - ratio[step])
        by_x0 = signal[step] == 0
        return {
            **calls,
            "by_x0": by_x0,
            "x_weight": np.where(by_x0, sigma[step + 1] / sigma[step], by_eps[0]),
            "slope_weight": np.where(by_x0, signal[step + 1], by_eps[1]),
        }

    def initial_memory(self, x_T):
        return x_T, ops.zeros_like(x_T)

    def step(self, x_t, memory, x0, eps, fresh_noise, row):
        is_second = row["is_second"] > 0
        start = ops.where(is_second, memory[0], x_t)  # of the step
        if "time" in row:
            slope = row["signal_slope"] * x0 + row["sigma_slope"] * eps
        else:
            slope = ops.where(row["by_x0"] > 0, x0, eps)
        mean_slope = ops.where(is_second, (memory[1] + slope) / 2, slope)
        return row["x_weight"] * start + row["slope_weight"] * mean_slope, (start, slope)


SAMPLERS = {"ddim": DDIM, "dpmpp_2m": DPMSolverPP2M, "heun": Heun}


def get(sampler):
    """A sampler from its name (`"ddim"`, `"dpmpp_2m"`, `"heun"`), from the eta of DDIM, or itself; `None` is DDIM."""
    if isinstance(sampler, Sampler):
        return sampler
    sampler = 1.0 if sampler is None else sampler
    if isinstance(sampler, (int, float, np.number)) and not isinstance(sampler, bool):
        check_numbers("[0, 1]", sampler=sampler)
        return DDIM(float(sampler))
    require(
        isinstance(sampler, str) and sampler in SAMPLERS,
        f"`sampler` must be one of {', '.join(map(repr, SAMPLERS))}, a number, the eta of DDIM, or an object from "
        "keras_umd.samplers.",
        sampler=sampler,
    )
    return SAMPLERS[sampler]()
