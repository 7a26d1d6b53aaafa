"""Writes hog.npz: histograms of scikit-image, channel by channel.

Run with scikit-image 0.25 or later, which the tests don't need: `python tests/golden/make_hog.py`.
"""

import pathlib

import numpy as np
from skimage.feature import hog

images = np.random.default_rng(0).uniform(-1, 1, (2, 8, 12, 3)).astype("float32")
images[:, :4, :4] = 0.25  # a flat cell
histograms = [
    [
        hog(
            image[..., channel].astype("float64"),
            orientations=9,
            pixels_per_cell=(4, 4),
            cells_per_block=(1, 1),
            block_norm="L2",
            feature_vector=False,
        )[:, :, 0, 0]
        for channel in range(3)
    ]
    for image in images
]
np.savez_compressed(pathlib.Path(__file__).with_name("hog.npz"), images=images, histograms=np.array(histograms))
