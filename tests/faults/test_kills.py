"""SIGKILL at random moments, for each backend and source of data: the end is that of a run without, bit for bit."""

import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.faults import IN_FULL
from tests.faults.train import make_data

pytestmark = [pytest.mark.system, pytest.mark.slow]
ROOT = pathlib.Path(__file__).parents[2]
SAMPLE = [("torch", "folder")]  # on the backend of this process
CASES = [(backend, source) for backend in ("jax", "tensorflow", "torch") for source in ("folder", "tfrecords")]
CASES += [(backend, source) for backend in ("jax", "tensorflow", "torch") for source in ("arrays", "latents")]
KILLS = 5 if IN_FULL else 1  # of each case: 60 in all
SECONDS = 1.5  # that the training takes


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    make_data(folder, {source for _, source in (CASES if IN_FULL else SAMPLE)})
    return folder


def start(backend, source, folder, run):
    command = [sys.executable, "-m", "tests.faults.train", source, str(folder), str(run)]
    environment = {**os.environ, "KERAS_BACKEND": backend}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(*arguments):
    process = start(*arguments)
    errors = process.communicate()[1]
    assert process.returncode == 0, errors.decode()


@pytest.mark.parametrize("backend, source", CASES if IN_FULL else SAMPLE)
def test_a_killed_run_ends_as_one_that_was_not(backend, source, folder, tmp_path):
    finish(backend, source, folder, tmp_path / "whole")
    moments = random.Random(f"{backend} {source}")
    kills = 0
    for _ in range(3 * KILLS):
        process = start(backend, source, folder, tmp_path / "killed")
        begun = tmp_path / "killed.begun"
        begun.unlink(missing_ok=True)
        while not begun.exists() and process.poll() is None:
            time.sleep(0.002)
        time.sleep(moments.uniform(0, SECONDS / KILLS))
        if process.poll() is not None:
            break  # it came to its end before the kill
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += 1
        if kills == KILLS:
            break
    assert kills > 0
    finish(backend, source, folder, tmp_path / "killed")
    whole, killed = (np.load(tmp_path / name / "end.npz") for name in ("whole", "killed"))
    assert whole.files == killed.files
    for name in whole.files:
        np.testing.assert_array_equal(killed[name], whole[name], name)
    rows, expected = ((tmp_path / name / "history.csv").read_text().splitlines() for name in ("killed", "whole"))
    assert rows == expected and [row.split(",")[0] for row in rows] == ["epoch", "0", "1", "2"]
    print(f"{kills} kills")
