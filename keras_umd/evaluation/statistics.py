"""Mean, covariance and rank of features, and the checks of features that all scores share."""

import numpy as np

from keras_umd.utils.checks import as_numbers, check_instances, check_integers, require

# The product of a batch with itself takes at least the time to read and write a (dim, dim) matrix: with 2048 features
# 50 ms for 8 images as for 64. So this many images are collected first.
BUFFERED_IMAGES = 1024
MAX_DIM = 2**16  # whose covariance takes 34 GB


class FeatureStatistics:
    """Mean and covariance of features in batches, without keeping the features.

    Sums are float64 and of centred features (Chan et al., 1983), so that no digits are lost where the mean is large
    beside the deviations. Batches of any size give bitwise the same, if nothing is read in between.

    Example:

    >>> statistics = evaluation.FeatureStatistics(dim=16)
    >>> for batch in (features[:30], features[30:]):
    ...     statistics.update(batch)
    >>> statistics.mean.shape, statistics.covariance.shape
    ((16,), (16, 16))

    Args:
        dim: Positive integer, the features of an image.
    """

    def __init__(self, dim):
        check_integers(1, MAX_DIM, dim=dim)
        self.dim = dim
        self._buffer = np.empty((BUFFERED_IMAGES, dim))
        self._num_buffered = 0
        self._num_merged = 0
        self._mean = np.zeros(dim)
        self._scatter = np.zeros((dim, dim))  # sum of the products of centred features

    def update(self, features):
        """Add the features of further images.

        Args:
            features: Float array of shape `(batch, dim)`.

        Raises:
            ValueError: for another shape, and for features that are not finite; none of them is added then.
        """
        features = checked_features(features)
        require(
            features.shape[1] == self.dim,
            f"Features must have shape (batch, {self.dim}).",
            f"features of shape {features.shape}",
        )
        while len(features):
            taken = features[: BUFFERED_IMAGES - self._num_buffered]
            features = features[len(taken) :]
            self._buffer[self._num_buffered : self._num_buffered + len(taken)] = taken
            self._num_buffered += len(taken)
            if self._num_buffered == BUFFERED_IMAGES:
                self._empty_buffer()

    def merge(self, other):
        """Add all images of other `FeatureStatistics`, which stay as they are."""
        check_instances(FeatureStatistics, "other FeatureStatistics", other=other)
        require(other.dim == self.dim, f"Both must be of {self.dim} features.", f"other with dim={other.dim}")
        self._empty_buffer()
        other._empty_buffer()
        self._merge(other._num_merged, other._mean, other._scatter)

    @property
    def num_images(self):
        """Integer, the images added so far."""
        return self._num_merged + self._num_buffered

    @property
    def mean(self):
        """Float64 array of shape `(dim,)`; needs one image."""
        self._check_num_images(1)
        return self._mean.copy()

    @property
    def covariance(self):
        """Float64 array of shape `(dim, dim)`, with the divisor n - 1; needs two images."""
        self._check_num_images(2)
        return self._scatter / (self.num_images - 1)

    def _empty_buffer(self):
        features = self._buffer[: self._num_buffered]
        if len(features):
            mean = features.mean(axis=0)
            features -= mean
            self._merge(len(features), mean, features.T @ features)
        self._num_buffered = 0

    def _merge(self, num_images, mean, scatter):
        total = self._num_merged + num_images
        if not total:
            return
        shift = mean - self._mean
        self._scatter += scatter
        self._scatter += np.outer(shift, shift * (self._num_merged * num_images / total))
        self._mean += shift * (num_images / total)
        self._num_merged = total

    def _check_num_images(self, least):
        self._empty_buffer()
        require(
            self.num_images >= least,
            f"There must be at least {least} image(s).",
            f"num_images={self.num_images}",
        )


def checked_features(features, dtype=None, name="features"):
    """Return features as an array of shape `(n, dim)`.

    Args:
        features: Float array of shape `(n, dim)`.
        dtype: String, or `None` to keep their type.
        name: String, the argument that they are.

    Raises:
        ValueError: for a dictionary, another shape and values that are not finite.
    """
    if isinstance(features, dict):
        raise ValueError(f"The encoder must return features alone. Received: {name}, a dictionary of {list(features)}")
    as_numbers(finite=False, **{name: features})
    features = np.asarray(features, dtype)
    require(
        features.ndim == 2,
        "Features must have shape (n, dim), one vector an image; pool or flatten an encoder's outputs.",
        f"{name} of shape {features.shape}",
    )
    # Minimum and maximum are NaN where a value is; a mask would take a quarter of the features' memory.
    if not np.isfinite([features.min(initial=0), features.max(initial=0)]).all():
        wrong = np.flatnonzero(~np.isfinite(features).all(axis=1))
        raise ValueError(
            f"Features must be finite. Received: {name} with NaN or infinity in {len(wrong)} rows, first {wrong[0]}"
        )
    return features


def checked_sets(features, reference):
    """Return two sets of features as arrays, or raise a ValueError unless dims agree and both have two rows or more."""
    features, reference = checked_features(features), checked_features(reference, name="reference")
    require(
        features.shape[1] == reference.shape[1] and min(len(features), len(reference)) >= 2,
        "`features` and `reference` must be of shape (n, dim), with the same dim and at least two rows.",
        f"features of shape {features.shape}, reference of shape {reference.shape}",
    )
    return features, reference


def rank_me(features):
    """The effective rank of features: the exponential of the entropy of their singular values (Garrido et al., 2023).

    It lies between 1, for features of one direction, and the smaller of n and dim. A fall during training shows a
    collapse; the paper uses 25,600 images.

    Example:

    >>> rank = evaluation.rank_me(features)                       # at most 16, the width of these features

    Args:
        features: Float array of shape `(n, dim)`.

    Returns:
        Float of at least 1.
    """
    features = as_numbers(features=features)
    require(
        features.ndim == 2 and features.size,
        "`features` must be of shape (n, dim).",
        f"features of shape {features.shape}",
    )
    values = np.linalg.svd(features, compute_uv=False)
    shares = values / np.maximum(values.sum(), 1e-12) + 1e-7
    return float(np.exp(-np.sum(shares * np.log(shares))))
