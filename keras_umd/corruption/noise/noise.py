"""The interface of noise."""

from keras_umd.corruption.levels import Levels, Uniform
from keras_umd.utils.checks import check_instances
from keras_umd.utils.configurable import Configurable


class Noise(Configurable):
    """Noise on the pixels of a view, at levels that are drawn.

    Example:

    >>> isinstance(noise.Gaussian(), noise.Noise)
    True

    Args:
        levels: `Levels`, the law of the noise levels. Defaults to `Uniform()`.
    """

    # Whether patches of one image have different levels, so that `by_patch` makes the tensors of a view.
    is_graded = False
    # Whether the encoder sees clean patches, and the decoder alone noise, that of masked ones, as `for_decoder` says.
    is_of_masked = False

    def __init__(self, levels=None):
        check_instances(Levels, "a Levels, as Uniform(),", optional=True, levels=levels)
        self.levels = Uniform() if levels is None else levels

    def for_finetuning(self):
        """The noise of a training for generation, whose images have one level each."""
        return self

    def __call__(self, x0, noise, timesteps, schedule):
        """Corrupt clean images. A pure function.

        Args:
            x0: Float32 tensor of shape `(n, *image_shape)`.
            noise: Float32 tensor of the same shape, normal.
            timesteps: Tensor of shape `(n,)`, drawn from `levels`.
            schedule: `NoiseSchedule`.

        Returns:
            Float32 tensor of the shape of `x0`, what the network sees.
        """
        raise NotImplementedError

    def level(self, timesteps, schedule, rank):
        """The noise level of each image, for targets and weightings, as of `NoiseSchedule.level`.

        Args:
            timesteps, schedule: As of a call.
            rank: Integer, that of the images.
        """
        return schedule.level(timesteps, rank)
