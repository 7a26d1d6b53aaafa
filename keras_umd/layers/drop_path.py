"""Stochastic depth: in training, whole branches of a block are left out for some images."""

import keras
import numpy as np
from keras import ops

from keras_umd.layers.symbolic import BaseLayer
from keras_umd.utils.checks import check_numbers
from keras_umd.utils.seeds import seed_generator


@keras.saving.register_keras_serializable("keras_umd")
class DropPath(BaseLayer):
    """Leaves out a residual branch for a random share of the images in training (Huang et al., 1603.09382).

    What stays is divided by the share that stays, so that the mean is the same; outside of training nothing happens.

    Args:
        rate: Float in [0, 1), the share that is left out.
        seed: Integer, `keras.random.SeedGenerator` or `None`.

    Call arguments:
        branch: Float tensor `(batch, ...)`, what a branch adds.
        training: Bool.

    Returns:
        Tensor of the same shape.
    """

    def __init__(self, rate, seed=None, **kwargs):
        super().__init__(**kwargs)
        check_numbers("[0, 1)", rate=rate)
        self.rate = float(rate)
        self.seed = None if isinstance(seed, keras.random.SeedGenerator) else seed
        self.seed_generator = seed_generator(seed)

    def call(self, branch, training=False):
        if not training or not self.rate:
            return branch
        shape = (ops.shape(branch)[0], *(1 for _ in branch.shape[1:]))
        uniform = keras.random.uniform(shape, dtype="float32", seed=self.seed_generator)
        kept = ops.cast(uniform >= self.rate, branch.dtype) / (1 - self.rate)
        return branch * ops.cast(kept, branch.dtype)


def drop_paths(blocks, rate):
    """Give transformer blocks stochastic depth, from 0 in the first to `rate` in the last; before they are built.

    Args:
        blocks: List of blocks with an attribute `drop_path`.
        rate: Float in [0, 1).
    """
    check_numbers("[0, 1)", rate=rate)
    for block, own_rate in zip(blocks, np.linspace(0, rate, len(blocks)), strict=True):
        if own_rate > 0:
            block.drop_path = DropPath(float(own_rate), dtype=block.dtype_policy, name="drop_path")
