"""Loss curves of before, for each backend (`golden_runs.py` records them)."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from tests.faults import IN_FULL
from tests.faults.golden_runs import PATH

pytestmark = [pytest.mark.system, pytest.mark.slow]
PRINT = "import json; from tests.faults import golden_runs; print(json.dumps(golden_runs.{}()))"
trained = pytest.mark.skipif(not IN_FULL, reason="`make faults` trains them")
on_each_backend = pytest.mark.parametrize("backend", ["jax", "tensorflow", "torch"])


def run(function, backend):
    """What a function of golden_runs.py returns, in a process with this backend."""
    environment = {**os.environ, "KERAS_BACKEND": backend}
    root = pathlib.Path(__file__).parents[2]
    command = [sys.executable, "-c", PRINT.format(function)]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


@trained
@on_each_backend
def test_losses_are_those_of_before(backend):
    recorded, found = json.loads(PATH.read_text())[backend], run("curves", backend)
    np.testing.assert_allclose(found["sgd"], recorded["sgd"], rtol=1e-4)
    assert abs(found["adamw_last_50"] / recorded["adamw_last_50"] - 1) < 0.02


@trained
@on_each_backend
def test_bfloat16_ends_at_the_loss_of_float32(backend):
    ends = run("precisions", backend)
    assert abs(ends["mixed_bfloat16"] / ends["float32"] - 1) < 0.02


def test_the_recorded_losses_fall():
    recorded = json.loads(PATH.read_text())
    assert recorded.keys() == {"jax", "tensorflow", "torch"}  # whose random numbers differ
    for curve in recorded.values():
        assert np.mean(curve["sgd"][-10:]) < 0.95 * np.mean(curve["sgd"][:10])
        assert curve["adamw_last_50"] < 0.5 * curve["sgd"][0]
