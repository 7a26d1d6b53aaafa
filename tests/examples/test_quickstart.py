"""The demo runs as a user runs it, in a few steps, on every kind of data that it names."""

import gzip

import numpy as np
import pytest

pytestmark = [pytest.mark.system, pytest.mark.docs]
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


def idx(values):
    """An idx file of bytes."""
    return bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">u4").tobytes() + values.astype("uint8").tobytes()


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
        for name, values in (("images-idx3", images), ("labels-idx1", labels)):
            with gzip.open(folder / f"{part}-{name}-ubyte.gz", "wb") as file:
                file.write(idx(values))
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


@FITTING_PATCHES
@pytest.mark.filterwarnings("ignore")
def test_a_folder_as_people_have_it(run, tmp_path):
    """A notebook's folder, a Mac's file, a damaged image, folders within classes."""
    image = pytest.importorskip("matplotlib.image")
    rng = np.random.default_rng(0)
    for place in ("cat", "cat/more", "dog", ".ipynb_checkpoints"):
        (tmp_path / "pets" / place).mkdir(parents=True, exist_ok=True)
        for i in range(24 if place == "dog" else 12):
            image.imsave(tmp_path / "pets" / place / f"{i}.png", rng.integers(0, 256, (40, 50, 3)).astype("uint8"))
    (tmp_path / "pets" / "cat" / "._0.png").write_bytes(b"junk")
    (tmp_path / "pets" / "cat" / "bad.png").write_bytes((tmp_path / "pets" / "cat" / "0.png").read_bytes()[:300])
    assert "40 images to train, 8 to test, 2 classes" in run("--data", "pets")


WRONG_FOLDERS = {
    "an empty class": (["cat/0.png", "dog/readme.txt"], "Every class must have images"),
    "only damaged images": (["cat/bad.png", "dog/bad.png"], "More than max_bad_share"),
    "nothing": ([], "must be a folder with images|a sub-folder for each class"),
    "one image": (["cat/0.png", "dog/0.png"], "too few images"),
}


@pytest.mark.parametrize("kind", WRONG_FOLDERS)
def test_a_folder_that_will_not_do_is_refused_before_the_training(kind, run_example, capsys, tmp_path):
    image = pytest.importorskip("matplotlib.image")
    paths, message = WRONG_FOLDERS[kind]
    (tmp_path / "pets").mkdir()
    for path in paths:
        (tmp_path / "pets" / path).parent.mkdir(exist_ok=True)
        (tmp_path / "pets" / path).write_bytes(b"bad")
        if "0.png" in path:
            image.imsave(tmp_path / "pets" / path, np.zeros((40, 50, 3), "uint8"))
    with pytest.raises(SystemExit, match=f"pets can't be read.*({message})|pets has {message}"):
        run_example("quickstart.py", "--data", "pets")
    assert "Pre-training" not in capsys.readouterr().out
