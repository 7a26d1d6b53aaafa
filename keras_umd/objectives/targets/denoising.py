"""Targets that a sampler can read: each gives x_0 and noise at a noise level."""

import keras

from keras_umd.layers.patches import patchify
from keras_umd.objectives.targets.target import Target

# What the head for pixels predicts, in the order of its channels.
PIXEL_PREDICTIONS = ("x0", "eps")


class DenoisingTarget(Target):
    """A target from which x_0 and the noise of a noisy image follow.

    `needs_signal` says that it tells nothing of x_0 at a noise level where no signal is left.
    """

    needs_signal = False

    def estimate(self, output, x_t, level):
        """x_0 and noise from a prediction.

        Args:
            output, x_t: Float tensors of one shape, the prediction and the noisy image.
            level: Dictionary of scalars or tensors that broadcast: `signal` and `sigma`, the factors of the image and
                of the noise.

        Returns:
            Pair of float tensors of the shape of `x_t`, `(x0, eps)`.
        """
        raise NotImplementedError


@keras.saving.register_keras_serializable("keras_umd")
class X0(DenoisingTarget):
    """The clean image (Eq. 4 and 5, the term over masked patches)."""

    name = "x0"
    is_pixels = True

    def __call__(self, view, patch_size, teacher=None):
        return patchify(view["x0"], patch_size)

    def estimate(self, output, x_t, level):
        return output, (x_t - level["signal"] * output) / level["sigma"]

    def as_pixels(self, prediction, patches):
        return prediction


@keras.saving.register_keras_serializable("keras_umd")
class Eps(DenoisingTarget):
    """The noise (Eq. 4, the term over visible patches)."""

    name = "eps"
    needs_signal = True

    def __call__(self, view, patch_size, teacher=None):
        if "noise" not in view:
            raise ValueError(f"A clean view has no noise to predict; take X0(). Received: a view of {sorted(view)}")
        return patchify(view["noise"], patch_size)

    def estimate(self, output, x_t, level):
        return (x_t - level["sigma"] * output) / level["signal"], output
