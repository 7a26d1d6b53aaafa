"""From noise to images: running the corruption backwards."""

import keras
import numpy as np
from keras import ops

from keras_umd.sampling.image_noise import image_noise, noise_key
from keras_umd.sampling.time_grids import check_timesteps, time_grid
from keras_umd.utils.seeds import seed_generator


class Sampler:
    """A way from noise to images, for any function `(x_t, timestep) -> noise`.

    Samplers whose `get_config` is the same, timesteps aside, share a compiled program: it holds all settings.

    A sampler is a table of numbers with a row for each call of the network (`plan`), and what to do with the network's
    answer and a row (`step`). The loop around them is the same for all.

    Args:
        timesteps: Where to look: `"uniform"`, `"quadratic"`, `"log_snr"`, `"karras"` (see
            `keras_umd.sampling.time_grids`) or a falling list of numbers in [1, T]. After the last one comes 0.
    """

    is_stochastic = False

    def __init__(self, timesteps="uniform"):
        self.timesteps = check_timesteps(timesteps)

    def plan(self, num_steps, schedule, start=None):
        """The numbers of every call of the network, computed in float64 before the loop starts.

        Args:
            num_steps: Integer from 1 to T, the calls of the network; `None` for as many as explicit timesteps need.
            schedule: `NoiseSchedule`.
            start: Number in [1, T], the timestep to start from. Defaults to T.

        Returns:
            Dictionary of float32 arrays of shape `(num_steps,)`: the call's `timestep`, `signal` and `sigma`, and the
            sampler's own columns.
        """
        num_steps, times = self._times(num_steps, schedule, start)
        columns = self._columns(_levels(np.append(times, 0), schedule), num_steps)
        return {name: column.astype("float32") for name, column in columns.items()}

    def _times(self, num_steps, schedule, start):
        explicit = not isinstance(self.timesteps, str)
        if num_steps is None and explicit:
            num_steps = self._calls(len(self.timesteps))
        T = schedule.num_timesteps
        if not isinstance(num_steps, (int, np.integer)) or not 1 <= num_steps <= T:
            raise ValueError(
                f"`num_steps` must be an integer from 1 to the {T} timesteps of the model. "
                f"Received: num_steps={num_steps}"
            )
        if start is not None and not 1 <= start <= T:
            raise ValueError(f"`start` must lie between 1 and {T}. Received: start={start}")
        if not explicit:
            if num_steps > (start or T):
                raise ValueError(
                    f"There can't be more steps than the {start} timesteps from the start to 1. "
                    f"Received: num_steps={num_steps}"
                )
            return num_steps, time_grid(self.timesteps, self._num_times(num_steps), schedule, start)
        times = np.array(self.timesteps)
        if times[0] > T or (start is not None and start != times[0]):
            allowed = f"{T} or below" if start is None else start
            raise ValueError(f"The sampler's timesteps must start at {allowed}. Received: timesteps={self.timesteps}")
        if self._num_times(num_steps) != len(times):
            raise ValueError(
                f"The sampler's {len(times)} timesteps need {self._calls(len(times))} steps; leave out `num_steps`. "
                f"Received: num_steps={num_steps}"
            )
        return num_steps, times

    def _num_times(self, num_calls):
        return num_calls

    def _calls(self, num_times):
        return num_times

    def _columns(self, levels, num_steps):
        raise NotImplementedError

    def initial_memory(self, x_T):
        """What the sampler keeps from call to call, as a tuple of tensors, before the first one."""
        return ()

    def step(self, x_t, memory, predicted_noise, fresh_noise, row, clip_range=None):
        """What is done with one answer of the network.

        Args:
            x_t: Float tensor of shape `(batch, ...)`.
            memory: Tuple of such tensors.
            predicted_noise, fresh_noise: Float tensors of the shape of `x_t`; the second only where `is_stochastic`.
            row: Dictionary of scalars, the entries of `plan` for this call.
            clip_range: Pair of floats that x_0 is clipped to, or `None`.

        Returns:
            The next `x_t` and `memory`. After the last call, `x_t` is the sample.
        """
        raise NotImplementedError

    def sample(
        self, predict_noise, x_T, schedule, num_steps=None, seed=None, clip_range=None, start=None, image_indices=None
    ):
        """The whole way from noise to images.

        Args:
            predict_noise: callable. `(x_t, timestep) -> noise`, `timestep` a float32 tensor of shape `(1,)`.
            x_T: Float tensor of shape `(batch, ...)`, the noise to start from.
            schedule: `NoiseSchedule`.
            num_steps: Integer from 1 to T, the calls of `predict_noise`. Not needed with explicit timesteps.
            seed: Integer, `keras.random.SeedGenerator` or `None`, for fresh noise.
            clip_range: Pair of floats that x_0 is clipped to in every step, or `None`.
            start: Number in [1, T], the timestep of `x_T`. Defaults to T.
            image_indices: Int array `(batch,)`, on which fresh noise depends, see `image_noise`. Defaults to 0, 1, 2...

        Returns:
            Float tensor of the shape of `x_T`, the samples.
        """
        x_T = ops.convert_to_tensor(x_T, dtype="float32")
        plan = {name: ops.convert_to_tensor(c) for name, c in self.plan(num_steps, schedule, start).items()}
        key = ops.convert_to_tensor(noise_key(seed_generator(seed)))
        indices = ops.arange(x_T.shape[0]) if image_indices is None else image_indices
        indices = ops.cast(indices, "int32")
        return self.run(
            lambda x, row, i: predict_noise(x, ops.reshape(row["timestep"], (1,))),
            lambda i: image_noise(key, indices, i + 1, x_T.shape[1:]),
            x_T,
            plan,
            clip_range,
        )

    def run(self, predict_noise, draw_noise, x_T, plan, clip_range=None, num_frames=None):
        """The loop over the calls of the network; on JAX and TensorFlow it compiles to one.

        Args:
            predict_noise: callable. `(x_t, row, i) -> noise`, for call number i.
            draw_noise: callable. `i -> fresh noise`, of the shape of `x_t`.
            x_T: Float tensor of shape `(batch, ...)`.
            plan: What `plan` returned, as tensors.
            clip_range: Pair of floats or `None`.
            num_frames: Integer from 2 to the number of calls + 1, or `None`: return as many states, evenly from the
                noise to the samples.

        Returns:
            Float tensor of the shape of `x_T`, the samples; `(num_frames, *shape)` with `num_frames`.
        """
        num_calls = plan["timestep"].shape[0]
        frames = ()
        if num_frames is not None:
            if not 2 <= num_frames <= num_calls + 1:
                raise ValueError(
                    f"`num_frames` must lie between 2 and {num_calls + 1}, the noise and what follows each of the "
                    f"{num_calls} calls. Received: num_frames={num_frames}"
                )
            frames = (ops.repeat(x_T[None], num_frames, axis=0),)
            slots = ops.reshape(ops.arange(num_frames, dtype="int32"), (-1,) + (1,) * len(x_T.shape))

        def body(i, carry):
            x, memory, frames = carry
            row = {name: ops.take(column, i) for name, column in plan.items()}
            noise = ops.cast(predict_noise(x, row, i), "float32")
            fresh_noise = draw_noise(i) if self.is_stochastic else None
            x, memory = self.step(x, memory, noise, fresh_noise, row, clip_range)
            if frames:  # the last call that writes to a slot stays
                slot = (ops.cast(i + 1, "int32") * (num_frames - 1) + num_calls - 1) // num_calls
                frames = (ops.where(slots == slot, x[None], frames[0]),)
            return x, memory, frames

        samples, _, frames = ops.fori_loop(0, num_calls, body, (x_T, self.initial_memory(x_T), frames))
        return frames[0] if frames else samples

    def get_config(self):
        return {"timesteps": self.timesteps}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


