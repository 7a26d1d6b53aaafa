"""Torn, zeroed and flipped files of a run: none is loaded silently, and each error names the file."""

import pathlib
import random
import shutil
import warnings

import keras
import numpy as np
import pytest

from keras_umd.training.checkpoints import Checkpoints
from keras_umd.training.run_directory import RunDirectory
from keras_umd.utils.atomic import DamagedFileError
from tests.faults import IN_FULL
from tests.faults.train import make_data, train

pytestmark = [pytest.mark.host, pytest.mark.slow]
DAMAGES = 60 if IN_FULL else 6  # of each file


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    make_data(folder / "data")
    train("arrays", folder / "data", str(folder / "run"), epochs=1)
    return folder / "run"


def damaged(content, rng):
    """Contents that are torn, zeroed in a range, or have a flipped bit."""
    kind = rng.choice(["torn", "zeroed", "flipped"])
    place = rng.randrange(len(content))
    if kind == "torn":
        return content[:place]
    if kind == "zeroed":
        length = min(rng.randrange(1, 512), len(content) - place)
        return content[:place] + bytes(length) + content[place + length :]
    return content[:place] + bytes([content[place] ^ (1 << rng.randrange(8))]) + content[place + 1 :]


@pytest.mark.parametrize("name", ["state.npz", "place.json", "manifest.json"])
def test_a_damaged_checkpoint_is_never_taken(name, run, tmp_path):
    rng = random.Random(name)
    newest = max(int(path.name) for path in (run / "checkpoints").iterdir())
    for number in range(DAMAGES):
        copy = tmp_path / str(number)
        shutil.copytree(run / "checkpoints", copy)
        path = copy / f"{newest:09}" / name
        content = path.read_bytes()
        path.write_bytes(other := damaged(content, rng))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            taken, _ = Checkpoints(str(copy), keep=3).newest()
        if other != content and not _says_the_same(name, other, content):
            assert taken == newest - 1
            assert f"{newest:09}" in str(caught[0].message) and f"{taken:09} is whole" in str(caught[0].message)
        shutil.rmtree(copy)


def _says_the_same(name, damaged, whole):
    """JSON whose white space alone was hit."""
    return name.endswith(".json") and b"".join(damaged.split()) == b"".join(whole.split())


def test_a_damaged_run_file_is_an_error_that_names_it(run, tmp_path):
    rng = random.Random(0)
    content = (run / "run.json").read_bytes()
    for _ in range(DAMAGES):
        other = damaged(content, rng)
        if other == content or _says_the_same("run.json", other, content):
            continue
        (tmp_path / "run.json").write_bytes(other)
        with pytest.raises(DamagedFileError, match=r"run\.json.*resume='force'"):
            RunDirectory(str(tmp_path)).open({}, resume="force")


def test_a_damaged_model_file_is_an_error_or_holds_what_was_saved(run, tmp_path):
    rng = random.Random(0)
    content = pathlib.Path(run / "model.keras").read_bytes()
    expected = keras.models.load_model(run / "model.keras").get_weights()
    silent = 0
    for number in range(DAMAGES):
        path = tmp_path / f"{number}.keras"
        path.write_bytes(damaged(content, rng))
        try:
            loaded = keras.models.load_model(path).get_weights()
        except Exception:  # Keras' and Python's own, of many kinds
            continue
        silent += 1  # a bit that nobody reads, such as the time in the archive
        for value, right in zip(loaded, expected, strict=True):
            np.testing.assert_array_equal(value, right)
    assert silent < DAMAGES / 2
