"""The Inception network of FID, KID and the Inception Score.

It is the one that Google published as "inception-2015-12-05": Inception v3 with 1008 classes, average pools that leave
out the padding, and a max pool in the last block.
"""

import functools
import os

import keras
import numpy as np
from keras import ops

from keras_umd.backend import full_precision
from keras_umd.evaluation.inception_blocks import NETWORK, Convolution, path_of
from keras_umd.evaluation.resize import RESIZE_MODES, resize_images
from keras_umd.utils.arrays import read_arrays
from keras_umd.utils.atomic import DamagedFileError
from keras_umd.utils.checks import check_instances, check_one_of, check_paths, require
from keras_umd.utils.fingerprint import fingerprint
from keras_umd.utils.torch_files import read_pytorch

IMAGE_SIZE = 299
NUM_LOGITS = 1008
# The published file has the start of its sha256 in its name: pt_inception-2015-12-05-6726825d.pth.
FID_SHA256 = "6726825d"
BATCH_NORM_EPSILON = 1e-3
REMEDY = "Download it again, or take a copy from elsewhere"


@keras.saving.register_keras_serializable("keras_umd")
class FIDInception(keras.Model):
    """Computes the features of FID and the logits of the Inception Score from images.

    BatchNorm is folded into the convolutions when the weights are loaded; outputs agree with the original's to about
    1e-5 of the largest value. It computes in float32, whatever the global dtype policy, and isn't trained. (On GPUs,
    TensorFlow and PyTorch use TF32 for convolutions by default, with fewer digits.) Load the weights once and `save`
    the network as `.keras`, which `keras.models.load_model` reads without PyTorch.

    Example:

    >>> network = evaluation.FIDInception("pt_inception-2015-12-05-6726825d.pth")                       # doctest: +SKIP
    >>> network.predict(pictures, batch_size=32)["features"].shape, network.is_fid                      # doctest: +SKIP
    ((1000, 2048), True)

    Args:
        weights: Path of the PyTorch file that pytorch-fid and torch-fidelity share, or of an `.npz` file with the same
            names and layouts, and optionally the `source_sha256` of the PyTorch file. A name that ends with the start
            of the file's SHA-256, as the published one's, is compared with it. `None` is for random weights, drawn by
            `keras.utils.set_random_seed`.
        resize: String, the method that resizes images to 299x299: `"tf1"` as in the FID paper and ADM's evaluation,
            `"half_pixel"` as in pytorch-fid (which maps 127.5 to 0 instead of 128), `"clean"` as in clean-fid; see
            `resize_matrix`.
        name: String.

    Call arguments:
        images: uint8 or float tensor `(batch, height, width, 1 or 3)`, of values in [0, 255]. Height and width must be
            static shapes.

    Returns:
        Dictionary of float32 tensors: `"features"` `(batch, 2048)`, and `"logits"` `(batch, 1008)` without the last
        layer's bias, which the original code of the Inception Score leaves out.

    Raises:
        ValueError: if the weights aren't this network's, naming each array that is missing, unknown, of another shape
            or not finite.
        DamagedFileError: a ValueError, for a file that is damaged, or has anything but arrays in it.

    References:
        Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", 2015.
        Heusel et al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium", 2017.
    """

    value_range = (0.0, 255.0)

    def __init__(self, weights=None, resize="tf1", name="fid_inception"):
        check_one_of(RESIZE_MODES, resize=resize)
        check_instances(str, "a string", name=name)
        if weights is not None:
            check_paths(weights=weights)
        super().__init__(name=name, dtype="float32", trainable=False)
        self.resize = resize
        self.source_sha256 = None
        self.convolutions = {
            path_of(block, convolution): keras.layers.Conv2D(
                convolution.filters,
                convolution.kernel_size,
                convolution.strides,
                convolution.padding,
                data_format="channels_last",
                activation="relu",
                kernel_initializer=_zeros,
                bias_initializer=_zeros,
                dtype="float32",
                trainable=False,
                name=path_of(block, convolution).replace(".", "_"),
            )
            for block, step in NETWORK.items()
            for convolution in keras.tree.flatten(step)
            if isinstance(convolution, Convolution)
        }
        self.classifier = keras.layers.Dense(
            NUM_LOGITS, use_bias=False, kernel_initializer=_zeros, dtype="float32", trainable=False, name="fc"
        )
        self(keras.KerasTensor((1, IMAGE_SIZE, IMAGE_SIZE, 3), "float32"))  # builds the layers
        if weights is None:
            self._draw_weights()
        else:
            self._load(os.fspath(weights))

    def call(self, images):
        with full_precision():
            x = self._prepare(images)
            for block, step in NETWORK.items():
                x = self._apply(step, x, block)
            return self._outputs(x)

    def blocks(self, images):
        """Compute the outputs of every block, to compare two networks.

        Args:
            images: As in `call`.

        Returns:
            Dictionary of float32 tensors: `(batch, height, width, channels)` from `"Conv2d_1a_3x3"` to `"Mixed_7c"`,
            and those of `call`.
        """
        outputs = {}
        with full_precision():
            x = self._prepare(images)
            for block, step in NETWORK.items():
                x = outputs[block] = self._apply(step, x, block)
            return {**outputs, **self._outputs(x)}

    @property
    def is_fid(self):
        """Whether a Fréchet distance of the features may be called FID: published weights, and the paper's resize."""
        return self.resize == "tf1" and str(self.source_sha256).startswith(FID_SHA256)

    def fingerprint(self):
        """A hash of the weights and the resize method, as a string."""
        return fingerprint([np.frombuffer(self.resize.encode(), "uint8"), *self.weights])

    def get_config(self):
        return {"resize": self.resize, "source_sha256": self.source_sha256, "name": self.name}

    @classmethod
    def from_config(cls, config):
        network = cls(resize=config["resize"], name=config["name"])
        network.source_sha256 = config["source_sha256"]
        return network

    def _prepare(self, images):
        shape, dtype = tuple(images.shape), keras.backend.standardize_dtype(images.dtype)
        require(
            len(shape) == 4 and shape[3] in (1, 3) and (dtype == "uint8" or "float" in dtype),
            "`images` must be uint8 or float, of shape (batch, height, width, 1 or 3).",
            f"images of shape {shape} and type {dtype}",
        )
        images = resize_images(images, IMAGE_SIZE, self.resize)
        if shape[3] == 1:
            images = ops.repeat(images, 3, axis=-1)
        middle = 127.5 if self.resize == "half_pixel" else 128.0
        return (images - middle) / middle

    def _apply(self, step, x, block):
        if isinstance(step, Convolution):
            return self.convolutions[path_of(block, step)](x)
        if isinstance(step, list):
            return functools.reduce(lambda x, step: self._apply(step, x, block), step, x)
        if isinstance(step, tuple):
            return ops.concatenate([self._apply(branch, x, block) for branch in step], axis=-1)
        return step(x)

    def _outputs(self, x):
        features = ops.mean(x, axis=(1, 2))  # (batch, 2048)
        return {"features": features, "logits": self.classifier(features)}

    def _draw_weights(self):
        rng = np.random.default_rng(np.random.randint(2**31))  # follows `keras.utils.set_random_seed`
        for layer in (*self.convolutions.values(), self.classifier):
            shape = layer.kernel.shape
            layer.kernel.assign(rng.standard_normal(shape, "float32") * np.sqrt(2 / np.prod(shape[:-1])))  # He et al.

    def _load(self, path):
        arrays, source_sha256 = _read(path)
        self._check_names_and_shapes(arrays, path)
        for name, convolution in self.convolutions.items():
            kernel, gamma, beta, mean, variance = (np.asarray(arrays[key], "float64") for key in _file_names(name))
            scale = gamma / np.sqrt(variance + BATCH_NORM_EPSILON)
            convolution.kernel.assign(np.transpose(kernel, (2, 3, 1, 0)) * scale)
            convolution.bias.assign(beta - mean * scale)
        self.classifier.kernel.assign(np.asarray(arrays["fc.weight"]).T)
        self.source_sha256 = source_sha256

    def _check_names_and_shapes(self, arrays, path):
        expected = {"fc.weight": self.classifier.kernel.shape[::-1], "fc.bias": (NUM_LOGITS,)}
        for name, convolution in self.convolutions.items():
            height, width, channels, filters = convolution.kernel.shape
            kernel_name, *norm_names = _file_names(name)
            expected[kernel_name] = (filters, channels, height, width)
            expected.update(dict.fromkeys(norm_names, (filters,)))
        found = {name: tuple(array.shape) for name, array in arrays.items()}
        problems = [
            f"{name}: {found.get(name, 'missing')}, expected {expected.get(name, 'nothing')}"
            for name in sorted(expected.keys() | found.keys())
            if found.get(name) != expected.get(name)
        ]
        if problems:
            listed = "\n".join(problems)
            raise ValueError(f"These aren't the arrays of FID's network:\n{listed}\nReceived: weights={path!r}")
        for name, array in arrays.items():  # of the right shapes, so that none is larger than it should be
            values = np.asarray(array)
            is_variance = name.endswith("running_var")
            if values.dtype.kind != "f" or not np.isfinite(values).all() or (is_variance and values.min() < 0):
                raise DamagedFileError(
                    f"{name} must be finite floats{', of at least 0' if is_variance else ''}. {REMEDY}. "
                    f"Received: weights={path!r}, with {name} of type {values.dtype}"
                )


def _zeros(shape, dtype):
    """Zeros from NumPy, which are replaced at once: JAX would compile a program for each shape."""
    return np.zeros(shape, dtype)


def _file_names(path):
    return [f"{path}.conv.weight", *(f"{path}.bn.{x}" for x in ("weight", "bias", "running_mean", "running_var"))]


def _read(path):
    """The arrays or tensors of a file, and the sha256 of their PyTorch file, or `None` where it isn't known."""
    if path.endswith(".npz"):
        arrays = read_arrays(path, REMEDY)
        source_sha256 = str(arrays.pop("source_sha256", "")) or None
    elif path.endswith((".pth", ".pt")):
        arrays, source_sha256 = read_pytorch(path, REMEDY)
    else:
        raise ValueError(
            "`weights` must be the path of a .pth or .npz file, or None; keras.models.load_model reads a .keras file. "
            f"Received: weights={path!r}"
        )
    arrays = {name: value for name, value in arrays.items() if not name.endswith(".num_batches_tracked")}
    return arrays, source_sha256
