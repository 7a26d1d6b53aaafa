"""The `.safetensors` format: eight bytes with the length of a JSON header, the header, then the arrays one by one.

Written here, since it is small: weights of bfloat16 and float8 stay what they are, which NumPy's own types have no
names for, no framework is imported, and a file that was made to hurt is refused before memory is taken for it.
"""

import json
import math
import os

import ml_dtypes
import numpy as np

from keras_umd.utils.arrays import reading

TYPES = {
    "F64": np.dtype("float64"),
    "F32": np.dtype("float32"),
    "F16": np.dtype("float16"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    **{f"{kind}{8 * size}": np.dtype(f"{kind.lower()}{size}") for kind in "IU" for size in (1, 2, 4, 8)},
    "BOOL": np.dtype("bool"),
}
NAMES = {dtype: name for name, dtype in TYPES.items()}
METADATA = "__metadata__"
# An entry takes about a hundred bytes; a hundred times more arrays than the largest models have.
MOST_HEADER_BYTES = 2**25


def write_safetensors(path, arrays, metadata=None):
    """Write arrays as a `.safetensors` file.

    Args:
        path: String.
        arrays: Dictionary of NumPy arrays.
        metadata: Dictionary of strings, or `None`.

    Raises:
        ValueError: for an array of a type that the format doesn't have; nothing is written then.
    """
    header, begin = {METADATA: metadata} if metadata else {}, 0
    # The largest types first, so that each array begins at a multiple of its type's size, as readers that map expect.
    names = sorted(arrays, key=lambda name: (-arrays[name].dtype.itemsize, name))
    for name in names:
        array = arrays[name]
        check_name(name)
        if array.dtype not in NAMES:
            raise ValueError(f"A .safetensors file has no arrays of this type. Received: {name} of type {array.dtype}")
        end = begin + array.nbytes
        header[name] = {"dtype": NAMES[array.dtype], "shape": list(array.shape), "data_offsets": [begin, end]}
        begin = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in names:
            file.write(np.ascontiguousarray(arrays[name]).tobytes())


def read_safetensors(path, remedy):
    """The arrays of a `.safetensors` file, by name; errors as of `reading`.

    The header is checked first: each array must have the bytes that its shape and type need, and all of them together
    must be the file.
    """
    with reading(path, remedy), open(path, "rb") as file:
        entries = _checked(_read_header(file), os.path.getsize(path) - file.tell())
        arrays = {}
        for name, (dtype, shape) in entries.items():  # one after the other, in the order of the file
            values = np.fromfile(file, dtype, math.prod(shape)).reshape(shape)
            if dtype.kind == "b" and np.any(values.view("uint8") > 1):
                raise ValueError(f"{name} has bytes that are no bools")
            arrays[name] = values
        return arrays


def check_name(name):
    """A ValueError for the name of an array that could be a path out of a folder."""
    is_path = name.startswith("/") or ".." in name.split("/") or any(sign in name for sign in "\\\0")
    if is_path or not name or name == METADATA:
        raise ValueError(f"arrays must have names, and no paths that lead out of a folder. Received: {name!r}")


def _read_header(file):
    """The JSON object at the beginning of an open file."""
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > min(size - 8, MOST_HEADER_BYTES):
        raise ValueError(f"its header of {length:,} bytes doesn't fit into {size:,}")
    header = json.loads(file.read(length).decode("utf-8"), object_pairs_hook=_without_repeats)
    if not isinstance(header, dict):
        raise ValueError(f"its header must be a JSON object. Received: a {type(header).__name__}")
    header.pop(METADATA, None)
    return header


def _without_repeats(pairs):
    """Of two entries of one name, JSON takes the last, and other readers the first."""
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("its header has a name twice")
    return values


def _checked(header, num_bytes):
    """Type and shape of each array by name, in the order in which they lie in the `num_bytes` behind the header."""
    entries, end = {}, 0
    for name, entry in sorted(header.items(), key=lambda item: _offsets(*item)):
        check_name(name)
        shape, kind = entry.get("shape"), entry.get("dtype")
        if not isinstance(kind, str) or kind not in TYPES or not _is_list_of_sizes(shape):
            raise ValueError(
                f"{name} must have a shape and one of the types {sorted(TYPES)}. Received: {str(entry)[:200]}"
            )
        begin, stop = _offsets(name, entry)
        if begin != end or stop - begin != math.prod(shape) * TYPES[kind].itemsize or stop > num_bytes:
            raise ValueError(
                f"{name} of shape {shape} and type {kind} must lie behind the array before it, with no gap. "
                f"Received: bytes {begin:,} to {stop:,} of {num_bytes:,}"
            )
        entries[name], end = (TYPES[kind], tuple(shape)), stop
    if end != num_bytes:
        raise ValueError(f"it has {num_bytes:,} bytes of arrays, and its header tells of {end:,}")
    return entries


def _offsets(name, entry):
    offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
    if not _is_list_of_sizes(offsets) or len(offsets) != 2:
        raise ValueError(f"{name} must have a beginning and an end. Received: {str(entry)[:200]}")
    return tuple(offsets)


def _is_list_of_sizes(values):
    """Whether they are integers of at least 0, few and small enough to multiply."""
    is_list = isinstance(values, list) and len(values) <= 32
    return is_list and all(type(value) is int and 0 <= value < 2**63 for value in values)
