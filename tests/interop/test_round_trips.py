"""Folders of presets from each backend to each other, and to the readers of the safetensors library.

A process of each backend writes its folders, waits for those of the others, and loads all.
"""

import pathlib
import sys
import time

if __name__ == "__main__":
    import tests.lean  # noqa: F401

import keras
import numpy as np
import pytest

from keras_umd import UMD, FeatureExtractor
from keras_umd.utils.safetensors import read_safetensors
from keras_umd.weights import read_weights
from tests.conftest import array, assert_close, trained_like
from tests.processes import of_other_backends, wait_for

pytestmark = [pytest.mark.interop, pytest.mark.system, pytest.mark.slow]
BACKENDS = ("jax", "tensorflow", "torch")
KINDS = ("averages and LoRA", "int8", "int4", "extractor in bfloat16")
IMAGES = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 1)).astype("uint8")
NOISY = np.random.default_rng(1).normal(size=(3, 8, 8, 1)).astype("float32"), np.array([1.0, 300.0, 900.0], "float32")


def saved(kind, path):
    """A model whose weights this backend has drawn, or its extractor; the folder appears when it is whole."""
    keras.utils.set_random_seed(BACKENDS.index(keras.backend.backend()))
    sizes = {"patch_size": 2, "hidden_dim": 16, "num_heads": 2, "num_layers": 1, "decoder_layers": 1}
    model = trained_like(UMD((8, 8, 1), **sizes, num_classes=3, seed=0))
    if kind == "averages and LoRA":
        model.enable_lora(2)
        trained_like(model)  # the second factor begins at zero
        model.track_average([0.9, 0.5])
        trained_like(model)
        for average in model.averages:
            average.update()
    if kind.startswith("int"):
        model.quantize(kind)
    if kind.startswith("extractor"):
        model = model.feature_extractor(pooling="mean")
    model.save_to_preset(path, dtype="bfloat16" if kind.endswith("bfloat16") else None)


def loaded(kind, path):
    """What this backend makes of a folder: all variables and outputs, by name."""
    if kind.startswith("extractor"):
        model = FeatureExtractor.from_preset(path)
        results = {"features": array(model(IMAGES))}
    else:
        model = UMD.from_preset(path)
        predictions = model.estimate(*map(keras.ops.convert_to_tensor, (*NOISY, np.array([0, 2, 3], "int32"))))
        results = {name: array(value) for name, value in predictions.items()}
    return results | {f"variables/{name}": array(variable) for name, variable in model.preset_variables().items()}


def write_and_load(folder):
    """The part of each process: `KIND_of_WRITER_on_READER.npz` for all kinds and writers."""
    reader, begin = keras.backend.backend(), time.monotonic()
    for kind in KINDS:
        saved(kind, folder / f"{kind}_of_{reader}")
    for writer in BACKENDS:
        for kind in KINDS:
            path = folder / f"{kind}_of_{writer}"
            wait_for(path, begin)
            np.savez(folder / f"{path.name}_on_{reader}.npz", **loaded(kind, path))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the presets of each backend, and what each has made of them."""
    folder = tmp_path_factory.mktemp("presets")
    with of_other_backends("tests.interop.test_round_trips", BACKENDS, folder):
        write_and_load(folder)
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_every_backend_loads_what_each_wrote(folder, kind):
    for writer in BACKENDS:
        results = {reader: dict(np.load(folder / f"{kind}_of_{writer}_on_{reader}.npz")) for reader in BACKENDS}
        expected = results[writer]
        for reader in {*BACKENDS} - {writer}:
            assert results[reader].keys() == expected.keys()
            for name, value in results[reader].items():
                if name.startswith("variables/"):
                    np.testing.assert_array_equal(value, expected[name], err_msg=name)
                else:  # a number between two of int8 may be rounded to either
                    assert_close(value, expected[name], 0.02 if kind.startswith("int") else 1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_safetensors_library_reads_them_as_tensors_of_pytorch(folder, kind):
    torch, library = pytest.importorskip("torch"), pytest.importorskip("safetensors.torch")
    for writer in BACKENDS:
        path = folder / f"{kind}_of_{writer}" / "weights.safetensors"
        ours, theirs = read_safetensors(path, ""), library.load_file(path)
        assert ours.keys() == theirs.keys()
        for name, value in theirs.items():
            assert str(value.dtype) == f"torch.{ours[name].dtype}"
            np.testing.assert_array_equal(value.to(torch.float64).numpy(), ours[name].astype("float64"))
        library.save_file(theirs, again := path.with_name("again.safetensors"))
        for name, value in read_weights(again).items():
            assert value.dtype == ours[name].dtype
            np.testing.assert_array_equal(value.astype("float64"), ours[name].astype("float64"))
        again.unlink()


if __name__ == "__main__":
    write_and_load(pathlib.Path(sys.argv[1]))
