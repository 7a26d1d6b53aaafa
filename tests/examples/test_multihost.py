"""Examples for several processes, as two on this machine."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import pytest

from tests.data.conftest import encoded, photo

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"
BACKEND = os.environ["KERAS_BACKEND"]
# The tiny presets get a size that compiles in seconds, and nobody imports TensorFlow.
SMALLER = """
import runpy, sys
sys.modules["tensorflow"] = None
from keras_umd.models import presets
presets.SIZES["tiny"] = {"hidden_dim": 16, "num_layers": 2, "decoder_layers": 1, "num_heads": 2}
runpy.run_path(sys.argv.pop(1), run_name="__main__")
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for i in range(8):
        for part in ("train", "val"):
            path = folder / part / f"class{i % 2}" / f"{i}.JPEG"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encoded(photo(40, 50, seed=i)))
    return folder


def start(name, folder, environment, *arguments):
    """Two processes that run an example, as its first lines say."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, "-c", SMALLER, str(EXAMPLES / name), *map(str, arguments)]
    options = {"cwd": folder, "text": True, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    variables = [{key: value.format(port=port, rank=rank) for key, value in environment.items()} for rank in range(2)]
    return [subprocess.Popen(command, env={**os.environ, **own}, **options) for own in variables]


def finish(processes):
    """What both print."""
    try:
        finished = [process.communicate(timeout=300) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], finished
    return [printed for printed, _ in finished]


def files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.skipif(BACKEND != "jax", reason="Keras' processes are JAX'")
def test_two_hosts_train_and_go_on_after_a_kill(folders, tmp_path):
    environment = {
        "KERAS_DISTRIBUTION_JOB_ADDRESSES": "localhost:{port}",
        "KERAS_DISTRIBUTION_NUM_PROCESSES": "2",
        "KERAS_DISTRIBUTION_PROCESS_ID": "{rank}",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
    }
    arguments = ("--multihost", "--data", folders, "--preset", "maskdit_tiny_patch8_32", "--dtype", "float32")
    arguments += ("--batch-size", 4, "--epochs", 2, "--backup-steps", 1, "--output", "run")
    killed = start("pretrain_multihost.py", tmp_path, environment, *arguments)
    while not (tmp_path / "run" / "backup" / "state.json").exists():
        assert [process.poll() for process in killed] == [None, None]
        time.sleep(0.01)
    for process in killed:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    printed = finish(start("pretrain_multihost.py", tmp_path, environment, *arguments))
    assert "4 devices, 2 hosts, 2 steps" in printed[0]
    assert "Epoch" not in printed[1]
    left = files(tmp_path / "run")
    assert {"model.keras", "history.csv", "progress.png", "pictures/samples_0000004.png"} <= left
    assert not any(name.startswith("backup") for name in left)
    assert len((tmp_path / "run" / "history.csv").read_text().splitlines()) == 3
