"""The examples run as they stand on a data set like ImageNet: photos of 500x375 pixels in TFDS' form and as folders."""

import io
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.data.conftest import encoded, photo
from tests.examples.conftest import EXAMPLES

pytestmark = [pytest.mark.system, pytest.mark.docs, pytest.mark.slow]
SMALL = ("--dtype", "float32", "--batch-size", "4", "--epochs", "2", "--picture-epochs", "2")


@pytest.fixture(scope="module")
def photos():
    return [encoded(photo(375, 500, seed)) for seed in range(8)]


@pytest.fixture(scope="module")
def folders(photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("imagenet")
    for i, content in enumerate(photos):
        for part in ("train", "val"):
            path = folder / part / f"n{i % 2:08}" / f"{i}.JPEG"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    return folder


def assert_complete(output, *pictures):
    """A finished run leaves its model, losses and pictures."""
    names = {str(path.relative_to(output)) for path in output.rglob("*") if path.is_file()}
    pictures = {f"pictures/{name}_0000004.png" for name in pictures}
    expected = {"model.keras", "history.csv", "evaluations.jsonl", "progress.png", *pictures}
    assert expected <= names
    assert any(name.startswith("tensorboard") for name in names)
    assert len((output / "history.csv").read_text().splitlines()) == 3


@pytest.mark.parametrize("more", [(), ("--on-device",)])
def test_pretraining_on_folders(more, folders, run_example, tmp_path):
    arguments = ("--data", folders, "--preset", "umd_tiny_patch16_64", "--output", "run", *SMALL, *more)
    output = run_example("pretrain_imagenet64.py", *arguments)
    assert "8 images to train, 8 to validate, 2 steps an epoch" in output
    assert_complete(tmp_path / "run", "reconstructions", "samples")


def test_a_killed_pretraining_goes_on(folders, run_example, tmp_path):
    arguments = ("--data", folders, "--preset", "umd_tiny_patch16_64", "--output", "run", "--backup-steps", 1, *SMALL)
    command = [sys.executable, str(EXAMPLES / "pretrain_imagenet64.py"), *map(str, arguments)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    killed = subprocess.Popen(command, cwd=tmp_path, env=os.environ, **quiet)
    checkpoint = tmp_path / "run" / "checkpoints" / "000000001"
    while not checkpoint.exists():
        assert killed.poll() is None
        time.sleep(0.01)
    killed.kill()
    killed.wait()
    run_example("pretrain_imagenet64.py", *arguments)
    assert_complete(tmp_path / "run", "reconstructions", "samples")


def test_pretraining_on_a_data_set_of_tfds(photos, run_example, tmp_path):
    tfds = pytest.importorskip("tensorflow_datasets")
    builder = tfds.builder("imagenet2012", data_dir=str(tmp_path / "tfds"))

    def generate(count):
        for i, content in enumerate(photos[:count]):
            yield f"{i}.JPEG", {"image": io.BytesIO(content), "label": i, "file_name": f"{i}.JPEG"}

    builder._split_generators = lambda *_: {"train": generate(8), "validation": generate(4)}
    builder.download_and_prepare()
    arguments = ("--data", "imagenet2012", "--data-dir", "tfds", "--preset", "umd_tiny_patch16_64", "--output", "run")
    output = run_example("pretrain_imagenet64.py", *arguments, *SMALL)
    assert "8 images to train, 4 to validate, 2 steps an epoch" in output
    assert_complete(tmp_path / "run", "reconstructions", "samples")


def test_latents_are_cached_and_trained_on(folders, run_example, tmp_path):
    pytest.importorskip("keras_cv")
    size = ("--image-size", 64, "--batch-size", 4, "--random-weights")
    for _ in range(2):  # the second finds all done
        output = run_example("cache_latents.py", "--data", folders / "train", "--output", "cache", *size)
        assert "8 images of 2 classes" in output
    (latents,) = (np.load(path) for path in (tmp_path / "cache").glob("*moments.npy"))
    assert latents.shape == (8, 2, 8, 8, 8)
    arguments = ("--latents", "cache", "--preset", "umd_tiny_patch2_latent32", "--random-weights", "--output", "run")
    output = run_example("pretrain_latents.py", *arguments, *SMALL)
    assert "8 images, 2 steps an epoch, latents of shape (8, 8, 4)" in output
    assert_complete(tmp_path / "run", "samples")
