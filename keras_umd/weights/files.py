"""Arrays from the files of other codebases: `.safetensors`, PyTorch's `.pth`, and `.npz`."""

import os

from keras_umd.utils.arrays import read_arrays, reading
from keras_umd.utils.checks import check_paths, require
from keras_umd.utils.safetensors import check_name, read_safetensors
from keras_umd.utils.torch_files import read_pytorch

REMEDY = "Download it again, or take a copy from elsewhere"
TORCH_TYPES = ("float16", "bfloat16", "float32", "float64", "bool", "uint8", "int8", "int16", "int32", "int64")


def read_weights(path):
    """The arrays of a file of weights, by name. Nothing that the file holds is executed.

    A header that promises more than the file has is refused before memory is taken, and so are pickles with anything
    but tensors, ZIP files that expand to far more than they are, and names that lead out of a folder.

    Example:

    >>> arrays = keras_umd.weights.read_weights("mae_vit_base.safetensors")                             # doctest: +SKIP
    >>> arrays["encoder.norm.weight"].shape                                                             # doctest: +SKIP
    (768,)

    Args:
        path: String or path, of a `.safetensors` file, a `.pth`, `.pt` or `.bin` file of PyTorch, which must be
            installed for it, or an `.npz` file of NumPy.

    Returns:
        Dictionary of NumPy arrays. PyTorch's bfloat16 becomes float32, which NumPy has.

    Raises:
        DamagedFileError: a ValueError that names the file, for one that isn't what its name says.
    """
    check_paths(path=path)
    path = os.fspath(path)
    suffix = os.path.splitext(path)[1]
    readers = {".safetensors": read_safetensors, ".npz": _read_npz, **dict.fromkeys((".pth", ".pt", ".bin"), _read_pth)}
    require(suffix in readers, f"`path` must end in one of {sorted(readers)}.", path=path)
    return readers[suffix](path, REMEDY)


def _read_npz(path, remedy):
    arrays = read_arrays(path, remedy)
    with reading(path, remedy):
        for name in arrays:
            check_name(name)
    return arrays


def _read_pth(path, remedy):
    tensors, _ = read_pytorch(path, remedy, TORCH_TYPES)
    with reading(path, remedy):
        for name, value in tensors.items():
            check_name(name)
            if value.numel() * value.element_size() > value.untyped_storage().nbytes():  # by strides of 0
                raise ValueError(f"{name} of shape {tuple(value.shape)} has more numbers than the file has for it")
        is_bfloat16 = {name: str(value.dtype) == "torch.bfloat16" for name, value in tensors.items()}
        return {name: (value.float() if is_bfloat16[name] else value).numpy() for name, value in tensors.items()}
