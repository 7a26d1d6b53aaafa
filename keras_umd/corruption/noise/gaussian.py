"""Gaussian noise."""

import keras

from keras_umd.corruption.noise.noise import Noise


@keras.saving.register_keras_serializable("keras_umd")
class Gaussian(Noise):
    """Gaussian noise: x_t = signal * x_0 + sigma * noise, with the schedule's factors (Eq. 1).

    Example:

    >>> view = View("noisy", noise=noise.Gaussian(levels.LogitNormal()), mask=masks.Random(0.5))
    """

    def __call__(self, x0, noise, timesteps, schedule):
        return schedule.add_noise(x0, noise, timesteps)