@keras.saving.register_keras_serializable("keras_umd")
class DDIM(Sampler):
    """Denoising diffusion implicit models (Song et al., 2020; Eq. 2).

    `eta=0` is deterministic: Euler's method for the probability flow, with noise over signal as the time. `eta=1` is
    ancestral sampling, DDPM, the paper's choice.

    Args:
        eta: Float in [0, 1]. Share of fresh noise in each step.
        timesteps: As of `Sampler`.
    """

    def __init__(self, eta=1.0, timesteps="uniform"):
        if not 0 <= eta <= 1:
            raise ValueError(f"`eta` must lie in [0, 1]. Received: eta={eta}")
        super().__init__(timesteps)
        self.eta = eta

    @property
    def is_stochastic(self):
        return self.eta > 0

    def _columns(self, levels, num_steps):
        now, after = _before_and_after(levels)
        kept = now["signal"] / after["signal"]
        deviation = self.eta * after["sigma"] / now["sigma"] * np.sqrt(1 - kept**2)
        return {
            **now,
            "signal_next": after["signal"],
            "direction": np.sqrt(np.maximum(after["sigma"] ** 2 - deviation**2, 0)),
            "deviation": deviation,
        }

    def step(self, x_t, memory, predicted_noise, fresh_noise, row, clip_range=None):
        x0, noise = _clipped(x_t, predicted_noise, row, clip_range)
        x_next = row["signal_next"] * x0 + row["direction"] * noise
        return (x_next + row["deviation"] * fresh_noise if self.is_stochastic else x_next), memory

    def get_config(self):
        return {"eta": self.eta, **super().get_config()}


