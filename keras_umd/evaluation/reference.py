"""What real images look like to a network: computed once, kept in a file, or read from files of other codebases."""

import os
import zipfile

import keras
import numpy as np

from keras_umd.evaluation.features import batches_of, checked, outputs_of
from keras_umd.evaluation.inception_score import softmax
from keras_umd.evaluation.statistics import FeatureStatistics
from keras_umd.utils.atomic import write_whole
from keras_umd.utils.fingerprint import fingerprint


class ImageFeatures:
    """Features of images that pass through a network in batches: their statistics, and themselves where they are kept.

    Args:
        network: Keras model from images to features `(batch, dim)`, or to a dictionary of `features` and perhaps
            `logits` `(batch, classes)`, such as `FIDInception`.
        batches: What `batches_of` takes.
        batch_size: Integer.
        keep_features, keep_probabilities: Bools. 50,000 images of FID's Inception: 410 MB and 200 MB.
        progress: `keras.utils.Progbar` or `None`.

    Attributes:
        statistics: `FeatureStatistics`.
        features: float32 array `(n, dim)` or `None`.
        probabilities: float32 array `(n, classes)`, or `None`, also where the network gives no logits.
    """

    def __init__(self, network, batches, batch_size, keep_features=True, keep_probabilities=False, progress=None):
        self.statistics = None
        all_features, all_probabilities = _Rows(), _Rows()
        for outputs, images, _ in outputs_of(network, _in_range(batches_of(batches, batch_size), network)):
            outputs = outputs if isinstance(outputs, dict) else {"features": outputs}
            features = checked(outputs["features"])
            if self.statistics is None:
                self.statistics = FeatureStatistics(features.shape[1])
            self.statistics.update(features)
            if keep_features:
                all_features.append(features)
            if keep_probabilities and "logits" in outputs:
                all_probabilities.append(softmax(outputs["logits"]))
            if progress is not None:
                progress.add(len(images))
        if self.statistics is None:
            raise ValueError("There are no images to take the features of. Received: no batches")
        self.features, self.probabilities = all_features.whole(), all_probabilities.whole()


class Reference:
    """The features' mean and covariance of real images, and the features themselves where they are kept.

    Example:

    >>> network = FIDInception("pt_inception-2015-12-05-6726825d.pth")
    >>> images = data.from_folder("val", image_size=256, batch_size=64, labels=False, training=False)
    >>> Reference.of(network, images).save("val.npz")
    >>> reference = Reference.load("val.npz")

    Attributes:
        mean, covariance: Float64 arrays `(dim,)` and `(dim, dim)`.
        num_images: Integer, or `None` of a file that doesn't tell.
        features: float32 array `(num_images, dim)` or `None`.
        network: String, the identity of the network, or `None` of a file that doesn't tell.
        digest: String that tells this reference from others.
    """

    def __init__(self, mean, covariance, num_images=None, features=None, network=None):
        self.mean, self.covariance = np.asarray(mean, "float64"), np.asarray(covariance, "float64")
        self.num_images = num_images
        self.features = features
        self.network = network
        self.digest = fingerprint([self.mean, self.covariance])

    @classmethod
    def of(cls, network, images, keep_features=True, batch_size=64, verbose=True):
        """Run real images through a network.

        Args:
            network: `FIDInception`, or any Keras model from images to features `(batch, dim)`.
            images: As of `extract`: an array, an `ImageDataset` with `training=False`, ... Labels aren't used.
            keep_features: Bool. Kernel distance, precision, recall, density and coverage need the features.
            batch_size: Integer, for arrays.
            verbose: Bool. Whether to show a progress bar.
        """
        seen = ImageFeatures(network, images, batch_size, keep_features, progress=progress_bar(images, verbose))
        statistics = seen.statistics
        return cls(
            statistics.mean, statistics.covariance, statistics.num_images, seen.features, network_identity(network)
        )

    def save(self, path):
        """Write an `.npz` file, with `mu` and `sigma` as other evaluators have them."""
        if not os.fspath(path).endswith(".npz"):
            raise ValueError(f"The file's name must end with .npz. Received: path={path!r}")
        values = {"mu": self.mean, "sigma": self.covariance}
        optional = {"num_images": self.num_images, "features": self.features, "network": self.network}
        values.update({name: np.asarray(value) for name, value in optional.items() if value is not None})
        write_whole(os.fspath(path), lambda temporary: np.savez(temporary, **values))

    @classmethod
    def load(cls, path):
        """A reference from a file: of `save`, of pytorch-fid, or one of ADM's reference batches (`mu`, `sigma`).

        Those of pytorch-fid and ADM don't tell which network they are of; use them with `FIDInception`, with
        `resize="half_pixel"` for pytorch-fid's.
        """
        with np.load(path) as file:
            if not {"mu", "sigma"} <= set(file.files):
                raise ValueError(f"The file must have `mu` and `sigma`. Received: {path} with {file.files}")
            num_images, features, network = (file.get(name) for name in ("num_images", "features", "network"))
            return cls(
                file["mu"],
                file["sigma"],
                None if num_images is None else int(num_images),
                features,
                None if network is None else str(network),
            )

    def check_network(self, network):
        """Raise a ValueError if it can't be the network that the reference was made with."""
        identity = network_identity(network)
        if self.network is not None and self.network != identity:
            raise ValueError(
                "The reference was made with another network or other weights; make one with `Reference.of`. "
                f"Received: network {identity}, reference of {self.network}"
            )


