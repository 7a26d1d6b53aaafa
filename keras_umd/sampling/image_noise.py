"""Gaussian noise that belongs to an image: the same for any batch size, any number of devices and any backend."""

import math

import numpy as np
from keras import ops

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA


def image_noise(key, image_indices, step, image_shape):
    """Normal noise for some images of a sequence, each a function of the key, its index and the step alone.

    `keras.random` draws a batch at once, so that an image's noise would depend on who stands beside it, and differ
    between backends. This is the counter-based generator of Salmon et al., "Parallel random numbers: as easy as 1, 2,
    3" (2011), which JAX uses too: nothing is carried from one number to the next. Then Box and Muller's transform.

    Args:
        key: Int32 tensor of shape `(2,)`, see `noise_key`.
        image_indices: Int32 tensor of shape `(batch,)`, the places of the images in the sequence.
        step: Integer or int32 scalar, 0 for the noise that sampling starts from.
        image_shape: Tuple, the shape of one image.

    Returns:
        Float32 tensor of shape `(batch, *image_shape)`.
    """
    size = math.prod(image_shape)
    image_key = threefry(key, image_indices, ops.full_like(image_indices, 1) * step)
    pairs = ops.arange((size + 1) // 2, dtype="int32")[None]
    first, second = threefry([word[:, None] for word in image_key], pairs, ops.zeros_like(pairs))
    radius = ops.sqrt(-2.0 * ops.log(1.0 - _uniform(first)))  # of numbers in (0, 1]
    angle = 2.0 * math.pi * _uniform(second)
    noise = ops.concatenate([radius * ops.cos(angle), radius * ops.sin(angle)], axis=1)
    return ops.reshape(noise[:, :size], (-1, *image_shape))


def noise_key(seeds):
    """The next state of a `keras.random.SeedGenerator` as a key, an int32 array of shape `(2,)`."""
    return np.asarray(ops.convert_to_numpy(seeds.next())).astype("uint32").view("int32")


def threefry(key, first, second):
    """Threefry-2x32 with 20 rounds: two words of random bits for each counter of two words.

    Keras has no unsigned arithmetic on PyTorch; int32, which wraps around, carries the same bits.

    Args:
        key: Pair of int32 tensors.
        first, second: Int32 tensors of a shape that those of the key broadcast to, the counters.

    Returns:
        Pair of int32 tensors.
    """
    keys = key[0], key[1], key[0] ^ key[1] ^ _PARITY
    first, second = first + keys[0], second + keys[1]
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            first = first + second
            second = _rotate_left(second, rotation) ^ first
        first = first + keys[(group + 1) % 3]
        second = second + keys[(group + 2) % 3] + (group + 1)
    return first, second


def _rotate_left(x, bits):
    # The right shift of a signed integer repeats its sign.
    return ops.left_shift(x, bits) | (ops.right_shift(x, 32 - bits) & ((1 << bits) - 1))


def _uniform(bits):
    """Float32 numbers in [0, 1) from the upper 24 bits, all of which a float32 can hold."""
    return ops.cast(ops.right_shift(bits, 8) & 0xFFFFFF, "float32") * 2.0**-24