@keras.saving.register_keras_serializable("keras_umd")
class DPMSolverPP2M(Sampler):
    """DPM-Solver++ (2M): second order from one call a step, by the x_0 of the step before (Lu et al., 2022, Alg. 2).

    Deterministic. The first step and the last, which goes to the image, are of first order.

    Args:
        timesteps: As of `Sampler`, without repetitions.
    """

    def __init__(self, timesteps="log_snr"):
        super().__init__(timesteps)
        if not isinstance(self.timesteps, str) and np.any(np.diff(self.timesteps) == 0):
            raise ValueError(f"`timesteps` must fall in every step. Received: timesteps={timesteps}")

    def _columns(self, levels, num_steps):
        now, after = _before_and_after(levels)
        with np.errstate(divide="ignore"):  # infinite in the last step
            step = np.log(after["signal"] / after["sigma"]) - np.log(now["signal"] / now["sigma"])
        extrapolation = np.zeros_like(step)
        extrapolation[1:-1] = step[1:-1] / (2 * step[:-2])
        x0_weight = -after["signal"] * np.expm1(-step)
        return {
            **now,
            "x_weight": after["sigma"] / now["sigma"],
            "x0_weight": x0_weight * (1 + extrapolation),
            "previous_weight": -x0_weight * extrapolation,
        }

    def initial_memory(self, x_T):
        return (ops.zeros_like(x_T),)

    def step(self, x_t, memory, predicted_noise, fresh_noise, row, clip_range=None):
        x0, _ = _clipped(x_t, predicted_noise, row, clip_range)
        (previous_x0,) = memory
        x_next = row["x_weight"] * x_t + row["x0_weight"] * x0 + row["previous_weight"] * previous_x0
        return x_next, (x0,)


@keras.saving.register_keras_serializable("keras_umd")
class Heun(Sampler):
    """Heun's method: second order from two calls a step (Karras et al., 2022, Alg. 1).

    Deterministic. The last step, which goes to the image, is one of Euler's with one call; with an even number of calls
    the first step is too, so that `num_steps` is exactly what the network is called. Explicit timesteps are those of
    the steps: k of them take 2 k - 1 calls.

    Args:
        timesteps: As of `Sampler`.
    """

    def __init__(self, timesteps="karras"):
        super().__init__(timesteps)

    def _num_times(self, num_calls):
        return num_calls // 2 + 1

    def _calls(self, num_times):
        return 2 * num_times - 1

    def _columns(self, levels, num_steps):
        """Each step has a call where it begins, which tries it, and one where it ends, which repeats it better."""
        last = self._num_times(num_steps) - 1
        of_one_call = (last,) if num_steps % 2 else (0, last)
        calls = [(step, 0) for step in range(last + 1)] + [(s, 1) for s in range(last + 1) if s not in of_one_call]
        step, is_second = np.array(sorted(calls)).T
        ratio = levels["sigma"] / levels["signal"]
        return {
            **{name: column[step + is_second] for name, column in levels.items()},
            "is_second": is_second,
            "x_weight": levels["signal"][step + 1] / levels["signal"][step],
            "noise_weight": levels["signal"][step + 1] * (ratio[step + 1] - ratio[step]),
        }

    def initial_memory(self, x_T):
        return x_T, ops.zeros_like(x_T)

    def step(self, x_t, memory, predicted_noise, fresh_noise, row, clip_range=None):
        _, noise = _clipped(x_t, predicted_noise, row, clip_range)
        is_second = row["is_second"] > 0
        start = ops.where(is_second, memory[0], x_t)  # of the step
        slope = ops.where(is_second, (memory[1] + noise) / 2, noise)
        return row["x_weight"] * start + row["noise_weight"] * slope, (start, noise)


SAMPLERS = {"ddim": DDIM, "dpmpp_2m": DPMSolverPP2M, "heun": Heun}


def get(sampler):
    """A sampler from its name (`"ddim"`, `"dpmpp_2m"`, `"heun"`), or itself."""
    if isinstance(sampler, Sampler):
        return sampler
    if not isinstance(sampler, str) or sampler not in SAMPLERS:
        raise ValueError(
            f"`sampler` must be one of {', '.join(map(repr, SAMPLERS))}, or an object from keras_umd.samplers. "
            f"Received: sampler={sampler!r}"
        )
    return SAMPLERS[sampler]()


def _levels(times, schedule):
    """The noise levels at all times of a sampler, the 0 at its end included."""
    log_snr = schedule.log_snr(times)
    return {"timestep": times, "signal": 1 / np.sqrt(1 + np.exp(-log_snr)), "sigma": 1 / np.sqrt(1 + np.exp(log_snr))}


def _before_and_after(levels):
    """The noise levels that each step starts from, and those that it ends at."""
    return {name: x[:-1] for name, x in levels.items()}, {name: x[1:] for name, x in levels.items()}


def implied_noise(x_t, x0, row):
    """The noise that an x_0 implies at the noise level of a plan's row: Eq. 1 solved for the noise."""
    return (x_t - row["signal"] * x0) / row["sigma"]


def _clipped(x_t, noise, row, clip_range):
    """The x_0 that `noise` implies, clipped, and the noise that this x_0 implies."""
    x0 = (x_t - row["sigma"] * noise) / row["signal"]
    if clip_range is None:
        return x0, noise
    x0 = ops.clip(x0, *clip_range)
    return x0, implied_noise(x_t, x0, row)
