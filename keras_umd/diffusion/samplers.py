"""From noise to images: running the corruption backwards."""

import keras
import numpy as np
from keras import ops

from keras_umd.seeds import GivenSeed


def uniform_timesteps(num_steps, num_timesteps):
    """`num_steps` distinct timesteps, spread evenly from T down to 1, as an int32 array.

    Raises:
        ValueError: if `num_steps` is not an integer from 1 to `num_timesteps`.
    """
    if not isinstance(num_steps, (int, np.integer)) or not 1 <= num_steps <= num_timesteps:
        raise ValueError(
            f"`num_steps` must be an integer from 1 to the {num_timesteps} timesteps of the model. "
            f"Received: num_steps={num_steps}"
        )
    # One step goes from pure noise to the image.
    return np.round(np.linspace(num_timesteps, 1, num_steps)).astype("int32")


@keras.saving.register_keras_serializable("keras_umd")
class DDIM:
    """Denoising diffusion implicit models (Song et al., 2020; Eq. 2).

    `eta=0` is deterministic, Euler's method in sigma / signal; `eta=1` is ancestral sampling, DDPM.

    Args:
        eta: Float in [0, 1]. Share of fresh noise in each step.
    """

    def __init__(self, eta=1.0):
        if not 0 <= eta <= 1:
            raise ValueError(f"`eta` must lie in [0, 1]. Received: eta={eta}")
        self.eta = eta

    def coefficients(self, timesteps, schedule):
        """The numbers of every step, computed in float64 before the loop starts.

        Args:
            timesteps: Int array of shape `(num_steps,)`, not rising, from 1 to T. The last step goes to 0.
            schedule: `NoiseSchedule`.

        Returns:
            Dictionary of float32 arrays of shape `(num_steps,)`: `signal` and `sigma` before the step, `signal_next`,
            `direction` and `deviation` after it.
        """
        timesteps = np.asarray(timesteps)
        T = schedule.num_timesteps
        if timesteps.ndim != 1 or not len(timesteps) or timesteps.min() < 1 or timesteps.max() > T:
            raise ValueError(f"`timesteps` must be a list of integers from 1 to {T}. Received: timesteps={timesteps}")
        if np.any(np.diff(timesteps) > 0):
            raise ValueError(f"`timesteps` must not rise: sampling goes from T to 1. Received: timesteps={timesteps}")
        now = schedule.alpha_bar[timesteps]
        after = schedule.alpha_bar[np.append(timesteps[1:], 0)]
        deviation = self.eta * np.sqrt((1 - after) / (1 - now)) * np.sqrt(1 - now / after)
        table = {
            "signal": np.sqrt(now),
            "sigma": np.sqrt(1 - now),
            "signal_next": np.sqrt(after),
            "direction": np.sqrt(np.maximum(1 - after - deviation**2, 0)),
            "deviation": deviation,
        }
        return {name: values.astype("float32") for name, values in table.items()}

    def step(self, x_t, predicted_noise, fresh_noise, coefficients, clip_range=None):
        """One step towards the image; at timestep 0 the result is the x_0 prediction.

        Args:
            x_t: Float tensor of shape `(batch, ...)`.
            predicted_noise, fresh_noise: Float tensors of the same shape; the second is only read where `eta` > 0.
            coefficients: Dictionary of scalars, the entries of `self.coefficients` for this step.
            clip_range: Pair of floats that x_0 is clipped to, or `None`.

        Returns:
            Float tensor of the shape of `x_t`.
        """
        c = coefficients
        x0 = (x_t - c["sigma"] * predicted_noise) / c["signal"]
        if clip_range is not None:
            x0 = ops.clip(x0, *clip_range)
            predicted_noise = (x_t - c["signal"] * x0) / c["sigma"]
        x_next = c["signal_next"] * x0 + c["direction"] * predicted_noise
        return x_next + c["deviation"] * fresh_noise if self.eta else x_next

    def sample(self, predict_noise, x_T, timesteps, schedule, seeds, clip_range=None):
        """The whole way from noise to images, as one loop that compiles.

        Args:
            predict_noise: callable. `(x_t, timestep) -> noise`, `timestep` an int32 tensor of shape `(1,)`.
            x_T: Float tensor of shape `(batch, ...)`, the noise to start from.
            timesteps: Int array of shape `(num_steps,)`, not rising, from 1 to T; one call of `predict_noise` each.
            schedule: `NoiseSchedule`.
            seeds: Int tensor of shape `(num_steps, 2)`, the seeds of each step's fresh noise.
            clip_range: Pair of floats that x_0 is clipped to in every step, or `None`.

        Returns:
            Float tensor of the shape of `x_T`, the samples.
        """
        table = {name: ops.convert_to_tensor(c) for name, c in self.coefficients(timesteps, schedule).items()}
        timesteps = ops.convert_to_tensor(np.asarray(timesteps, "int32"))

        def body(i, x):
            noise = ops.cast(predict_noise(x, ops.reshape(ops.take(timesteps, i), (1,))), "float32")
            fresh_noise = None
            if self.eta:
                seed = GivenSeed(ops.take(seeds, i, axis=0))
                fresh_noise = keras.random.normal(ops.shape(x), dtype="float32", seed=seed)
            step_coefficients = {name: ops.take(c, i) for name, c in table.items()}
            return self.step(x, noise, fresh_noise, step_coefficients, clip_range)

        return ops.fori_loop(0, timesteps.shape[0], body, x_T)

    def get_config(self):
        return {"eta": self.eta}

    @classmethod
    def from_config(cls, config):
        return cls(**config)
