"""Importing the package costs nothing beyond Keras."""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.system
FRAMEWORKS = ("jax", "tensorflow", "torch")
EXTRAS = {"sklearn", "scipy", "matplotlib", "tensorflow_datasets", "keras_cv", "grain"}


@pytest.mark.parametrize("backend", FRAMEWORKS)
def test_a_model_trains_and_generates_where_no_other_framework_is_installed(backend):
    """And to import the package looks for none, nor for what single functions need."""
    others = {*FRAMEWORKS, "sklearn", "matplotlib"} - {backend}  # Keras would import the last two, which takes seconds
    eager = backend == "tensorflow"  # where a step takes long to trace
    code = f"""
import importlib.machinery, sys

finder = importlib.machinery.PathFinder
found, looked_for = finder.find_spec, []

def find_spec(name, *args):
    looked_for.append(name)
    return None if name.split(".")[0] in {others} else found(name, *args)

finder.find_spec = find_spec
import keras, numpy as np
before = set(sys.modules)
looked_for.clear()
import keras_umd
print(*(set(sys.modules) - before))
print(*looked_for)
model = keras_umd.UMD((8, 8, 1), patch_size=2, hidden_dim=8, num_layers=1, num_heads=2, decoder_layers=1)
model.compile("sgd", run_eagerly={eager})
model.fit(np.zeros((4, 8, 8, 1), "uint8"), verbose=0)
print(model.generate(num_images=2, num_steps=2).shape)
"""
    environment = {**os.environ, "KERAS_BACKEND": backend}
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    imported, looked_for, *_, shape, _ = finished.stdout.split("\n")
    added, sought = ({name.split(".")[0] for name in names.split()} for names in (imported, looked_for))
    assert "keras_umd" in added & sought
    assert not (added | sought) & ({*FRAMEWORKS, *EXTRAS} - {backend})
    assert shape == "(2, 8, 8, 1)"


@pytest.mark.parametrize(
    ("missing", "backend", "words"),
    [
        (FRAMEWORKS, "tensorflow", ["pip install 'keras-umd[jax]'", "'keras-umd[tensorflow]'", "'keras-umd[torch]'"]),
        (("jax", "torch"), "jax", ["KERAS_BACKEND to 'tensorflow', which is", "pip install 'keras-umd[jax]'"]),
    ],
)
def test_without_the_backend_it_says_what_to_install(missing, backend, words):
    code = f"""
import importlib.machinery

finder = importlib.machinery.PathFinder
found = finder.find_spec
finder.find_spec = lambda name, *args: None if name.split(".")[0] in {missing} else found(name, *args)
import keras_umd
"""
    environment = {**os.environ, "KERAS_BACKEND": backend}
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert finished.returncode == 1
    error = finished.stderr.strip().splitlines()[-1]
    assert error.startswith("ImportError: ") and all(word in error for word in words), error
