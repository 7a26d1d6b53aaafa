"""The files of MNIST and its kin."""

import gzip
import math
import os
import zlib

import numpy as np

from keras_umd.data.files import open_regular
from keras_umd.data.limits import DEFAULT_LIMITS, BadImage, Limits
from keras_umd.utils.checks import check_instances, check_paths, require

UINT8 = 0x08
MAX_BYTES = 2**32


def read_idx(images, labels, *, limits=None):
    """The images and labels of two idx files, the format of MNIST and Fashion-MNIST, as arrays for `from_arrays`.

    Files may be compressed with gzip. Whatever a header says is compared with what the file holds.

    Example:

    >>> images, labels = data.read_idx("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz")      # doctest: +SKIP
    >>> images.shape, labels.shape                                                                      # doctest: +SKIP
    ((60000, 28, 28, 1), (60000,))

    Args:
        images: String or path, a file of bytes with three axes: images, rows and columns.
        labels: String or path, a file of bytes with one axis.
        limits: `Limits`, or `None` for the defaults.

    Returns:
        uint8 array `(n, height, width, 1)` and int32 array `(n,)`.

    Raises:
        ValueError: for a file that is no such file, is damaged, or has another number of images than of labels.
    """
    check_paths(images=images, labels=labels)
    check_instances(Limits, "a keras_umd.data.Limits", optional=True, limits=limits)
    limits = DEFAULT_LIMITS if limits is None else limits
    pixels, indices = _read(images, 3, limits), _read(labels, 1, limits)
    require(
        len(pixels) == len(indices) > 0,
        "There must be one label for each image.",
        f"{len(pixels)} images in {images}, {len(indices)} labels in {labels}",
    )
    limits.check_pixels(*pixels.shape[1:])
    return pixels[..., None], indices.astype("int32")


def _read(path, num_axes, limits):
    path = os.fspath(path)
    try:
        with open_regular(path) as file:
            is_compressed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            with gzip.open(file) if is_compressed else file as content:
                return _array(content, path, num_axes, limits)
    except (BadImage, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"An idx file can't be read. Received: {path}: {error}") from error


def _array(content, path, num_axes, limits):
    header = content.read(4 + 4 * num_axes)
    shape = tuple(int.from_bytes(header[place : place + 4]) for place in range(4, len(header), 4))
    require(
        header[:4] == bytes([0, 0, UINT8, num_axes]) and len(header) == 4 + 4 * num_axes,
        f"An idx file of bytes with {num_axes} axes must begin with 00 00 08 {num_axes:02}, and their lengths.",
        f"{path}, which begins with {header.hex(' ') or 'nothing'}",
    )
    size = math.prod(shape)
    require(size <= MAX_BYTES, f"An idx file may have {MAX_BYTES} bytes.", f"{path} with shape {shape}")
    limits.check_records(shape[0], path)
    data = b"".join(_pieces(content, size + 1))  # one more, to see whether there is
    require(
        len(data) == size,
        "An idx file must have as many bytes as its header says.",
        f"{path} with shape {shape}, which are {size} bytes, and {'more' if len(data) > size else len(data)}",
    )
    return np.frombuffer(data, "uint8").reshape(shape)


def _pieces(content, size, piece=2**20):
    """At most `size` bytes; no memory is taken for what a header only claims."""
    while size > 0 and (read := content.read(min(piece, size))):
        yield read
        size -= len(read)