class _Rows:
    """A float32 array that grows in place: joining a list of batches would take the memory twice."""

    def __init__(self):
        self.array, self.count = None, 0

    def append(self, rows):
        if self.array is None:
            self.array = np.empty((0, rows.shape[1]), "float32")
        count = self.count + len(rows)
        if count > len(self.array):
            self.array.resize((max(count, len(self.array) * 6 // 5), rows.shape[1]), refcheck=False)
        self.array[self.count : count] = rows
        self.count = count

    def whole(self):
        """What was appended, or `None` if nothing was."""
        if self.array is not None:
            self.array.resize((self.count, self.array.shape[1]), refcheck=False)
        return self.array


def progress_bar(images, verbose=True):
    """A bar of as many steps as there are images, where they tell; `None` if it isn't wanted."""
    num_images = len(images) if hasattr(images, "shape") else getattr(images, "num_images", None)
    return keras.utils.Progbar(num_images or None, unit_name="image") if verbose else None


def _in_range(batches, network):
    """The same batches, if their values can be what a network with a `value_range` takes."""
    low, high = getattr(network, "value_range", None) or (-np.inf, np.inf)
    for images, labels in batches:
        if images.dtype != np.uint8 and images.size:
            least, greatest = images.min(), images.max()
            # Images in [0, 1] lie in [0, 255], too.
            if least < low or greatest > high or (high == 255 and greatest <= 1):
                raise ValueError(
                    f"The network takes uint8 images, or floats from {low:g} to {high:g}; scale them. "
                    f"Received: images with values from {least:g} to {greatest:g}"
                )
        yield images, labels


def network_identity(network):
    """A string that tells a network with its weights from others; not from one with other preprocessing alone."""
    own = getattr(network, "fingerprint", None)
    return f"{type(network).__name__} {own() if own is not None else fingerprint(network.weights)}"


def stored_images(path, batch_size):
    """The images of an `.npz` file, as `generate_to` and ADM write it, in batches: never all in memory.

    Args:
        path: String or path. The images are in `arr_0`, uint8 `(n, height, width, channels)`.
        batch_size: Integer.
    """
    with zipfile.ZipFile(path) as archive, archive.open("arr_0.npy") as file:
        major, _ = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
        shape, fortran_order, dtype = read_header(file)
        if fortran_order or len(shape) != 4:
            raise ValueError(f"`arr_0` must have shape (n, height, width, channels). Received: {path} with {shape}")
        image_bytes = int(np.prod(shape[1:])) * dtype.itemsize
        for start in range(0, shape[0], batch_size):
            count = min(batch_size, shape[0] - start)
            yield np.frombuffer(file.read(count * image_bytes), dtype).reshape(count, *shape[1:])
