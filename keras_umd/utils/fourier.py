"""The Fourier transform of images with any number of space axes, by products with matrices."""

import functools

import numpy as np
from keras import ops

TINY = 1e-12  # under the root, whose slope at 0 is infinite


def spectrum(images):
    """The unitary Fourier transform along the space axes.

    Args:
        images: Float tensor of shape `(n, *space, channels)`.

    Returns:
        Pair of float tensors of that shape, the real and the imaginary parts. Frequency 0 comes first.
    """
    return _transform(images, None, sign=-1)


def from_spectrum(real, imaginary):
    """The real part of the inverse of `spectrum`."""
    return _transform(real, imaginary, sign=1)[0]


def radii(space):
    """The distance of each frequency of `spectrum` from 0, in cycles per image, a float32 array of shape `space`."""
    axes = [np.fft.fftfreq(size) * size for size in space]
    return np.sqrt(sum(np.square(axis) for axis in np.meshgrid(*axes, indexing="ij"))).astype("float32")


def frequency_errors(square, gamma, focal, axis):
    """|difference|^gamma of Fourier coefficients (Xie et al., "Masked Frequency Modeling", 2023, section 3.2).

    Args:
        square: Float tensor, the squared magnitude of each difference.
        gamma: Float.
        focal: Bool. Whether a frequency counts by log(1 + |difference|), divided by the largest along `axis` (Jiang et
            al., "Focal Frequency Loss", 2021, as in A2MIM, 2023).
        axis: Integer or tuple of integers, the axes of the frequencies.

    Returns:
        Float tensor of the shape of `square`.
    """
    errors = square if gamma == 2 else ops.power(square + TINY, gamma / 2)
    if not focal:
        return errors
    weights = ops.log1p(ops.sqrt(ops.stop_gradient(square)))
    return errors * weights / ops.maximum(ops.max(weights, axis=axis, keepdims=True), TINY)


def _transform(real, imaginary, sign):
    for axis, size in enumerate(real.shape[1:-1], start=1):
        cosine, sine = map(ops.convert_to_tensor, _waves(size, sign))
        if imaginary is None:
            real, imaginary = _along(real, cosine, axis), _along(real, sine, axis)
        else:
            real, imaginary = (
                _along(real, cosine, axis) - _along(imaginary, sine, axis),
                _along(real, sine, axis) + _along(imaginary, cosine, axis),
            )
    return real, imaginary


def _along(x, matrix, axis):
    return ops.moveaxis(ops.tensordot(x, matrix, axes=((axis,), (1,))), -1, axis)


@functools.cache
def _waves(size, sign):
    angles = 2 * np.pi * np.outer(np.arange(size), np.arange(size)) / size
    return tuple((part(angles) / np.sqrt(size)).astype("float32") for part in (np.cos, lambda x: sign * np.sin(x)))
