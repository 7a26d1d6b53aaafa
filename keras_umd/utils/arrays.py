"""Arrays from files that may be damaged, or made to hurt: no pickles, no more memory than the file justifies."""

import contextlib
import math
import os
import zipfile

import ml_dtypes
import numpy as np

from keras_umd.utils.atomic import DamagedFileError

# Weights and features hardly shrink in a ZIP file. More than 20 times as much, if it is much at all, is a bomb.
MOST_EXPANSION = 20
SMALL_BYTES = 2**28


@contextlib.contextmanager
def reading(path, remedy):
    """A context in which a file is read: what readers raise at damaged files names the file, and says what to do.

    Args:
        path: String or path.
        remedy: String, a sentence without its full stop.

    Raises:
        FileNotFoundError: if there is none.
        DamagedFileError: for everything that isn't a regular file, and for what can't be read.
    """
    path = os.fspath(path)
    if not os.path.exists(path):
        raise FileNotFoundError(f"There is no file {path}. {remedy}")
    if not os.path.isfile(path):  # to open a pipe or a device could wait for ever
        raise DamagedFileError(f"{path} must be a regular file. {remedy}")
    try:
        yield
    except (DamagedFileError, PermissionError):
        raise
    except Exception as error:  # NumPy and zipfile raise many kinds
        raise DamagedFileError(f"{path} is damaged, or of another kind: {error or repr(error)}. {remedy}") from error


def is_float(array):
    """Whether an array has floats, also those that NumPy doesn't count to its own, as bfloat16."""
    return "float" in array.dtype.name


def is_finite(array):
    """Whether no number of an array is NaN or infinite, whatever its type."""
    return not is_float(array) or bool(np.isfinite(array).all())


def as_numpy_type(array):
    """An array whose type NumPy has a name for, so that any reader knows it: float32 for bfloat16, of equal values."""
    return array.astype("float32") if is_float(array) and array.dtype.kind == "V" else array


def with_type(array, dtype):
    """An array from an `.npz` file, where types that NumPy doesn't have, as bfloat16, are bytes without a name.

    Args:
        array: Array as NumPy reads it.
        dtype: String, its type when it was written.
    """
    return array.view(getattr(ml_dtypes, dtype)) if array.dtype.kind == "V" else array


def read_arrays(path, remedy):
    """The arrays of an `.npz` file, by name, compared with the checksums of ZIP; errors as of `reading`."""
    with reading(path, remedy), zipfile.ZipFile(path) as archive:
        check_sizes(path, archive)
        arrays = {}
        for info in archive.infolist():
            with archive.open(info) as file:
                read_header(file, info)
            with archive.open(info) as file:
                arrays[info.filename.removesuffix(".npy")] = np.lib.format.read_array(file, allow_pickle=False)
                file.read(1)  # the end, where its checksum is compared
        return arrays


def map_array(path, remedy):
    """An `.npy` file as an array in the file, which isn't read yet; errors as of `reading`."""
    with reading(path, remedy):
        return np.load(path, mmap_mode="r", allow_pickle=False)


def check_sizes(path, archive):
    """A ValueError for an open ZIP file whose contents are far larger than itself."""
    num_bytes, size = sum(info.file_size for info in archive.infolist()), os.path.getsize(path)
    if num_bytes > max(SMALL_BYTES, MOST_EXPANSION * size):
        raise ValueError(f"its {size:,} bytes would expand to {num_bytes:,}, more than {MOST_EXPANSION} times as many")


def read_header(file, info):
    """Shape, order and type of the array in an open entry of a ZIP file, which must have the size that they need.

    Returns:
        Tuple `(shape, fortran_order, dtype)`.
    """
    major, _ = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
    shape, fortran_order, dtype = read(file)
    num_bytes = math.prod(shape) * dtype.itemsize
    if dtype.hasobject or file.tell() + num_bytes != info.file_size:
        raise ValueError(
            f"{info.filename} of shape {shape} and type {dtype} must have {num_bytes:,} bytes, and no objects. "
            f"Received: {info.file_size - file.tell():,} bytes"
        )
    return shape, fortran_order, dtype
