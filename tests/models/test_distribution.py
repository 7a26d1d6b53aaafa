"""Eight devices compute what one does, and tell each other no more than they must. On JAX; see test_fit.py, too."""

import json
import math
import os
import pathlib
import re
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_umd import UMD
from tests.models.on_eight_devices import WAYS

marks = pytest.mark
pytestmark = [marks.system, marks.devices, marks.backends("jax"), marks.slow]  # Keras distributes on JAX

COLLECTIVES = r" (all-reduce|all-gather|reduce-scatter|collective-permute|collective-broadcast|all-to-all)(?:-start)?\("


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """For each way to train its losses, its weights' shapes, and the kinds of its collectives."""
    folder = tmp_path_factory.mktemp("eight_devices")
    flags = (
        f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=8 "
        f"--xla_dump_to={folder} --xla_dump_hlo_module_re=jit_(train_step|many_steps|run)"
    )
    environment = {**os.environ, "XLA_FLAGS": flags}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)  # what isn't compiled isn't dumped
    command = [sys.executable, "-m", "tests.models.on_eight_devices", folder / "runs.json"]
    root = pathlib.Path(__file__).parents[2]
    finished = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    runs = json.loads((folder / "runs.json").read_text())
    programs = sorted(folder.glob("*jit_train_step*after_optimizations.txt"))[: len(WAYS)]  # behind them LoRA's
    for way, program in zip(WAYS, programs, strict=True):
        runs[way]["program"] = program.read_text()
        runs[way]["collectives"] = set(re.findall(COLLECTIVES, runs[way]["program"]))
    programs = sorted(folder.glob("*jit_many_steps*after_optimizations.txt"))
    for run, program in zip(runs["many steps"].values(), programs, strict=True):
        run["collectives"] = set(re.findall(COLLECTIVES, program.read_text()))
    runs["sampling"] = sorted(folder.glob("*jit_run*after_optimizations.txt"))[-1].read_text()
    return runs


@pytest.mark.parametrize("way", ["data", "rows", "fsdp", "tensor"])
def test_eight_devices_have_the_losses_of_one(runs, way):
    assert set(runs[way]["history"]) == set(runs["one device"]["history"])
    for name, losses in runs["one device"]["history"].items():
        np.testing.assert_allclose(runs[way]["history"][name], losses, rtol=1e-5)


def test_data_parallel_devices_add_up_gradients_and_nothing_else(runs):
    """Neither does the split into clean and noisy images move any, nor do random numbers come from elsewhere."""
    assert runs["data"]["collectives"] == {"all-reduce"}
    assert runs["rows"]["collectives"] == {"all-reduce"}
    assert not runs["one device"]["collectives"]


def test_fsdp_devices_exchange_weights_and_gradients_and_nothing_else(runs):
    assert runs["fsdp"]["collectives"] <= {"all-gather", "all-reduce", "reduce-scatter"}


def test_fsdp_devices_gather_each_weight_once_and_no_activations(runs):
    gathered = re.findall(r" = (.*?) all-gather(?:-start)?\(", runs["fsdp"]["program"])
    sizes = [json.loads(size) for shape in gathered for size in re.findall(r"f32(\[[\d,]*\])", shape)]
    network = ("condition_embedding", "encoder", "decoder")
    of_network = {path: sizes for path, sizes in runs["fsdp"]["shapes"].items() if path.split("/")[0] in network}
    assert sorted(sizes) == sorted(whole for whole, shard in of_network.values() if whole != shard)


@pytest.mark.parametrize(("way", "images", "heads"), [("data", 1, 2), ("tensor", 2, 1)])
def test_a_kernel_of_tpus_runs_on_its_devices_own_images_and_heads(runs, way, images, heads):
    one, eight = runs["splash"]["one device"], runs["splash"][way]
    np.testing.assert_allclose(eight["loss"], one["loss"], rtol=1e-5)
    for actual, expected in zip(eight["gradients"], one["gradients"], strict=True):
        np.testing.assert_allclose(actual, expected, atol=1e-5)
    assert set(re.findall(COLLECTIVES, eight["program"])) == {"all-reduce"}  # the sum that is the loss
    rows = set(re.findall(r"f32\[(\d+),(\d+),128,8\]", eight["program"]))
    assert max(rows) == (str(images), str(heads))


def test_many_steps_in_one_program_are_distributed_as_single_ones(runs):
    many = runs["many steps"]
    for way in ("data", "fsdp"):
        for name, losses in many["one device"]["history"].items():
            np.testing.assert_allclose(many[way]["history"][name], losses, rtol=1e-5)
        both = many[way]["shapes"].keys() & runs[way]["shapes"].keys()
        assert len(both) > 40 and all(many[way]["shapes"][path] == runs[way]["shapes"][path] for path in both)
        assert many[way]["collectives"] <= runs[way]["collectives"]


