"""A disk that is full, after any number of bytes: an exception, never a crash, and the last checkpoint is whole."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from keras_umd.training.checkpoints import Checkpoints
from tests.faults import IN_FULL
from tests.faults.train import make_data, train

pytestmark = [pytest.mark.system, pytest.mark.slow]
ROOT = pathlib.Path(__file__).parents[2]
SCRIPT = """
import sys
import tests.lean
from tests.faults.train import train
data, run, limit, kind = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
if kind == "injected":  # the limit of a file's size: every writer gets an error, those in C too
    import resource, signal
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    train("arrays", data, run)
except OSError as error:
    print("OSError", error)
    sys.exit(3)
"""


def train_until_full(data, run, limit, kind):
    command = [sys.executable, "-c", SCRIPT, str(data), str(run), str(limit), kind]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "KERAS_BACKEND": "torch"}
    )
    assert done.returncode in (0, 3), done.stderr  # no signal, nothing else
    return done.returncode


def assert_whole(run, data, expected):
    folder = Checkpoints(str(run / "checkpoints"), keep=3)
    if folder.numbers():
        assert folder.newest()[0] == folder.numbers()[-1]
    for value, right in zip(train("arrays", data, str(run)).get_weights(), expected, strict=True):
        np.testing.assert_array_equal(value, right)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    make_data(folder, ["arrays"])
    return folder, train("arrays", folder, str(folder / "whole")).get_weights()


@pytest.mark.parametrize("limit", [1, 1000, 5000, 20_000, 60_000, 100_000, 150_000] if IN_FULL else [60_000])
def test_a_write_that_fails_is_an_error(limit, data, tmp_path):
    folder, expected = data
    assert train_until_full(folder, tmp_path / "run", limit, "injected") == 3
    assert_whole(tmp_path / "run", folder, expected)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
@pytest.mark.parametrize("kilobytes", [64, 200, 400, 600, 800, 1000, 1400] if IN_FULL else [400])
def test_a_full_disk_is_an_error(kilobytes, data, tmp_path):
    folder, expected = data
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(disk)])
    if mounted.returncode:
        pytest.skip("this root may not mount")
    try:
        train_until_full(folder, disk / "run", 0, "mounted")
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        assert_whole(disk / "run", folder, expected)
    finally:
        subprocess.run(["umount", str(disk)], check=True)
