"""The demo runs as a user runs it, in a few steps, on every kind of data that it names."""

import gzip

import numpy as np
import pytest

pytestmark = pytest.mark.system
FITTING_PATCHES = pytest.mark.filterwarnings("error:A patch has")
PICTURES = ("reconstructions.png", "samples.png", "from_noise.png", "completed.png")


@pytest.fixture
def run(run_example, tmp_path):
    def run(*arguments):
        printed = run_example("quickstart.py", "--pretraining-steps", "2", "--finetuning-steps", "2", *arguments)
        for name in (*PICTURES, "pretrained.keras", "finetuned.keras"):
            assert (tmp_path / "runs" / "quickstart" / name).stat().st_size > 0
        return printed

    return run


@pytest.mark.backends("jax", "torch")  # `make demo` takes JAX
@pytest.mark.slow
@FITTING_PATCHES
def test_digits(run):
    pytest.importorskip("sklearn")
    output = run()
    assert "digits: 1527 images to train, 270 to test, 10 classes" in output
    assert "10-shot accuracy, UMD, class token:" in output


def test_a_folder_of_idx_files(run, tmp_path):
    rng = np.random.default_rng(0)
    folder = tmp_path / "idx"
    folder.mkdir()
    for part, count in (("train", 200), ("t10k", 50)):
        images, labels = rng.integers(0, 256, (count, 28, 28)), np.arange(count) % 10
        for name, header, values in (("images-idx3", 16, images), ("labels-idx1", 8, labels)):
            with gzip.open(folder / f"{part}-{name}-ubyte.gz", "wb") as file:
                file.write(bytes(header) + values.astype("uint8").tobytes())
    assert "212 images to train, 38 to test, 10 classes" in run("--data", str(folder))


@FITTING_PATCHES
def test_a_folder_of_class_folders(run, tmp_path):
    image = pytest.importorskip("matplotlib.image")
    rng = np.random.default_rng(0)
    for name in ("cats", "dogs"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for i in range(65):
            image.imsave(tmp_path / "pets" / name / f"{i}.png", rng.integers(0, 256, (40, 50, 3)).astype("uint8"))
    assert "110 images to train, 20 to test, 2 classes" in run("--data", "pets")
