"""Arrays that a notebook shows as what they are."""

import importlib.util
import io

import numpy as np


class Picture(np.ndarray):
    """A uint8 array `(height, width, 3)` that is shown as an image where a notebook's cell ends with it.

    Results of arithmetic are plain arrays; slices are pictures, too.
    """

    def __array_wrap__(self, array, context=None, return_scalar=False):
        array = np.asarray(array)
        return array[()] if return_scalar else array

    def _repr_png_(self):
        """The PNG file that IPython asks for; `None`, for which it takes the text, where this is no picture."""
        is_picture = self.ndim == 3 and self.shape[-1] == 3 and self.dtype == np.uint8 and self.size
        if not is_picture or importlib.util.find_spec("matplotlib") is None:
            return None
        from matplotlib.image import imsave

        file = io.BytesIO()
        imsave(file, np.asarray(self), format="png")
        return file.getvalue()
