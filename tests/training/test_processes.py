"""Two processes train one model, whose weights are spread over them. On JAX."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import keras
import numpy as np
import pytest

from tests.conftest import array

marks = pytest.mark
pytestmark = [marks.system, marks.devices, marks.backends("jax"), marks.slow]  # Keras' processes are JAX'


def run(folder, part):
    """Both processes; returns what they print, and their exit codes."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    environment = {**os.environ, "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=2"}
    command = [sys.executable, "-m", "tests.training.in_two_processes", address]
    root = pathlib.Path(__file__).parents[2]
    processes = [
        subprocess.Popen([*command, str(i), folder, part], env=environment, cwd=root, text=True, stdout=subprocess.PIPE)
        for i in range(2)
    ]
    try:
        printed = [process.communicate(timeout=300)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return printed, [process.returncode for process in processes]


def test_two_processes_are_killed_and_go_on_exactly(tmp_path):
    """One test for all, else the workers of xdist would each run the processes."""
    pytest.importorskip("orbax.checkpoint")
    assert run(tmp_path, "start")[1] == [1, 1]
    assert [path.name for path in (tmp_path / "killed" / "checkpoints").glob("*/*.orbax")] == ["state.orbax"] * 2
    printed, codes = run(tmp_path, "resume")
    assert codes == [0, 0]
    assert_the_ends_are_equal(tmp_path)
    assert_one_writes_and_speaks(tmp_path, printed)
    assert_one_writes_the_results(tmp_path)
    assert_one_saves_the_picture(tmp_path)
    assert_one_writes_the_samples(tmp_path)


def assert_the_ends_are_equal(folder):
    resumed, whole = (keras.models.load_model(folder / name / "model.keras") for name in ("killed", "whole"))
    states = ([*model.variables, *model.optimizer.variables] for model in (resumed, whole))
    for value, expected in zip(*states, strict=True):
        np.testing.assert_array_equal(array(value), array(expected))
    assert int(array(resumed.optimizer.iterations)) == 9


def assert_one_writes_and_speaks(folder, printed):
    assert "Epoch 3/3" in printed[0]
    assert "Epoch" not in printed[1]
    assert len((folder / "whole" / "history.csv").read_text().splitlines()) == 4


def assert_one_writes_the_results(folder):
    ranks = []
    for name in ("whole", "killed"):
        lines = (folder / name / "evaluations.jsonl").read_text().splitlines()
        ranks.append([line["values"]["RankMe"] for line in map(json.loads, lines) if "RankMe" in line["values"]])
    assert ranks[0][-1] == ranks[1][-1] > 1


def assert_one_saves_the_picture(folder):
    for name in ("whole", "killed"):
        assert (folder / name / "progress.png").exists()
    pictures = [(folder / name / "pictures" / "sample_0000009.png").read_bytes() for name in ("whole", "killed")]
    assert pictures[0] == pictures[1]


def assert_one_writes_the_samples(folder):
    paths = (folder / name / "samples" / "samples_3x8x8x1.npz" for name in ("whole", "killed"))
    whole, killed = (np.load(path)["arr_0"] for path in paths)
    np.testing.assert_array_equal(whole, killed)
    assert len(whole) == 3
