"""Where random numbers come from: every `seed` argument of the package is read here."""

import keras


def seed_generator(seed):
    """`seed` as a `keras.random.SeedGenerator`: itself, one made from an integer, or a fresh one for `None`.

    A fresh one follows `keras.utils.set_random_seed`.
    """
    return seed if isinstance(seed, keras.random.SeedGenerator) else keras.random.SeedGenerator(seed)


class GivenSeed(keras.random.SeedGenerator):
    """A seed that is a tensor, for draws inside a compiled loop, where a counter can't advance.

    Args:
        state: Int tensor of shape `(2,)`.
    """

    def __init__(self, state):
        self._given = state

    def next(self, ordered=True):
        return self._given
