"""One `.keras` file on all three backends: the same features, samples and losses, and training goes on there.

The file is written on this backend; the others run in processes of their own.
"""

import importlib.util
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_umd import recipes

BACKENDS = ["jax", "tensorflow", "torch"]


def use_model(path, inputs):
    """What this process' backend makes of the file."""
    model = keras.models.load_model(path)
    to_numpy, to_tensor = keras.ops.convert_to_numpy, keras.ops.convert_to_tensor
    labels = to_tensor(inputs["labels"].astype("int32"))
    draws = {name: to_tensor(inputs[name]) for name in ("timesteps", "noise", "mask_noise", "label_drop")}
    x, y = model.make_views(inputs["images"], labels, draws=draws)
    results = {
        "features": to_numpy(model.encode(inputs["images"])),
        "samples": model.generate(inputs["labels"], num_steps=20, guidance=2.0, seed=0),
        "loss": to_numpy(model.compute_loss(x, y, model(x))),
    }
    before = int(model.optimizer.iterations)
    history = model.fit(inputs["images"], inputs["labels"], batch_size=8, verbose=0).history
    steps = int(model.optimizer.iterations) - before
    return {**results, "steps": steps, "training_loss": history["loss"][0]}


def use_elsewhere(backend, folder):
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-m", "tests.test_cross_backend", folder]
    root = pathlib.Path(__file__).parents[1]
    finished = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    return dict(np.load(folder / f"{backend}.npz"))


@pytest.fixture
def file_and_inputs(small_model, images, labels, tmp_path):
    rng = np.random.default_rng(0)
    model = small_model(num_classes=3)
    model.compile(recipes.finetuning_optimizer(50, 2560, ema_decay=0.9))
    model.fit(images, labels, batch_size=8, verbose=0)
    model.save(tmp_path / "model.keras")
    timesteps = np.where(np.arange(8) % 2, 0, rng.integers(1, 1001, 8)).astype("int32")
    np.savez(
        tmp_path / "inputs.npz",
        images=images[:8],
        labels=labels[:8],
        timesteps=timesteps,
        noise=rng.normal(size=(8, 8, 8, 1)).astype("float32"),
        mask_noise=rng.uniform(size=(8, 16)).astype("float32"),
        label_drop=rng.uniform(size=8) < 0.5,
    )
    return tmp_path


def test_every_backend_reads_the_file_alike(file_and_inputs):
    folder = file_and_inputs
    installed = {backend for backend in BACKENDS if importlib.util.find_spec(backend)}
    expected = use_model(folder / "model.keras", dict(np.load(folder / "inputs.npz")))
    for backend in installed - {keras.backend.backend()}:
        results = use_elsewhere(backend, folder)
        np.testing.assert_allclose(results["features"], expected["features"], atol=1e-4)
        difference = np.abs(results["samples"].astype(int) - expected["samples"].astype(int))
        assert difference.max() <= 1  # noise drawn in every step is the same everywhere
        assert (difference > 0).mean() < 0.02
        np.testing.assert_allclose(results["loss"], expected["loss"], atol=1e-5)
        assert results["steps"] == expected["steps"] == 1
        assert np.isfinite(results["training_loss"])


if __name__ == "__main__":
    folder = pathlib.Path(sys.argv[1])
    results = use_model(folder / "model.keras", dict(np.load(folder / "inputs.npz")))
    np.savez(folder / f"{keras.backend.backend()}.npz", **results)
