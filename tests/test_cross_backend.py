"""One `.keras` file on all three backends: the same features, samples and losses, and training goes on there.

A process of each backend writes a file, waits for those of the others, and uses all.
"""

import importlib.util
import pathlib
import sys
import time

if __name__ == "__main__":
    import tests.lean  # noqa: F401

import keras
import numpy as np
import pytest

from keras_umd import UMD, recipes
from tests.conftest import QUICK
from tests.processes import of_other_backends, wait_for

pytestmark = [pytest.mark.system, pytest.mark.slow]
BACKENDS = [backend for backend in ("jax", "tensorflow", "torch") if importlib.util.find_spec(backend)]


def write_model(path):
    """A model that has trained for an epoch."""
    keras.utils.set_random_seed(0)
    sizes = {"image_shape": (8, 8, 1), "patch_size": 2, "hidden_dim": 16, "num_heads": 2}
    model = UMD(**sizes, num_layers=1, decoder_layers=1, num_classes=3, seed=0)
    model.compile(recipes.finetuning_optimizer(50, 2560, ema_decay=0.9))
    model.run_eagerly = bool(QUICK)  # in this process; the file tells the others nothing of it
    images = np.random.default_rng(0).integers(0, 256, (24, 8, 8, 1)).astype("uint8")
    model.fit(images, np.random.default_rng(1).integers(0, 3, 24), batch_size=8, verbose=0)
    model.save(path.with_name(f"unfinished_{path.name}"))
    path.with_name(f"unfinished_{path.name}").rename(path)


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
    model.run_eagerly = bool(QUICK)
    before = int(model.optimizer.iterations)
    history = model.fit(inputs["images"], inputs["labels"], batch_size=8, verbose=0).history
    steps = int(model.optimizer.iterations) - before
    return {**results, "steps": steps, "training_loss": history["loss"][0]}


def write_and_use(folder, backends):
    """The part of each process: `WRITER_on_READER.npz` for all writers, whether or not this process can import them."""
    reader = keras.backend.backend()
    write_model(folder / f"{reader}.keras")
    inputs, begin = dict(np.load(folder / "inputs.npz")), time.monotonic()
    for writer in backends:
        wait_for(folder / f"{writer}.keras", begin)
        np.savez(folder / f"{writer}_on_{reader}.npz", **use_model(folder / f"{writer}.keras", inputs))


@pytest.fixture
def folder(images, labels, tmp_path):
    """A folder with the results of each backend on the files of each."""
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "inputs.npz",
        images=images[:8],
        labels=labels[:8],
        timesteps=np.where(np.arange(8) % 2, 0, rng.integers(1, 1001, 8)).astype("int32"),
        noise=rng.normal(size=(8, 8, 8, 1)).astype("float32"),
        mask_noise=rng.uniform(size=(8, 16)).astype("float32"),
        label_drop=rng.uniform(size=8) < 0.5,
    )
    with of_other_backends("tests.test_cross_backend", BACKENDS, tmp_path, *BACKENDS):
        write_and_use(tmp_path, BACKENDS)
    return tmp_path


def test_every_backend_reads_the_files_of_each_alike(folder):
    for writer in BACKENDS:
        expected = dict(np.load(folder / f"{writer}_on_{writer}.npz"))
        for reader in {*BACKENDS} - {writer}:
            results = dict(np.load(folder / f"{writer}_on_{reader}.npz"))
            np.testing.assert_allclose(results["features"], expected["features"], atol=1e-4)
            difference = np.abs(results["samples"].astype(int) - expected["samples"].astype(int))
            assert difference.max() <= 1  # noise drawn in every step is the same everywhere
            assert (difference > 0).mean() < 0.02
            np.testing.assert_allclose(results["loss"], expected["loss"], atol=1e-5)
            assert results["steps"] == expected["steps"] == 1
            assert np.isfinite(results["training_loss"])


if __name__ == "__main__":
    write_and_use(pathlib.Path(sys.argv[1]), sys.argv[2:])
