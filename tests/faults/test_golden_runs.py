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
PRINT = "import json; from tests.faults.golden_runs import curves; print(json.dumps(curves()))"


@pytest.mark.skipif(not IN_FULL, reason="`make faults` trains them")
@pytest.mark.parametrize("backend", ["jax", "tensorflow", "torch"])
def test_losses_are_those_of_before(backend):
    recorded = json.loads(PATH.read_text())[backend]
    environment = {**os.environ, "KERAS_BACKEND": backend}
    root = pathlib.Path(__file__).parents[2]
    command = [sys.executable, "-c", PRINT]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    np.testing.assert_allclose(found["sgd"], recorded["sgd"], rtol=1e-4)
    assert abs(found["adamw_last_50"] / recorded["adamw_last_50"] - 1) < 0.02


def test_the_recorded_losses_fall():
    recorded = json.loads(PATH.read_text())
    assert recorded.keys() == {"jax", "tensorflow", "torch"}  # whose random numbers differ
    for curve in recorded.values():
        assert np.mean(curve["sgd"][-10:]) < 0.95 * np.mean(curve["sgd"][:10])
        assert curve["adamw_last_50"] < 0.5 * curve["sgd"][0]
