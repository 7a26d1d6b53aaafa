"""Where random numbers come from: every `seed` argument of the package is read here."""

import keras
import numpy as np


def seed_generator(seed):
    """`seed` as a `keras.random.SeedGenerator`: itself, one made from an integer, or a fresh one for `None`.

    A fresh one follows `keras.utils.set_random_seed`.

    Raises:
        ValueError: for an integer outside of [0, 2^31), which not every backend takes, and for anything else.
    """
    if seed is None or isinstance(seed, keras.random.SeedGenerator):
        return seed or keras.random.SeedGenerator()
    if not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**31:
        raise ValueError(
            "`seed` must be an integer of at least 0 and below 2**31, a keras.random.SeedGenerator or None. "
            f"Received: seed={seed}"
        )
    return keras.random.SeedGenerator(int(seed))
