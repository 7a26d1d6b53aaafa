"""Guidance: towards what a model predicts, away from what a weaker prediction says, and how much at which noise level.

The weaker prediction is the model's own without the label (classifier-free guidance, Eq. 3; Ho and Salimans, 2022), or
that of a `weak_model`, smaller or trained for less long (autoguidance; Karras et al., 2024). At a scale of 1 there is
no guidance, and it isn't computed.
"""

import keras
import numpy as np

from keras_umd.utils.checks import check_numbers, check_tensors, require
from keras_umd.utils.configurable import Configurable

__all__ = ["Constant", "Interval", "PowerCosine", "guide"]


def guide(strong, weak, scale):
    """`weak + scale * (strong - weak)` (Eq. 3).

    Example:

    >>> float(guidance.guide(np.float32(3.0), np.float32(1.0), 2.0))
    5.0

    Args:
        strong, weak: Float tensors of one shape, predictions; in classifier-free guidance with and without the label.
        scale: Float or scalar tensor.
    """
    for name, value in {"strong": strong, "weak": weak, "scale": scale}.items():
        if hasattr(value, "shape"):
            check_tensors(None, **{name: value})
        else:
            check_numbers("(-inf, inf)", **{name: value})
    return weak + scale * (strong - weak)


@keras.saving.register_keras_serializable("keras_umd")
class Constant(Configurable):
    """The same scale everywhere, as in the paper: the base of all guidance.

    Example:

    >>> pictures = model.generate([0, 1, 2], guidance=guidance.Constant(2.0), num_steps=4)    # as guidance=2.0

    Args:
        scale: Float of at least 0. The paper's figures use 4, its table 1.5.
        weak_model: `UMD`, the model to guide away from. Defaults to the generating model without the label. An object
            that has one can't be serialised.
    """

    def __init__(self, scale, weak_model=None):
        check_numbers("[0, inf)", scale=scale)
        is_model = weak_model is None or hasattr(weak_model, "weight_values")
        require(is_model, "`weak_model` must be a keras_umd.UMD or None.", weak_model=weak_model)
        self.scale = float(scale)
        self.weak_model = weak_model

    def scales(self, timesteps, schedule):
        """The scale at each of `timesteps`, a float array of their shape."""
        return np.full(np.shape(timesteps), self.scale)

    def settings(self):
        """Dictionary of the constructor's arguments, without the model."""
        return {name: value for name, value in super().get_config().items() if name != "weak_model"}

    def get_config(self):
        require(
            self.weak_model is None,
            "Guidance by a `weak_model` can't be serialised; save that model by itself and keep `settings()`.",
            repr(self),
        )
        return self.settings()


@keras.saving.register_keras_serializable("keras_umd")
class Interval(Constant):
    """A constant scale within an interval of noise levels, no guidance outside (Kynkaanniemi et al., 2024).

    Guidance at much noise costs variety, and at little noise does nothing. Steps outside of the interval cost half.

    Example:

    >>> pictures = model.generate([0, 1, 2], guidance=guidance.Interval(2.0, low=0.2, high=3.0), num_steps=4)

    Args:
        scale: Float of at least 0.
        low, high: Floats, the ends of the interval as noise over signal, sigma / sqrt(alpha_bar): with the cosine
            schedule from 0.006 at timestep 1 to 20,000 at T. The paper's values for ImageNet are about 0.2 to 3.
        weak_model: As of `Constant`.
    """

    def __init__(self, scale, low, high, weak_model=None):
        super().__init__(scale, weak_model)
        check_numbers("[0, inf)", low=low, high=low if isinstance(high, float) and high == np.inf else high)
        require(low < high, "`low` must be less than `high`.", low=low, high=high)
        self.low = low
        self.high = high

    def scales(self, timesteps, schedule):
        noise_ratio = np.exp(-schedule.log_snr(timesteps) / 2)
        return np.where((self.low < noise_ratio) & (noise_ratio <= self.high), self.scale, 1.0)


@keras.saving.register_keras_serializable("keras_umd")
class PowerCosine(Constant):
    """Rises from no guidance at T to the scale at 0, as half a cosine of a power of time (MDT; Gao et al., 2023).

    Example:

    >>> pictures = model.generate([0, 1, 2], guidance=guidance.PowerCosine(4.0, power=2.0), num_steps=4)

    Args:
        scale: Float of at least 0, that of the last steps.
        power: Positive float; the larger, the later the rise.
        weak_model: As of `Constant`.
    """

    def __init__(self, scale, power=4.0, weak_model=None):
        super().__init__(scale, weak_model)
        check_numbers("(0, inf)", power=power)
        self.power = power

    def scales(self, timesteps, schedule):
        progress = 1 - np.asarray(timesteps, "float64") / schedule.num_timesteps
        return 1 + (self.scale - 1) * (1 - np.cos(np.pi * progress**self.power)) / 2


def get(guidance):
    """Guidance from its scale, or itself; `None` is none, a scale of 1."""
    guidance = 1.0 if guidance is None else guidance
    if isinstance(guidance, (int, float, np.number)) and not isinstance(guidance, bool):
        check_numbers("[0, inf)", guidance=guidance)
        return Constant(float(guidance))
    require(
        hasattr(guidance, "scales") and hasattr(guidance, "weak_model"),
        "`guidance` must be a number, its scale, or an object from keras_umd.guidance.",
        guidance=guidance,
    )
    return guidance
