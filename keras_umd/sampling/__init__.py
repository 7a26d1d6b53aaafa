"""From noise to images: samplers, time grids, guidance, the loop around them, and many images on disk."""

from keras_umd.sampling.files import generate_to

__all__ = ["generate_to"]
