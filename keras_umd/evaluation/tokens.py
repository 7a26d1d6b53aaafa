"""The tokens of all patches of a data set, in a file that probes read piece by piece."""

import hashlib
import os

import numpy as np

from keras_umd.evaluation.features import FeatureSet, batches_of, check_model, outputs_of, with_progress
from keras_umd.evaluation.results import describe_model
from keras_umd.utils.arrays import map_array
from keras_umd.utils.atomic import MANIFEST, DamagedFileError, make_folder, read_manifest, write_manifest, write_whole
from keras_umd.utils.checks import as_numbers, check_bools, check_paths, require

TOKENS, LABELS = "tokens.npy", "labels.npy"
REMEDY = "Delete the folder, and extract the tokens anew"


def extract_tokens(encoder, dataset, directory=None, batch_size=256, *, verbose=False):
    """Compute the tokens of all patches of all images, as float16, in memory or in a file.

    50,000 images of 256 tokens of 768 numbers take 20 GB: probes read a file of them batch by batch.

    Example:

    >>> tokens = evaluation.extract_tokens(model.feature_extractor(pooling=None), (images, labels), "tokens/train")
    >>> tokens.features.shape
    (24, 16, 32)

    Args:
        encoder: Keras model from images to tokens `(batch, patches, dim)`: `model.feature_extractor(pooling=None)`.
        dataset: As in `extract`.
        directory: String or path of a folder that has no tokens yet. Gets `tokens.npy`, `labels.npy` where there are
            labels, and `manifest.json` with their checksums, which is written last. `None` to keep them in memory.
        batch_size: Integer, for arrays.
        verbose: Bool. Whether to show a progress bar.

    Returns:
        `FeatureSet` whose `features` are float16 `(n, patches, dim)`, with a `directory` a view of the file.

    Raises:
        ValueError: for an empty data set, an encoder that returns no tokens, and for tokens that aren't finite in
            float16.
        OSError: where the disk is full; no `manifest.json` is written then.
    """
    check_model(encoder=encoder)
    check_bools(verbose=verbose)
    seen = _Seen()
    batches = seen.read(encoder, with_progress(batches_of(dataset, batch_size), dataset, verbose))
    if directory is None:
        tokens = list(batches)
        require(tokens, "The data set has no images.", f"dataset={dataset!r}")
        return FeatureSet(np.concatenate(tokens), seen.labels(), seen.digest())
    check_paths(directory=directory)
    directory = os.fspath(directory)
    require(
        not os.path.exists(os.path.join(directory, MANIFEST)),
        "The folder has tokens already; read them with `load_tokens`, or take another folder.",
        directory=directory,
    )
    make_folder(directory)
    write_whole(os.path.join(directory, TOKENS), lambda path: _write(path, batches, dataset))
    if seen.labels() is not None:
        write_whole(os.path.join(directory, LABELS), lambda path: np.save(path, seen.labels()))
    write_manifest(directory, digest=seen.digest(), encoder=describe_model(encoder))
    return load_tokens(directory, verify=False)


def load_tokens(directory, verify=True):
    """The tokens that `extract_tokens` wrote, as a view of their file.

    Example:

    >>> evaluation.extract_tokens(model.feature_extractor(pooling=None), (images, labels), "tokens")
    >>> evaluation.load_tokens("tokens").features.shape
    (24, 16, 32)

    Args:
        directory: String or path.
        verify: Bool. Whether to compare the files with their checksums, which reads them once; else only their sizes.

    Returns:
        `FeatureSet`.

    Raises:
        DamagedFileError: a ValueError that names the file, where it isn't what was written.
    """
    check_paths(directory=directory)
    check_bools(verify=verify)
    directory = os.fspath(directory)
    manifest = read_manifest(directory, verify)
    if TOKENS not in manifest["files"] or not isinstance(manifest.get("digest"), str):
        raise DamagedFileError(f"{directory} holds no tokens. {REMEDY}")
    has_labels = LABELS in manifest["files"]
    labels = np.array(map_array(os.path.join(directory, LABELS), REMEDY)) if has_labels else None
    return FeatureSet(map_array(os.path.join(directory, TOKENS), REMEDY), labels, manifest["digest"])


class _Seen:
    """Labels and hash of the images that were read, in the order and by the rule of `extract`."""

    def __init__(self):
        self._hash, self._labels = hashlib.sha256(), []

    def read(self, encoder, batches):
        for tokens, images, labels in outputs_of(encoder, batches):
            self._hash.update(np.ascontiguousarray(images).view("uint8").data)
            if labels is not None:
                self._labels.append(labels)
            yield _checked(tokens)

    def labels(self):
        return np.concatenate(self._labels) if self._labels else None

    def digest(self):
        digest = self._hash.copy()
        if self._labels:
            digest.update(self.labels().astype("int64").data)
        return digest.hexdigest()


def _checked(tokens):
    require(
        not isinstance(tokens, (dict, list, tuple)) and np.ndim(tokens) == 3,
        "The encoder must return tokens (batch, patches, dim), as `model.feature_extractor(pooling=None)` does.",
        f"outputs of type {type(tokens).__name__}, shape {getattr(tokens, 'shape', None)}",
    )
    as_numbers(tokens=tokens, finite=False)
    with np.errstate(over="ignore"):
        halves = np.asarray(tokens, "float32").astype("float16")
    require(
        np.isfinite(halves).all(),
        "Tokens must be finite in float16, below 65,504; look for NaN in the weights of the encoder.",
        f"tokens up to {np.abs(np.asarray(tokens, 'float32')).max():g}",
    )
    return halves


def _write(path, batches, dataset):
    """An `.npy` file of batches, whose number is known at its end: NumPy leaves room in the header for it."""
    shape, count = None, 0
    with open(path, "wb") as file:
        for batch in batches:
            if shape is None:
                shape = batch.shape[1:]
                start = _write_header(file, (0, *shape))
            file.write(np.ascontiguousarray(batch).data)
            count += len(batch)
        require(count, "The data set has no images.", f"dataset={dataset!r}")
        file.seek(0)
        end = _write_header(file, (count, *shape))
        require(end == start, "NumPy must write headers of one length.", f"{start} and {end} bytes")


def _write_header(file, shape):
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype("float16")), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.tell()
