"""Random patches."""

import keras

from keras_umd.corruption.masks.mask import Mask


@keras.saving.register_keras_serializable("keras_umd")
class Random(Mask):
    """A random subset of the patches (MAE, section 3).

    Example:

    >>> corruption = Corruption(views=[View("clean", mask=masks.Random(0.75))])
    >>> picture = keras_umd.plots.masks(masks.Random(0.75), grid=(14, 14))
    """

    is_unordered = True

    def scores(self, draws, grid, hints=None):
        return draws