def test_fsdp_devices_sample_as_one_and_gather_the_weights_once(runs):
    one, eight = (np.array(runs["samples"][way]) for way in ("one device", "fsdp"))
    np.testing.assert_allclose(eight, one, atol=1)  # of 255
    assert "all-gather" in runs["sampling"]
    loops = re.findall(r" while\(.*body=%([\w.\-]+)", runs["sampling"])
    assert loops
    for name in loops:
        body = re.search(rf"^%{re.escape(name)} .*?^}}", runs["sampling"], re.MULTILINE | re.DOTALL)[0]
        assert not re.findall(COLLECTIVES, body)


def test_fsdp_spreads_all_large_weights_with_their_moments_and_averages(runs):
    shapes = runs["fsdp"]["shapes"]
    large = {path for path, (shape, _) in shapes.items() if len(shape) == 2 and math.prod(shape) >= 256}
    large -= {path for path in large if "positions" in path}
    for path in large:
        shape, shard = shapes[path]
        assert math.prod(shape) == 8 * math.prod(shard), path
    parts = {path.split("/")[0] for path in large}
    assert parts == {"condition_embedding", "encoder", "decoder", "weight_average", "adam_w"}


@pytest.mark.parametrize(("kind", "way"), [("lora", "fsdp"), ("int8", "fsdp"), ("int8", "tensor")])
def test_adapted_models_are_sharded_and_give_what_one_device_does(runs, kind, way):
    one, eight = runs[kind]["one device"], runs[kind][way]
    for name, losses in one.get("history", {}).items():
        np.testing.assert_allclose(eight["history"][name], losses, rtol=1e-5)
    for samples in ("samples", "of the file"):
        difference = np.abs(np.subtract(eight[samples], one["samples"]))
        assert difference.max() <= 1 or (kind == "int8" and difference.mean() < 0.1)  # where it rounds otherwise
    query = "encoder/block_0/attention/query/"
    added = ["lora_kernel_a", "lora_kernel_b"] if kind == "lora" else []
    devices = 8 if way == "fsdp" else 2
    for name in ["kernel", *added]:
        shape, shard = eight["shapes"][query + name]
        assert math.prod(shape) == devices * math.prod(shard), name
    if kind == "lora":
        averages = [s for path, s in eight["shapes"].items() if "weight_average" in path and "lora" in path]
        assert len(averages) > 10
        assert all((math.prod(shape) >= 256) == (shape != shard) for shape, shard in averages)


def test_fsdp_spreads_todays_layers_by_columns_and_the_head_by_rows(runs):
    shapes = runs["fsdp"]["shapes"]
    assert shapes["encoder/block_0/attention/output_projection/kernel"] == [[16, 16], [16, 2]]
    assert shapes["encoder/block_0/mlp_output/kernel"] == [[64, 16], [64, 2]]
    assert shapes["decoder/head/projection/kernel"] == [[16, 8], [2, 8]]
    for whole in ("patch_embedding/projection/kernel", "position_embedding/positions", "cls_tokens"):
        shape, shard = shapes[f"encoder/{whole}"]
        assert shard == shape, whole


def test_fsdp_spreads_layers_that_it_has_no_name_for(runs):
    shapes = runs["layers of a user"]
    assert shapes == {"of_64": [[16, 64], [16, 8]], "of_20": [[64, 20], [8, 20]], "of_8": [[20, 8], [20, 8]]}


def test_tensor_parallel_blocks_meet_twice_and_only_to_add_up(runs):
    assert runs["tensor"]["collectives"] == {"all-reduce"}
    shapes = runs["tensor"]["shapes"]
    assert shapes["encoder/block_0/attention/query/kernel"] == [[16, 16], [16, 8]]
    assert shapes["encoder/block_0/attention/output_projection/kernel"] == [[16, 16], [8, 16]]
    assert shapes["encoder/block_0/mlp_hidden/bias"] == [[64], [32]]


def test_weights_that_the_devices_cannot_divide_stay_whole(runs):
    shapes = runs["uneven"]["shapes"]
    assert shapes["encoder/block_0/attention/query/kernel"] == [[20, 20], [20, 20]]
    assert shapes["encoder/block_0/mlp_hidden/kernel"] == [[20, 80], [20, 10]]


def test_a_mesh_has_one_axis_or_two():
    mesh = keras.distribution.DeviceMesh((1, 1, 1), ["batch", "model", "more"])
    with pytest.raises(ValueError, match="one axis, or two. Received: mesh=<DeviceMesh"):
        UMD.layout_map(mesh)


def test_a_batch_that_the_devices_cannot_share_is_refused(runs):
    own_share, error = runs["shares"]
    assert own_share == {"batch_size": 16, "shard_index": 0, "num_shards": 1}
    assert error.startswith("`batch_size` must be divisible by 8") and error.endswith("Received: batch_size=12")
