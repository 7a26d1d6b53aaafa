"""What a loader hands over."""

import dataclasses
from collections.abc import Callable

import numpy as np


@dataclasses.dataclass
class Batch:
    """Images and labels in their places, and what is wrong with some of them.

    Args:
        images: uint8 array `(size, image_size, image_size, channels)`.
        labels: int32 array `(size,)`.
        is_small: Bool array `(size,)`. Which images were enlarged.
        reasons: List of strings, empty for a good image.
        name: Function from a place in the batch to what the user knows the image by.
    """

    images: np.ndarray
    labels: np.ndarray
    is_small: np.ndarray
    reasons: list
    name: Callable
