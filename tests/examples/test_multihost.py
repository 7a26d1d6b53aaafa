"""Examples for several processes, as two on this machine."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import pytest

from keras_umd.models import presets
from tests.conftest import array, assert_close
from tests.data.conftest import encoded, photo

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"
# The tiny presets get a size that compiles in seconds, and nobody imports TensorFlow.
TINY = {"hidden_dim": 16, "num_layers": 2, "decoder_layers": 1, "num_heads": 2}
SMALLER = f"""
import runpy, sys
sys.modules["tensorflow"] = None
from keras_umd.models import presets
presets.SIZES["tiny"] = {TINY}
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
    """The outputs of both."""
    try:
        finished = [process.communicate(timeout=300) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], finished
    return [printed for printed, _ in finished]


def files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
@pytest.mark.devices
@pytest.mark.system
@pytest.mark.backends("jax")  # Keras' processes are JAX'
def test_two_hosts_train_and_go_on_after_a_kill(folders, tmp_path):
    environment = {
        "KERAS_DISTRIBUTION_JOB_ADDRESSES": "localhost:{port}",
        "KERAS_DISTRIBUTION_NUM_PROCESSES": "2",
        "KERAS_DISTRIBUTION_PROCESS_ID": "{rank}",
        "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=2",
    }
    arguments = ("--multihost", "--data", folders, "--preset", "maskdit_tiny_patch8_32", "--dtype", "float32")
    arguments += ("--batch-size", 4, "--epochs", 2, "--backup-steps", 1, "--output", "run")
    killed = start("pretrain_multihost.py", tmp_path, environment, *arguments)
    while not (tmp_path / "run" / "checkpoints" / "000000001").exists():
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
    assert len((tmp_path / "run" / "history.csv").read_text().splitlines()) == 3


def trained_by_one(folder, epochs, monkeypatch):
    """The model that examples/pretrain_torch_ddp.py must train, computed by one process for both."""
    import keras

    from keras_umd import UMD, data, recipes

    monkeypatch.setitem(presets.SIZES, "tiny", TINY)
    monkeypatch.setitem(sys.modules, "tensorflow", None)  # which would crop a little differently
    keras.utils.set_random_seed(0)
    model = UMD.from_preset("umd_tiny_patch8_32", dtype="float32")
    options = {"image_size": 32, "batch_size": 2, "labels": False, "num_shards": 2}
    shares = [data.from_folder(folder, shard_index=rank, **options) for rank in range(2)]
    model.compile(recipes.pretraining_optimizer(epochs * len(shares[0]), batch_size=4))
    for epoch in range(epochs):
        seeds = [keras.random.SeedGenerator(2 * epoch + rank) for rank in range(2)]
        for batches in zip(*shares, strict=True):
            for images, seed in zip(batches, seeds, strict=True):
                x, y = model.make_views(images, seed=seed)
                (model.compute_loss(x, y, model(x)) / 2).backward()
            model.optimizer.apply([v.value.grad for v in model.trainable_variables], model.trainable_variables)
            model.zero_grad()
    return model


@pytest.mark.slow
@pytest.mark.devices
@pytest.mark.system
def test_distributed_data_parallel_is_one_process_with_the_whole_batch(folders, tmp_path, monkeypatch):
    import keras

    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--no-python"]
    command += [sys.executable, "-c", SMALLER, EXAMPLES / "pretrain_torch_ddp.py", "--data", folders / "train"]
    command += [
        "--preset",
        "umd_tiny_patch8_32",
        "--dtype",
        "float32",
        "--batch-size",
        "4",
        "--output",
        tmp_path / "run",
    ]
    finished = subprocess.run([*command, "--epochs", "3"], capture_output=True, text=True, timeout=300)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.count("epoch 3/3") == 1
    model = keras.models.load_model(tmp_path / "run" / "model.keras")
    expected = trained_by_one(folders / "train", 3, monkeypatch)
    for variable, other in zip(model.optimizer.variables, expected.optimizer.variables, strict=True):
        if "key_bias" not in variable.path:  # its gradient is rounding alone
            assert_close(variable, array(other), 1e-4)
    again = subprocess.run([*command, "--epochs", "4"], capture_output=True, text=True, timeout=300)
    assert [line for line in again.stdout.splitlines() if line.startswith("epoch")][0].startswith("epoch 4/4")
