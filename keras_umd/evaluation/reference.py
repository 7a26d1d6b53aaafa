"""Feature statistics of real images: computed once, kept in a file, or read from files of other codebases."""

import itertools
import os
import zipfile

import numpy as np

from keras_umd.evaluation.features import batches_of, check_model, outputs_of, with_progress
from keras_umd.evaluation.image_scores import softmax
from keras_umd.evaluation.statistics import FeatureStatistics, checked_features
from keras_umd.sampling.files import png_paths
from keras_umd.utils.arrays import check_sizes, read_arrays, read_header, reading
from keras_umd.utils.atomic import write_whole
from keras_umd.utils.checks import as_numbers, check_bools, check_instances, check_integers, check_paths, require
from keras_umd.utils.fingerprint import fingerprint
from keras_umd.utils.optional import import_optional

REMEDY = "Delete it, and make it anew with `Reference.of`, or take a copy from elsewhere"


class ImageFeatures:
    """The features of images in batches: their statistics, and optionally the features themselves.

    Args:
        network: Keras model from images to features `(batch, dim)`, or to a dictionary of `features` and perhaps
            `logits` `(batch, classes)`, such as `FIDInception`.
        images: As in `batches_of`.
        batch_size: Integer.
        keep_features, keep_probabilities: Bools. 50,000 images of FID's Inception: 410 MB and 200 MB.

    Attributes:
        statistics: `FeatureStatistics`.
        features: float32 array `(n, dim)` or `None`.
        probabilities: float32 array `(n, classes)`, or `None`, also where the network has no logits.
    """

    def __init__(self, network, images, batch_size, *, keep_features=True, keep_probabilities=False):
        self.statistics = None
        kept_features, kept_probabilities = bytearray(), bytearray()
        for outputs, _, _ in outputs_of(network, _in_range(batches_of(images, batch_size), network)):
            outputs = outputs if isinstance(outputs, dict) else {"features": outputs}
            features = checked_features(outputs["features"], "float32")
            if self.statistics is None:
                self.statistics = FeatureStatistics(features.shape[1])
            self.statistics.update(features)
            if keep_features:
                kept_features += features.tobytes()
            if keep_probabilities and "logits" in outputs:
                kept_probabilities += softmax(outputs["logits"]).astype("float32").tobytes()
        require(self.statistics is not None, "There are no images to take the features of.", "no batches")
        self.features = _rows(kept_features, self.statistics.num_images)
        self.probabilities = _rows(kept_probabilities, self.statistics.num_images)


def _rows(values, num_rows):
    """A view of float32 bytes, or `None` without any: concatenating a list of arrays would take the memory twice."""
    return np.frombuffer(values, "float32").reshape(num_rows, -1) if values else None


class Reference:
    """Mean and covariance of the features of real images, and optionally the features themselves.

    Example:

    >>> network = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(name="features")])
    >>> reference = evaluation.Reference.of(network, images)
    >>> reference.save("reference.npz")
    >>> reference = evaluation.Reference.load("reference.npz")

    Attributes:
        mean, covariance: Float64 arrays `(dim,)` and `(dim, dim)`.
        num_images: Integer, or `None` where a file doesn't say.
        features: float32 array `(num_images, dim)` or `None`.
        network: String, the class and a hash of the network, or `None` where a file doesn't say.
        digest: String, a hash of mean and covariance.
    """

    def __init__(self, mean, covariance, num_images=None, features=None, network=None):
        self.mean, self.covariance = as_numbers(mean=mean), as_numbers(covariance=covariance)
        dim = self.mean.size
        require(
            self.mean.shape == (dim,) and self.covariance.shape == (dim, dim) and dim,
            "`mean` must be of shape (dim,) and `covariance` of (dim, dim).",
            f"mean of shape {self.mean.shape}, covariance of shape {self.covariance.shape}",
        )
        check_integers(1, optional=True, num_images=num_images)
        if features is not None:
            shape = as_numbers(features=features).shape
            is_right = len(shape) == 2 and shape[1] == dim
            require(is_right, f"`features` must be of shape (num_images, {dim}).", f"features of shape {shape}")
        check_instances(str, "a string, as of `network_identity`,", optional=True, network=network)
        self.num_images = num_images
        self.features = features
        self.network = network
        self.digest = fingerprint([self.mean, self.covariance])

    @classmethod
    def of(cls, network, images, *, keep_features=True, batch_size=64, verbose=True):
        """Compute the reference of real images.

        Args:
            network: `FIDInception`, or any Keras model from images to features `(batch, dim)`.
            images: As in `extract`: an array, an `ImageDataset` with `training=False`, ... Labels aren't used.
            keep_features: Bool. Kernel distance, precision, recall, density and coverage need the features.
            batch_size: Integer, for arrays.
            verbose: Bool. Whether to show a progress bar.

        Returns:
            `Reference`.
        """
        check_model(network=network)
        check_bools(keep_features=keep_features, verbose=verbose)
        seen = ImageFeatures(
            network,
            with_progress(batches_of(images, batch_size, "images"), images, verbose),
            batch_size,
            keep_features=keep_features,
        )
        statistics = seen.statistics
        return cls(
            statistics.mean, statistics.covariance, statistics.num_images, seen.features, network_identity(network)
        )

    def save(self, path):
        """Write an `.npz` file, with `mu` and `sigma` under the names that other evaluators use."""
        check_paths(path=path)
        require(os.fspath(path).endswith(".npz"), "`path` must end in .npz.", path=path)
        values = {
            "mu": self.mean,
            "sigma": self.covariance,
            "num_images": self.num_images,
            "features": self.features,
            "network": self.network,
        }
        known = {name: np.asarray(value) for name, value in values.items() if value is not None}
        num_bytes = sum(value.nbytes for value in known.values())
        write_whole(os.fspath(path), lambda temporary: np.savez(temporary, **known), needed_bytes=num_bytes)

    @classmethod
    def load(cls, path):
        """Read a file of `save`, of pytorch-fid, or one of ADM's reference batches (`mu`, `sigma`).

        Those of pytorch-fid and ADM don't name their network; use them with `FIDInception`, with `resize="half_pixel"`
        for pytorch-fid's.

        Raises:
            DamagedFileError: a ValueError that names the file, where it isn't what was written.
        """
        check_paths(path=path)
        file = read_arrays(path, REMEDY)
        require({"mu", "sigma"} <= set(file), "The file must have `mu` and `sigma`.", f"{path} with {sorted(file)}")
        num_images, features, network = (file.get(name) for name in ("num_images", "features", "network"))
        _check_statistics(path, file["mu"], file["sigma"], features)
        with reading(path, REMEDY):
            return cls(
                file["mu"],
                file["sigma"],
                None if num_images is None else int(num_images),
                features,
                None if network is None else str(network),
            )

    def check_network(self, network):
        """Raise a ValueError if the reference was made with another network or other weights."""
        check_model(network=network)
        identity = network_identity(network)
        require(
            self.network in (None, identity),
            "The reference was made with another network or other weights; make one with `Reference.of`.",
            f"network {identity}, reference of {self.network}",
        )


