"""A way from noise to images: a table of numbers, a step, and the one loop around them."""

import numpy as np
from keras import ops

from keras_umd.sampling.image_noise import image_noise, noise_key
from keras_umd.sampling.time_grids import check_timesteps, is_explicit, time_grid
from keras_umd.utils.checks import as_integers, as_numbers, check_numbers, is_between, is_pair, require
from keras_umd.utils.configurable import Configurable
from keras_umd.utils.seeds import seed_generator


class Sampler(Configurable):
    """A way from noise to images: the base of all samplers.

    A sampler is a table with a row for each call of the network (`rows`), and what to do with one prediction and its
    row (`step`). The loop around them is the same for all. An own sampler has two methods, `columns` and `step`; one
    that remembers earlier predictions has `initial_memory` too, and one that calls the network several times a step
    overrides `table`, `num_times` and `num_calls`, as `Heun` does.

    Samplers of one class whose attributes are equal share a compiled program, except for `timesteps`: `step` must take
    these from its row.

    Example:

    >>> class Straight(samplers.Sampler):
    ...     def columns(self, now, after):
    ...         return {"signal_next": after["signal"], "sigma_next": after["sigma"]}
    ...
    ...     def step(self, x_t, memory, x0, eps, fresh_noise, row):
    ...         return row["signal_next"] * x0 + row["sigma_next"] * eps, memory
    >>> pictures = model.generate(num_images=4, num_steps=5, sampler=Straight("quadratic"))

    Args:
        timesteps: Where to look: `"uniform"`, `"quadratic"`, `"log_snr"`, `"karras"` (see
            `keras_umd.sampling.time_grids`), a grid that `ShiftedGrid` makes of these, or a falling list of numbers in
            [1, T]. After the last one comes 0.
    """

    is_stochastic = False

    def __init__(self, timesteps="uniform"):
        self.timesteps = check_timesteps(timesteps)

    # What an own sampler defines

    def columns(self, now, after):
        """The sampler's own numbers for each step.

        Args:
            now, after: Dictionaries of float64 arrays of shape `(num_steps,)`, the levels that each step starts from
                and ends at: `timestep`, `signal` and `sigma`, the factors of image and noise. The last step ends at
                signal 1 and sigma 0; the first may start at signal 0.

        Returns:
            Dictionary of finite float64 arrays of shape `(num_steps,)`.
        """
        raise NotImplementedError(f"{type(self).__name__} must define `columns`, or override `table`.")

    def step(self, x_t, memory, x0, eps, fresh_noise, row):
        """One step with one prediction.

        Args:
            x_t: Float tensor of shape `(batch, ...)`.
            memory: Tuple of such tensors.
            x0, eps: Float tensors of the shape of `x_t`, the predicted image and noise, which agree with each other:
                `x_t = signal * x0 + sigma * eps`. x_0 is clipped where images have a range.
            fresh_noise: Float tensor of the shape of `x_t` where `is_stochastic`, else `None`.
            row: Dictionary of scalars, the entries of `rows` for this call.

        Returns:
            The next `x_t` and `memory`. After the last call, `x_t` is the sample.
        """
        raise NotImplementedError(f"{type(self).__name__} must define `step`.")

    def initial_memory(self, x_T):
        """The sampler's memory before the first call, a tuple of tensors."""
        return ()

    def table(self, levels, num_calls):
        """All rows, from the levels at the times of the sampler and at 0, which is the last; as of `columns`."""
        now, after = ({name: x[part] for name, x in levels.items()} for part in (slice(-1), slice(1, None)))
        return {**now, **self.columns(now, after)}

    def num_times(self, num_calls):
        """The number of timesteps that `num_calls` calls of the network visit, without 0."""
        return num_calls

    def num_calls(self, num_times):
        """The number of calls of the network that explicit timesteps need."""
        return num_times

    # The loop

    def rows(self, num_steps, schedule, start=None):
        """The numbers for every call of the network, computed in float64 before the loop starts.

        Args:
            num_steps: Integer from 1 to T, the calls of the network; `None` for as many as explicit timesteps need.
            schedule: `NoiseSchedule`.
            start: Number in [1, T], the timestep to start from. Defaults to T.

        Returns:
            Dictionary of float32 arrays of shape `(num_steps,)`: the call's `timestep`, `signal` and `sigma`, and the
            sampler's own columns.
        """
        num_steps, times = self._times(num_steps, schedule, start)
        levels = schedule.levels(np.append(times, 0))
        return {name: np.asarray(column, "float32") for name, column in self.table(levels, num_steps).items()}

    def sample(
        self, denoise, x_T, schedule, num_steps=None, seed=None, clip_range=None, start=None, image_indices=None
    ):
        """The whole way from noise to images, for any function that predicts.

        Args:
            denoise: callable. `(x_t, timestep) -> (x0, eps)`, `timestep` a float32 tensor of shape `(1,)`.
            x_T: Float tensor of shape `(batch, ...)`, the noise to start from.
            schedule: `NoiseSchedule`.
            num_steps: Integer from 1 to T, the calls of `denoise`. Not needed with explicit timesteps.
            seed: Integer, `keras.random.SeedGenerator` or `None`, for fresh noise.
            clip_range: Pair of floats that x_0 is clipped to in every step, or `None`.
            start: Number in [1, T], the timestep of `x_T`. Defaults to T.
            image_indices: Int array `(batch,)`, on which fresh noise depends, see `image_noise`. Defaults to 0, 1, 2...

        Returns:
            Float tensor of the shape of `x_T`, the samples.
        """
        require(callable(denoise), "`denoise` must be a function (x_t, timesteps) -> (x0, eps).", denoise=denoise)
        require(hasattr(schedule, "levels"), "`schedule` must be a NoiseSchedule.", schedule=schedule)
        require(
            clip_range is None or is_pair(clip_range), "`clip_range` must be a pair or None.", clip_range=clip_range
        )
        x_T = ops.convert_to_tensor(as_numbers(x_T=x_T), dtype="float32")
        require(len(x_T.shape) > 1, "`x_T` must be of shape (batch, ...).", f"x_T of shape {tuple(x_T.shape)}")
        indices = np.arange(x_T.shape[0]) if image_indices is None else as_integers(0, image_indices=image_indices)
        require(len(indices) == x_T.shape[0], "`image_indices` must be as many as images.", image_indices=image_indices)
        rows = {name: ops.convert_to_tensor(column) for name, column in self.rows(num_steps, schedule, start).items()}
        key = ops.convert_to_tensor(noise_key(seed_generator(seed)))
        indices = ops.convert_to_tensor(indices, "int32")
        return self.loop(
            lambda x, row, i: denoise(x, ops.reshape(row["timestep"], (1,))),
            lambda i: image_noise(key, indices, i + 1, x_T.shape[1:]),
            x_T,
            rows,
            clip_range,
        )

    def loop(self, denoise, draw_noise, x_T, rows, clip_range=None, num_frames=None):
        """The loop over the calls of the network; on JAX and TensorFlow it compiles to one.

        Args:
            denoise: callable. `(x_t, row, i) -> (x0, eps)`, for call number i.
            draw_noise: callable. `i -> fresh noise`, of the shape of `x_t`.
            x_T: Float tensor of shape `(batch, ...)`.
            rows: What `rows` returned, as tensors.
            clip_range: Pair of floats or `None`.
            num_frames: Integer from 2 to the number of calls + 1, or `None`: return as many states, evenly from the
                noise to the samples.

        Returns:
            Float tensor of the shape of `x_T`, the samples; `(num_frames, *shape)` with `num_frames`.
        """
        num_calls = rows["timestep"].shape[0]
        frames = ()
        if num_frames is not None:
            require(
                2 <= num_frames <= num_calls + 1,
                f"`num_frames` must lie between 2 and {num_calls + 1}, the noise and what follows each of the "
                f"{num_calls} calls.",
                num_frames=num_frames,
            )
            frames = (ops.repeat(x_T[None], num_frames, axis=0),)
            slots = ops.reshape(ops.arange(num_frames, dtype="int32"), (-1,) + (1,) * len(x_T.shape))

        def body(i, carry):
            x, memory, frames = carry
            row = {name: ops.take(column, i) for name, column in rows.items()}
            x0, eps = (ops.cast(prediction, "float32") for prediction in denoise(x, row, i))
            if clip_range is not None:
                x0 = ops.clip(x0, *clip_range)
                eps = (x - row["signal"] * x0) / row["sigma"]
            x, memory = self.step(x, memory, x0, eps, draw_noise(i) if self.is_stochastic else None, row)
            if frames:  # the last call that writes to a slot stays
                slot = (ops.cast(i + 1, "int32") * (num_frames - 1) + num_calls - 1) // num_calls
                frames = (ops.where(slots == slot, x[None], frames[0]),)
            return x, memory, frames

        samples, _, frames = ops.fori_loop(0, num_calls, body, (x_T, self.initial_memory(x_T), frames))
        return frames[0] if frames else samples

    def _times(self, num_steps, schedule, start):
        explicit = is_explicit(self.timesteps)
        if num_steps is None and explicit:
            num_steps = self.num_calls(len(self.timesteps))
        T = schedule.num_timesteps
        require(
            is_between(num_steps, 1, T),
            f"`num_steps` must be an integer from 1 to the {T} timesteps of the model.",
            num_steps=num_steps,
        )
        check_numbers(f"[1, {T}]", optional=True, start=start)
        if not explicit:
            require(
                num_steps <= (start or T),
                f"There can't be more steps than the {start} timesteps from the start to 1.",
                num_steps=num_steps,
            )
            return num_steps, time_grid(self.timesteps, self.num_times(num_steps), schedule, start)
        times = np.array(self.timesteps)
        require(
            times[0] <= T and start in (None, times[0]),
            f"The sampler's timesteps must start at {f'{T} or below' if start is None else start}.",
            timesteps=self.timesteps,
        )
        require(
            self.num_times(num_steps) == len(times),
            f"The sampler's {len(times)} timesteps need {self.num_calls(len(times))} steps; leave out `num_steps`.",
            num_steps=num_steps,
        )
        return num_steps, times
