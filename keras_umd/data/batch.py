"""A batch as loaders make it."""

import dataclasses
from collections.abc import Callable

import numpy as np


@dataclasses.dataclass
class Batch:
    """Images and labels in their places in the batch, and the reasons why some can't be used.

    Args:
        images: uint8 array `(size, height, width, channels)`.
        labels: int32 array `(size,)`.
        is_small: Bool array `(size,)`. Which images were enlarged.
        reasons: List of strings, empty for a good image.
        name: Function from a place in the batch to the name of the image, for messages.
    """

    images: np.ndarray
    labels: np.ndarray
    is_small: np.ndarray
    reasons: list
    name: Callable
