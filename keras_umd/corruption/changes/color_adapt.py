"""Images with the colours of others."""

import keras
from keras import ops

from keras_umd.corruption.changes.change import Change
from keras_umd.utils.checks import check_numbers

TINY = 1e-6  # beside the deviation of a channel without contrast


@keras.saving.register_keras_serializable("keras_umd")
class ColorAdapt(Change):
    """Gives each channel of an image the mean and the deviation that it has in another (Lee et al., "SeiT++", 2024).

    An augmentation that latents bear, whose colours can't be changed as those of pixels. What it makes of an image is
    also what is predicted. The other image is that at the same place from the end of the batch.

    Example:

    >>> View("clean", change=ColorAdapt(0.5), mask=masks.Random(0.75))

    Args:
        probability: Float in [0, 1]. Share of the images that are changed.
    """

    def __init__(self, probability=0.5):
        check_numbers("[0, 1]", probability=probability)
        self.probability = probability

    def num_draws(self, grid):
        return 1

    def __call__(self, images, draws, patch_size, noise, hints=None):
        space = tuple(range(1, len(images.shape) - 1))
        mean = ops.mean(images, axis=space, keepdims=True)
        deviation = ops.std(images, axis=space, keepdims=True)
        others_mean, others_deviation = ops.flip(mean, axis=0), ops.flip(deviation, axis=0)
        adapted = (images - mean) / (deviation + TINY) * others_deviation + others_mean
        is_adapted = ops.reshape(draws[:, 0] < self.probability, (-1, *[1] * (len(images.shape) - 1)))
        images = ops.where(is_adapted, adapted, images)
        return {"images": images, "x0": images}
