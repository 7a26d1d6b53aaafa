"""Where random numbers come from: every `seed` argument of the package is read here."""

import keras

from keras_umd.utils.checks import is_between, require


def seed_generator(seed):
    """`seed` as a `keras.random.SeedGenerator`: itself, one made from an integer, or a fresh one for `None`.

    A fresh one follows `keras.utils.set_random_seed`.

    Raises:
        ValueError: for an integer outside of [0, 2^31), which not every backend takes, and for anything else.
    """
    check_seed(seed)
    if seed is None or isinstance(seed, keras.random.SeedGenerator):
        return seed or keras.random.SeedGenerator()
    return keras.random.SeedGenerator(int(seed))


def check_seed(seed):
    """Raise a ValueError for what `seed_generator` doesn't take.

    Where no random numbers are needed, nothing else may be done: a fresh generator takes a number of Python's global
    one, and all weights that are made afterwards would begin otherwise.
    """
    require(
        seed is None or isinstance(seed, keras.random.SeedGenerator) or is_between(seed, 0, 2**31 - 1),
        "`seed` must be an integer of at least 0 and below 2**31, a keras.random.SeedGenerator or None.",
        seed=seed,
    )
