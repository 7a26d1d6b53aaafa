"""Images without a part of their frequencies."""

import keras
from keras import ops

from keras_umd.corruption.changes.change import Change
from keras_umd.utils.checks import check_numbers
from keras_umd.utils.fourier import from_spectrum, radii, spectrum


@keras.saving.register_keras_serializable("keras_umd")
class Frequency(Change):
    """Removes the high or the low frequencies of each image (Xie et al., "Masked Frequency Modeling", 2023).

    A disc around frequency 0 is kept, or all but the disc. What is removed is predicted by `objectives.Spectrum`. No
    patch is masked, so that a step costs what the encoder costs on whole images. Values are not clipped, so that the
    low and the high part add up to the image.

    Example:

    >>> View("clean", change=Frequency(16.0))      # of images of 224 x 224

    Args:
        radius: Float of at least 0, of the disc, in cycles per image; frequencies nearer to 0 lie in it. The paper has
            16 at 224 pixels; a smaller image needs a smaller one.
        low_pass: Float in [0, 1]. Share of the images that keep the disc, and lose their details; the others keep
            those alone.
    """

    marks = "removed"

    def __init__(self, radius=16.0, low_pass=0.5):
        check_numbers("[0, 1e6]", radius=radius)
        check_numbers("[0, 1]", low_pass=low_pass)
        self.radius = radius
        self.low_pass = low_pass

    def num_draws(self, grid):
        return 1

    def __call__(self, images, draws, patch_size, noise, hints=None):
        disc = ops.convert_to_tensor((radii(images.shape[1:-1]) < self.radius).astype("float32"))[None]
        keeps_disc = ops.reshape(draws[:, 0] < self.low_pass, (-1, *[1] * (len(images.shape) - 2)))
        kept = ops.where(keeps_disc, disc, 1.0 - disc)  # (n, *space)
        real, imaginary = (part * kept[..., None] for part in spectrum(images))
        return {"images": from_spectrum(real, imaginary), "removed": 1.0 - kept}
