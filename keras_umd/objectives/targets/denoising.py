"""Targets that a sampler can read: each gives x_0 and noise at a noise level."""

import keras
from keras import ops

from keras_umd.corruption.weightings import MIN_RATIO, turn
from keras_umd.layers.patches import patchify
from keras_umd.objectives.targets.target import Target

# What the head for pixels predicts in the paper's model, in the order of its channels.
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
                of the noise; `signal_slope` and `sigma_slope` where the path isn't variance-preserving.

        Returns:
            Pair of float tensors of the shape of `x_t`, `(x0, eps)`.
        """
        raise NotImplementedError

    def x0_share(self, level):
        """What a squared error of this prediction is worth as one of x_0, for weightings: (dx_0 / dprediction)^2.

        Args:
            level: Dictionary of float tensors, as `NoiseSchedule.level` returns it.
        """
        raise NotImplementedError


@keras.saving.register_keras_serializable("keras_umd")
class X0(DenoisingTarget):
    """The clean image (Eq. 4 and 5, the term over masked patches).

    Example:

    >>> of_noisy = Reconstruction("noisy", targets.X0(), where="all")
    >>> objective = Objective([Reconstruction("clean", targets.X0()), of_noisy])
    """

    name = "x0"
    is_pixels = True

    def __call__(self, view, patch_size, teacher=None):
        return patchify(view["x0"], patch_size)

    def estimate(self, output, x_t, level):
        return output, (x_t - level["signal"] * output) / level["sigma"]

    def x0_share(self, level):
        return ops.ones_like(level["signal"])

    def as_pixels(self, prediction, patches):
        return prediction


@keras.saving.register_keras_serializable("keras_umd")
class Eps(DenoisingTarget):
    """The noise (Eq. 4, the term over visible patches).

    Example:

    >>> objective = Objective([Reconstruction("noisy", targets.Eps(), where="visible")])
    """

    name = "eps"
    needs_signal = True
    is_of_noise = True

    def __call__(self, view, patch_size, teacher=None):
        if "noise" not in view:
            raise ValueError(f"A clean view has no noise to predict; take X0(). Received: a view of {sorted(view)}")
        return patchify(view["noise"], patch_size)

    def estimate(self, output, x_t, level):
        return (x_t - level["sigma"] * output) / level["signal"], output

    def x0_share(self, level):
        return ops.square(1 / ops.maximum(level["signal"] / level["sigma"], MIN_RATIO))


@keras.saving.register_keras_serializable("keras_umd")
class Velocity(DenoisingTarget):
    """The velocity of the noisy image along the schedule's path.

        v = signal' x_0 + sigma' noise

    On a variance-preserving path that is signal * noise - sigma * x_0 (Salimans and Ho, 2022), on a rectified flow
    noise - x_0. It gives both, and divides by neither factor.

    Example:

    >>> corruption = Corruption.dit(schedule="linear", noisy_losses=["v"])
    >>> Objective.denoising(corruption).loss_names
    ['noisy_v_loss']
    """

    name = "v"
    is_of_noise = True

    def __call__(self, view, patch_size, teacher=None):
        if "noise" not in view:
            raise ValueError(f"A clean view has no velocity; take X0(). Received: a view of {sorted(view)}")
        level = view["level"]
        return patchify(level["signal_slope"] * view["x0"] + level["sigma_slope"] * view["noise"], patch_size)

    def estimate(self, output, x_t, level):
        signal, sigma = level["signal"], level["sigma"]
        if "signal_slope" not in level:
            return signal * x_t - sigma * output, sigma * x_t + signal * output
        x0 = (level["sigma_slope"] * x_t - sigma * output) / turn(level)
        return x0, (signal * output - level["signal_slope"] * x_t) / turn(level)

    def x0_share(self, level):
        return ops.square(level["sigma"] / turn(level))
