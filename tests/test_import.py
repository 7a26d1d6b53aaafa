"""Importing the package costs nothing beyond Keras."""

import os
import subprocess
import sys

import keras
import pytest

from tests.conftest import QUICK

FRAMEWORKS = {"jax": "jax", "tensorflow": "tensorflow", "torch": "torch"}


def run(code):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    ).stdout


def test_import_brings_no_other_framework_and_no_extra():
    modules = {*FRAMEWORKS.values(), "sklearn", "scipy", "matplotlib", "tensorflow_datasets", "keras_cv", "grain"}
    code = "import sys, keras; before = set(sys.modules); import keras_umd; print(*(set(sys.modules) - before))"
    added = {name.split(".")[0] for name in run(code).split()}
    assert "keras_umd" in added
    assert not added & modules


@pytest.mark.parametrize("other", [name for name in FRAMEWORKS if name != keras.backend.backend()])
def test_a_model_trains_and_generates_where_no_other_framework_is_installed(other):
    code = f"""
import importlib.machinery

finder = importlib.machinery.PathFinder
found = finder.find_spec
finder.find_spec = lambda name, *args: None if name.split(".")[0] == {FRAMEWORKS[other]!r} else found(name, *args)
import keras, keras_umd, numpy as np
model = keras_umd.UMD((8, 8, 1), patch_size=2, hidden_dim=8, num_layers=1, num_heads=2, decoder_layers=1)
model.compile("sgd", jit_compile={QUICK!r})
model.fit(np.zeros((4, 8, 8, 1), "uint8"), verbose=0)
print(model.generate(num_images=2, num_steps=2).shape)
"""
    assert run(code).split("\n")[-2] == "(2, 8, 8, 1)"
