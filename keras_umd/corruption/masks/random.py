"""Random patches."""

import keras

from keras_umd.corruption.masks.mask import Mask


@keras.saving.register_keras_serializable("keras_umd")
class Random(Mask):
    """A random subset of the patches (MAE, section 3)."""

    is_unordered = True

    def scores(self, draws, grid, hints=None):
        return draws
