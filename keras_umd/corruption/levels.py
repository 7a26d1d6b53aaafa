"""The law of the noise levels in training."""

import keras

from keras_umd.utils.configurable import Configurable


class Levels(Configurable):
    """A law from which each noisy image gets its noise level."""

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


@keras.saving.register_keras_serializable("keras_umd")
class Uniform(Levels):
    """Every timestep from 1 to T is equally likely (DDPM)."""

    def draw(self, batch_size, schedule, seed):
        return keras.random.randint((batch_size,), 1, schedule.num_timesteps + 1, dtype="int32", seed=seed)