def _in_range(batches, network):
    """The same batches; raises a ValueError for values outside of the network's `value_range`."""
    low, high = getattr(network, "value_range", None) or (-np.inf, np.inf)
    for images, labels in batches:
        if images.dtype != np.uint8 and images.size:
            least, greatest = images.min(), images.max()
            # Images scaled to [0, 1] lie in [0, 255], too, and would pass as nearly black ones.
            require(
                not (least < low or greatest > high or (high == 255 and greatest <= 1)),
                f"The network takes uint8 images, or floats from {low:g} to {high:g}; scale them.",
                f"images with values from {least:g} to {greatest:g}",
            )
        yield images, labels


def _check_statistics(path, mean, covariance, features):
    arrays = {"mu": mean, "sigma": covariance, **({} if features is None else {"features": features})}
    dim = mean.shape[-1:]
    shapes = {
        "mu": dim,
        "sigma": dim * 2,
        "features": (*arrays["features"].shape[:1], *dim) if "features" in arrays else (),
    }
    for name, array in arrays.items():
        if array.dtype.kind != "f" or not array.ndim or array.shape != shapes[name] or not np.isfinite(array).all():
            raise ValueError(
                f"`{name}` of {os.fspath(path)} must be finite floats of shape {shapes[name]}; make the reference anew "
                f"with `Reference.of`. Received: shape {array.shape}, type {array.dtype}"
            )


def network_identity(network):
    """Class and hash of a network's weights, as a string; preprocessing counts only where the network hashes it."""
    own = getattr(network, "fingerprint", None)
    return f"{type(network).__name__} {own() if own is not None else fingerprint(network.weights)}"


def stored_images(path, batch_size):
    """Iterate over the images of an `.npz` file or a folder, as `generate_to` and ADM write them, without loading all.

    Args:
        path: String or path. The images of a file are in `arr_0`, uint8 `(n, height, width, channels)`.
        batch_size: Integer.

    Raises:
        DamagedFileError: a ValueError that names the file, where it isn't what was written.
    """
    if os.path.isdir(path):
        pillow = import_optional("PIL.Image", "Reading images needs Pillow: pip install 'keras_umd[data]'")
        for batch in _in_batches(png_paths(path), batch_size):
            images = np.stack([np.asarray(pillow.open(image)) for image in batch])
            yield images if images.ndim == 4 else images[..., None]
        return
    with reading(path, REMEDY), zipfile.ZipFile(path) as archive:
        check_sizes(path, archive)
        info = archive.getinfo("arr_0.npy")
        with archive.open(info) as file:
            shape, fortran_order, dtype = read_header(file, info)
            if fortran_order or len(shape) != 4:
                raise ValueError(f"`arr_0` must have shape (n, height, width, channels). Received: {path} with {shape}")
            image_bytes = int(np.prod(shape[1:])) * dtype.itemsize
            for start in range(0, shape[0], batch_size):
                count = min(batch_size, shape[0] - start)
                yield np.frombuffer(file.read(count * image_bytes), dtype).reshape(count, *shape[1:])
            file.read(1)  # the end, where its checksum is compared


def _in_batches(items, batch_size):
    items = iter(items)
    while batch := list(itertools.islice(items, batch_size)):
        yield batch
