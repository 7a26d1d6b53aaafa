"""The spectrum of patches as a target."""

import functools
import math

import keras
import numpy as np
from keras import ops

from keras_umd.layers.patches import as_tuple, patchify
from keras_umd.objectives.targets.target import Target
from keras_umd.utils.checks import check_bools, check_numbers
from keras_umd.utils.fourier import frequency_errors


@keras.saving.register_keras_serializable("keras_umd")
class Fourier(Target):
    """The Fourier coefficients of each patch, channel by channel.

    The error is the mean over the frequencies of |difference|^gamma (Xie et al., "Masked Frequency Modeling", 2023,
    section 3.2, where it is that of whole images). With gamma = 2 it is the squared error of the pixels; 1
    counts large differences, those of low frequencies, less. A prediction has real parts first, then imaginary ones.

    Example:

    >>> objective = Objective([Reconstruction("clean", targets.X0()), Reconstruction("clean", targets.Fourier())])

    Args:
        gamma: Float in (0, 4].
        focal: Bool. Whether a frequency counts by log(1 + |difference|), divided by the largest in its patch (Jiang et
            al., "Focal Frequency Loss", 2021, as in A2MIM, 2023).
    """

    name = "fourier"

    def __init__(self, gamma=1.0, focal=False):
        check_numbers("(0, 4]", gamma=gamma)
        check_bools(focal=focal)
        self.gamma = gamma
        self.focal = focal

    def num_values(self, patch_dim):
        return 2 * patch_dim

    def __call__(self, view, patch_size, teacher=None):
        sizes, channels = as_tuple(patch_size, len(view["x0"].shape) - 2), view["x0"].shape[-1]
        patches = patchify(view["x0"], sizes)
        number = patches.shape[1]
        pixels = ops.reshape(patches, (-1, number, math.prod(sizes), channels))
        parts = [ops.einsum("fp,bnpc->bnfc", ops.convert_to_tensor(part), pixels) for part in _waves(sizes)]
        return ops.concatenate([ops.reshape(part, (-1, number, patches.shape[2])) for part in parts], axis=-1)

    def errors(self, prediction, target):
        difference = ops.cast(prediction, "float32") - ops.cast(target, "float32")
        half = difference.shape[-1] // 2
        square = ops.square(difference[..., :half]) + ops.square(difference[..., half:])
        return ops.mean(frequency_errors(square, self.gamma, self.focal, axis=-1), axis=-1)


@functools.cache
def _waves(sizes):
    """The real and the imaginary parts of the unitary Fourier transform of a patch: `(frequencies, pixels)` each."""
    matrix = np.ones((1, 1))
    for size in sizes:
        angles = -2 * np.pi * np.outer(np.arange(size), np.arange(size)) / size
        matrix = np.kron(matrix, np.exp(1j * angles) / np.sqrt(size))
    return matrix.real.astype("float32"), matrix.imag.astype("float32")
