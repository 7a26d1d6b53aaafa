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

pytestmark = [pytest.mark.system, pytest.mark.backends("jax"), pytest.mark.slow]  # Keras' processes are JAX'


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


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with a run that was never stopped and one that was killed and went on, and what that printed."""
    pytest.importorskip("orbax.checkpoint")
    folder = tmp_path_factory.mktemp("runs")
    assert run(folder, "start")[1] == [1, 1]
    assert [path.name for path in (folder / "killed" / "checkpoints").glob("*/*.orbax")] == ["state.orbax"] * 2
    printed, codes = run(folder, "resume")
    assert codes == [0, 0]
    return folder, printed


def test_a_killed_run_goes_on_exactly(runs):
    resumed, whole = (keras.models.load_model(runs[0] / name / "model.keras") for name in ("killed", "whole"))
    states = ([*model.variables, *model.optimizer.variables] for model in (resumed, whole))
    for value, expected in zip(*states, strict=True):
        np.testing.assert_array_equal(array(value), array(expected))
    assert int(array(resumed.optimizer.iterations)) == 9


def test_one_process_writes_and_speaks(runs):
    folder, printed = runs
    assert "Epoch 3/3" in printed[0]
    assert "Epoch" not in printed[1]
    assert len((folder / "whole" / "history.csv").read_text().splitlines()) == 4


def test_both_evaluate_and_one_writes_the_results(runs):
    ranks = []
    for name in ("whole", "killed"):
        lines = (runs[0] / name / "evaluations.jsonl").read_text().splitlines()
        ranks.append([line["values"]["RankMe"] for line in map(json.loads, lines) if "RankMe" in line["values"]])
    assert ranks[0][-1] == ranks[1][-1] > 1


def test_both_draw_and_one_saves_the_picture(runs):
    for name in ("whole", "killed"):
        assert (runs[0] / name / "progress.png").exists()
    pictures = [(runs[0] / name / "pictures" / "sample_0000009.png").read_bytes() for name in ("whole", "killed")]
    assert pictures[0] == pictures[1]


def test_both_generate_and_one_writes_the_samples(runs):
    paths = (runs[0] / name / "samples" / "samples_3x8x8x1.npz" for name in ("whole", "killed"))
    whole, killed = (np.load(path)["arr_0"] for path in paths)
    np.testing.assert_array_equal(whole, killed)
    assert len(whole) == 3
