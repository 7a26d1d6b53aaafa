"""The command that measures a device runs to its end, whatever one of its parts does."""

import json
import math
import os
import pathlib
import subprocess
import sys
import time

import numpy as np
import pytest

from keras_umd import Corruption
from keras_umd.planning.network import views_of

BENCHMARKS = pathlib.Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def device(monkeypatch):
    """The package of the parts, which don't import Keras until they run."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    from device import kernels, runner, tables, wheels

    return {"kernels": kernels, "runner": runner, "tables": tables, "wheels": wheels}


def measure(folder, backend, parts=None):
    command = [sys.executable, BENCHMARKS / "on_device.py", folder, "--tiny", *(["--parts", parts] if parts else [])]
    subprocess.run(command, check=True, env={**os.environ, "KERAS_BACKEND": backend}, capture_output=True)
    return json.loads((folder / "results.json").read_text())["parts"]


@pytest.mark.system
@pytest.mark.slow
def test_it_runs_complete_and_names_what_it_leaves_out(tmp_path):
    parts = measure(tmp_path, "torch")
    left_out = {name for name, outcome in parts.items() if outcome["status"] != "done"}
    assert {parts[name]["status"] for name in left_out} <= {"left out"}, parts
    variants = {f"umd_base_scan_{name}" for name in ("no_flash", "pack", "resident_many")}  # not on every backend
    assert left_out <= {"profile", "plain_flax", *variants}
    assert all(parts[name]["reason"] for name in left_out)
    done = {name: parts[name]["result"] for name in parts.keys() - left_out}
    for name in ("umd_base", "dit_base", "mae_base", "umd_large", "umd_base_resident"):
        row = done[name]
        np.testing.assert_allclose(row["flops_per_second"] * row["seconds"], row["flops"])
    assert done["umd_base"]["ceilings"][0] < done["umd_base"]["ceilings"][1] < 1
    assert done["parity"]["full"]["loss"] < 2e-5 and done["parity"]["full"]["gradients"] < 2e-5
    assert done["parity"]["full"]["features"] < 2e-5 and done["parity"]["full"]["levels"] <= 1
    tables = (tmp_path / "tables.md").read_text()
    for words in ("bfloat16 products", "plain_torch", "umd_base_scan", "equal pixels", "the profile is JAX's"):
        assert words in tables


@pytest.mark.host
def test_the_plain_network_is_the_same(device, small_model):
    """Every matrix has its counterpart; the head has a bias for each number of a patch instead of each channel."""
    from device import models, plain_torch, sizes

    plain = plain_torch.Network(sizes.SIZES["tiny"])
    ours = small_model(**models.TINY)
    counts = sum(math.prod(variable.shape) for variable in ours.trainable_variables)
    assert sum(parameter.numel() for parameter in plain.parameters()) == counts + 2 * (12 - 3)
    for method, corruption in (("umd", Corruption.umd()), ("dit", Corruption.dit())):
        views = views_of(small_model(**models.TINY, corruption=corruption), 8)
        assert sizes.views(method, sizes.SIZES["tiny"], 8) == [(view.num_images, view.visible) for view in views]


@pytest.mark.system
@pytest.mark.slow
def test_on_jax_it_names_the_kernels_of_a_step(tmp_path):
    parts = measure(tmp_path, "jax", "profile")
    assert parts["profile"]["status"] == "done", parts
    found = parts["profile"]["result"]
    assert len(found["kernels"]) == 10 and found["kernels"][0]["seconds"] >= found["kernels"][-1]["seconds"] > 0
    assert sum(row["share"] for row in found["kernels"]) <= 1
    assert (tmp_path / "profile.json.gz").stat().st_size > 1000


WORKER = """
import os, sys, time

parts, exchange = sys.argv[-1].split(","), sys.argv[-3]
for name in parts:
    print("begins", name, flush=True)
    if name == "hangs":
        time.sleep(60)
    if name == "dies":
        os.kill(os.getpid(), 9)
    with open(os.path.join(exchange, f"{name}.json.new"), "w") as file:
        file.write('{"status": "done", "result": {}, "seconds": 0.0}')
    os.replace(os.path.join(exchange, f"{name}.json.new"), os.path.join(exchange, f"{name}.json"))
