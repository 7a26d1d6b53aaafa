"""Tensors from PyTorch's files, which are pickles: nothing that could run code is loaded."""

import itertools
import pickle
import re
import zipfile

from keras_umd.utils.arrays import check_sizes, reading
from keras_umd.utils.atomic import checksum
from keras_umd.utils.optional import import_optional

# The largest models have some thousand. A pickle can name a dictionary twice in the next: 30 of them hold a billion.
MOST_ENTRIES = 2**17


def read_pytorch(path, remedy, types=("float16", "float32", "float64", "int64")):
    """The tensors of a PyTorch file by name, those of nested dictionaries too, and its sha256; errors as of `reading`.

    PyTorch itself doesn't look at the checksums of its files, and makes tensors of what it finds. A name that ends with
    the start of the file's SHA-256, as those of published files do, is compared with it.

    Args:
        path: String.
        remedy: String, what errors tell to do.
        types: Names of the types that tensors may have.
    """
    torch = import_optional("torch", f"PyTorch must read {path!r}: pip install 'keras_umd[torch]'")
    with reading(path, remedy):
        sha256 = checksum(path)
        promised = re.search(r"-([0-9a-f]{8,64})\.pth?$", path)  # as PyTorch's own download compares it
        if promised and not sha256.startswith(promised[1]):
            raise ValueError(f"its SHA-256 begins with {sha256[:8]}, and must begin with {promised[1]}")
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                check_sizes(path, archive)
                if damaged := archive.testzip():
                    raise ValueError(f"{damaged} has another checksum than it should")
        try:
            tensors = torch.load(path, "cpu", weights_only=True)
        except pickle.UnpicklingError as error:  # its message tells how to run what is in the file
            raise ValueError(
                "it holds something else than tensors, which isn't loaded, since it could run code"
            ) from error
        tensors = _flat(tensors)
        if not tensors or not all(isinstance(value, torch.Tensor) for value in tensors.values()):
            raise ValueError("it must hold a dictionary of tensors, and nothing else")
        allowed = [getattr(torch, name) for name in types]
        for name, value in tensors.items():
            if value.layout != torch.strided or value.device.type != "cpu" or value.dtype not in allowed:
                raise ValueError(f"its tensors must be dense, of floats or integers, not as {name!r}: {value.dtype}")
        return {name: value.detach() for name, value in tensors.items()}, sha256


def _flat(values, prefix="", visited=None):
    """The values of nested dictionaries by their names, with a dot between; nothing of what is no dictionary."""
    flat, visited = {}, itertools.count(1) if visited is None else visited
    for name, value in values.items() if isinstance(values, dict) else ():
        if next(visited) > MOST_ENTRIES:
            raise ValueError(f"its dictionaries within dictionaries have more than {MOST_ENTRIES:,} entries")
        flat |= _flat(value, f"{prefix}{name}.", visited) if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat
