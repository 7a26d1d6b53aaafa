"""Exported files in their own runtimes, as far as these are installed, beside the model: `benchmarks/exports.py`."""

import os
import pathlib
import re
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_umd import UMD
from keras_umd.backend.exporting import FORMATS, refusal
from keras_umd_cli import main

pytestmark = [pytest.mark.interop, pytest.mark.filterwarnings("ignore")]
BENCHMARKS = pathlib.Path(__file__).parents[2] / "benchmarks"
EXAMPLE = BENCHMARKS.parent / "examples" / "serve_onnx.py"
RUNTIMES = {"onnx": "onnxruntime", "litert": "ai_edge_litert", "openvino": "openvino", "saved_model": "tensorflow"}
WRITTEN = [name for name, of_format in FORMATS.items() if keras.backend.backend() in of_format.packages]
SERVING = pathlib.Path(sys.prefix) / "serving" / "bin" / "python"
NONE_OF_OURS = """
import importlib.util
for name in ("keras", "keras_umd", "tensorflow", "jax", "torch", "numpy", "onnxruntime"):
    if importlib.util.find_spec(name):
        print(name)
"""
SAMPLING = {"num_steps": 2, "sampler": 0.0, "guidance": 2.0}


@pytest.fixture(scope="module")
def exports():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        import exports

        yield exports


@pytest.mark.parametrize("format", WRITTEN)
@pytest.mark.parametrize("what", ["encoder", "denoiser", "sampler"])
def test_a_runtime_computes_what_the_model_does(exports, what, format, tmp_path):
    if refusal(format, what == "sampler"):
        return  # tests/weights/test_exports.py
    for module in (RUNTIMES.get(format, "torch"), *FORMATS[format].packages[keras.backend.backend()]):
        pytest.importorskip(module)
    model = UMD.from_preset("umd_digits")
    run = exports.RUNTIMES[format](exports.export(model, str(tmp_path), what, format, SAMPLING))
    for batch_size in (1, 5):  # of any size
        inputs, of_model = exports.cases(model, batch_size, SAMPLING)[what]
        made, expected = run(inputs), of_model()
        assert set(made) == set(expected)
        for name, value in expected.items():
            assert made[name].dtype == value.dtype
            # A value of a sample may be rounded to the next.
            tolerance = 1 if value.dtype == "uint8" else 1e-4 * np.abs(value).max()
            np.testing.assert_allclose(made[name].astype("float64"), value, rtol=0, atol=tolerance)


@pytest.mark.backends("tensorflow")  # of which any would do
def test_the_serving_example_runs_as_it_says_without_keras(tmp_path):
    """Its commands, the last in an environment of onnxruntime and NumPy alone, which `make interop` makes."""
    for module in ("onnxruntime", *FORMATS["onnx"].packages["tensorflow"]):
        pytest.importorskip(module)
    if not SERVING.exists():
        pytest.skip(f"no {SERVING}")
    commands = re.findall(r"^keras-umd (.*)$", EXAMPLE.read_text(), re.MULTILINE)
    assert [command.split()[-1] for command in commands] == ["encoder.onnx", "sampler.onnx"]
    for command in commands:
        path = str(tmp_path / command.split()[-1])
        assert main([*command.split()[:-1], path]) == 0
    there = run(SERVING, "-c", NONE_OF_OURS, cwd=tmp_path)
    assert there.split() == ["numpy", "onnxruntime"]
    printed = run(SERVING, EXAMPLE, "encoder.onnx", "sampler.onnx", cwd=tmp_path)
    assert "10 images of (8, 8, 1), uint8, and their features of (96,)" in printed and "@" in printed


def run(*command, cwd):
    """What a command prints, in an environment that names no folder of ours."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "KERAS"))}
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=cwd, env=environment).stdout