"""


@pytest.mark.host
@pytest.mark.parametrize("together", [False, True])
def test_what_hangs_or_dies_costs_its_own_result_alone(device, tmp_path, together):
    runner, outcomes = device["runner"], {}
    command = [sys.executable, "-c", WORKER]
    seconds = {"first": 60, "hangs": 1, "second": 60, "dies": 60, "third": 60}
    parts = [runner.Part(name, "", limit) for name, limit in seconds.items()]
    parts.insert(1, runner.Part("lacks", "", 60, needs=("no_such_package",)))
    start = time.monotonic()
    runner.Runner(command, outcomes.__setitem__, tmp_path / "log.txt", 8, together).run(parts)
    assert time.monotonic() - start < 40
    assert {name: outcome["status"] for name, outcome in outcomes.items()} == {
        "lacks": "left out",
        "first": "done",
        "hangs": "too late",
        "second": "done",
        "dies": "died",
        "third": "done",
    }
    assert outcomes["lacks"]["reason"] == "not installed: no_such_package"
    assert "exit status -9" in outcomes["dies"]["reason"] and "begins dies" in outcomes["dies"]["reason"]


@pytest.mark.host
def test_without_time_nothing_is_begun(device, tmp_path):
    runner, outcomes = device["runner"], {}
    runner.Runner(["no such command"], outcomes.__setitem__, tmp_path / "log.txt", 0.1).run([runner.Part("a", "", 60)])
    assert outcomes == {"a": {"status": "left out", "reason": "no time left of 0.1 minutes"}}


def event(pid, tid, name, duration, **args):
    return {"ph": "X", "pid": pid, "tid": tid, "name": name, "dur": duration, "ts": 0, "args": args}


def named(pid, process, **threads):
    yield {"ph": "M", "pid": pid, "name": "process_name", "args": {"name": process}}
    for tid, thread in threads.items():
        yield {"ph": "M", "pid": pid, "tid": int(tid[1:]), "name": "thread_name", "args": {"name": thread}}


@pytest.mark.host
def test_of_an_accelerator_its_streams_count_and_not_what_sums_them_up(device):
    kernels = device["kernels"].kernels
    on_gpu = [
        *named(1, "/device:GPU:0", t1="Stream #7(Compute)", t2="XLA Modules", t3="Stream #8(MemcpyH2D)"),
        *named(2, "/host:CPU", t1="python"),
        event(1, 1, "gemm", 30.0),
        event(1, 1, "gemm", 10.0),
        event(1, 3, "MemcpyH2D", 5.0),
        event(1, 2, "jit_step", 100.0),
        event(2, 1, "PjitFunction", 500.0, hlo_op="none"),
    ]
    assert kernels(on_gpu) == {"gemm": (pytest.approx(4e-5), 2.0), "MemcpyH2D": (pytest.approx(5e-6), 1.0)}
    on_cpu = [*named(2, "/host:CPU", t1="worker"), event(2, 1, "dot.1", 7.0, hlo_op="dot.1"), event(2, 1, "wait", 9.0)]
    assert kernels(on_cpu) == {"dot.1": (pytest.approx(7e-6), 1.0)}
    assert kernels([]) == {}


@pytest.mark.host
def test_wheels_never_replace_what_the_machine_has(device, tmp_path, monkeypatch):
    wheels = device["wheels"]
    installed = {"jax": "0.5.0", "torch": "2.6.0", "keras": "3.9.0", "numpy": "2.4.6"}

    def version(name):
        if name not in installed:
            raise wheels.importlib.metadata.PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(wheels.importlib.metadata, "version", version)
    for name in ("jax-0.10.2", "torch-2.13.0+cpu", "keras-3.15.1", "opt_einsum-3.4.0", "numpy-2.4.6"):
        (tmp_path / f"{name}-py3-none-any.whl").touch()
    assert wheels.missing(tmp_path) == ["keras", "opt-einsum"]
    installed["keras"] = "3.16.0"
    assert wheels.missing(tmp_path) == ["opt-einsum"]
