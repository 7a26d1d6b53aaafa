"""Readings of the network from which a sampler gets x_0 and noise."""

from keras import ops


class Prediction:
    """x_0 and noise from one prediction.

    Args:
        target: `DenoisingTarget`.
    """

    def __init__(self, target):
        self.target = target
        self.names = (target.name,)
        self.needs_signal = target.needs_signal

    def estimate(self, outputs, x_t, level):
        """x_0 and noise `(x0, eps)`, of the shape of `x_t`.

        Args:
            outputs: Dictionary with a prediction of the shape of `x_t` for each of `names`.
            x_t: Float tensor, the noisy images.
            level: Dictionary of scalars, `signal` and `sigma`, and the slopes that `NoiseSchedule.levels` gives.
        """
        return self.target.estimate(outputs[self.target.name], x_t, level)


class Both:
    """x_0 and noise by the v of both predictions, v = signal * eps - sigma * x_0 (Salimans and Ho, 2022).

    It is mostly x_0 where there is much noise and eps where there is little, and divides by neither.

    Args:
        x0, eps: `DenoisingTarget`s.
    """

    needs_signal = False

    def __init__(self, x0, eps):
        self.names = (x0.name, eps.name)

    def estimate(self, outputs, x_t, level):
        """As of `Prediction`. A path that has slopes of its own is scaled to one that preserves variance."""
        x0, eps = (outputs[name] for name in self.names)
        signal, sigma = level["signal"], level["sigma"]
        if "signal_slope" in level:
            scale = ops.sqrt(signal**2 + sigma**2)
            x_t, signal, sigma = x_t / scale, signal / scale, sigma / scale
        v = signal * eps - sigma * x0
        return signal * x_t - sigma * v, sigma * x_t + signal * v
