"""A hole in the middle."""

import keras
import numpy as np
from keras import ops

from keras_umd.corruption.masks.mask import Mask, coordinates


@keras.saving.register_keras_serializable("keras_umd")
class Center(Mask):
    """Masks the middle of each image (Pathak et al., "Context Encoders", 2016, section 3.3).

    The hole has the image's proportions. Where its patches aren't as many as the ratio says, random patches make up
    for the difference. A network that is trained on it alone fills no other holes.

    Example:

    >>> corruption = Corruption(views=[View("clean", mask=masks.Center(0.25))])
    >>> picture = keras_umd.plots.masks(masks.Center(0.25), grid=(14, 14))

    Args:
        ratio: Float in [0, 1). Share of the patches to mask; a quarter is half of each side.
    """

    def __init__(self, ratio=0.25):
        super().__init__(ratio)

    def scores(self, draws, grid, hints=None):
        at = coordinates(tuple(grid))
        sides = np.round(np.asarray(grid) * self.ratio ** (1 / len(grid)))
        start = np.ceil((np.asarray(grid) - sides) / 2)
        inside = np.all((at >= start) & (at < start + sides), axis=-1)
        return draws + ops.convert_to_tensor(inside.astype("float32"))
