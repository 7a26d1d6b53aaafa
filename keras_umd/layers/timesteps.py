"""How a network is told the timestep: the numbers that its embedding begins with."""

import keras
import numpy as np

from keras_umd.utils.checks import check_bools, check_instances, check_integers, check_numbers, require
from keras_umd.utils.configurable import Configurable, revive

MAX_WIDTH = 1_000_000


@keras.saving.register_keras_serializable("keras_umd.layers")
class Timesteps(Configurable):
    """The sinusoid of another codebase, in place of the paper's, and an MLP that is as wide as the model.

    A timestep t of the library, 0 for a clean image and T for the most noise, becomes `u = scale * t + offset`, the
    number that the other network was trained on; the embedding is an MLP (one hidden layer, SiLU) of cosines and sines
    of `u * f_i`, where `f_i = 10000^(-i / half)` for the i-th of `half = width / 2` frequencies (DiT; Peebles and Xie,
    2023). DiT counts its 1000 timesteps from 0: `Timesteps(offset=-1, least=0)`. SiT and JiT have a time that is 1 for
    the image and 0 for the noise: `Timesteps(scale=-1e-3, offset=1)`.

    Example:

    >>> TimestepEmbedding(hidden_dim=192, timesteps=Timesteps(offset=-1, least=0))(np.array([0, 1, 1000])).shape
    (3, 192)

    Args:
        width: Integer, even and at least 4. Numbers of the sinusoid.
        cosines_first: Bool. Whether the cosines come before the sines, as in DiT, or behind them.
        reaches_end: Bool. Whether the exponent of the last frequency is -1, `f_i = 10000^(-i / (half - 1))`, as in
            diffusers and in the UMD authors' code. DiT's last one falls short of it.
        scale, offset: Floats, of `u`.
        least: Float or `None`. Smaller `u` are lifted to it: clean images then look as those of the least noise that
            the network has seen.
    """

    def __init__(self, width=256, *, cosines_first=True, reaches_end=False, scale=1.0, offset=0.0, least=None):
        check_integers(4, MAX_WIDTH, width=width)
        require(width % 2 == 0, "`width` must be even and at least 4.", width=width)
        check_bools(cosines_first=cosines_first, reaches_end=reaches_end)
        check_numbers("[-1e6, 1e6]", scale=scale, offset=offset)
        check_numbers("[-1e6, 1e6]", optional=True, least=least)
        self.width = int(width)
        self.cosines_first = bool(cosines_first)
        self.reaches_end = bool(reaches_end)
        self.scale, self.offset = float(scale), float(offset)
        self.least = None if least is None else float(least)

    def frequencies(self):
        """The frequencies, a float32 array of shape `(width / 2,)`."""
        half = self.width // 2
        # Made in float64: a float32 exponent, as PyTorch's code has it, turns angles by 6e-5 at timestep 1000, on each
        # device otherwise.
        return np.exp(-np.log(10_000.0) * np.arange(half) / (half - self.reaches_end)).astype("float32")

    def __eq__(self, other):
        return type(self) is type(other) and self.get_config() == other.get_config()

    def __hash__(self):
        return hash(tuple(self.get_config().items()))


def as_timesteps(timesteps):
    """The `Timesteps` that an argument stands for: one, Keras' description of one, or `None` for the paper's."""
    timesteps = revive(timesteps)
    check_instances(Timesteps, "a keras_umd.layers.Timesteps", optional=True, timesteps=timesteps)
    return timesteps
