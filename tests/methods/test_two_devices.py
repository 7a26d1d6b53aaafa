"""Every method trains on two devices as on one. On JAX, where Keras distributes."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from keras_umd import methods

marks = pytest.mark
pytestmark = [marks.system, marks.devices, marks.backends("jax"), marks.slow]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    path = tmp_path_factory.mktemp("two_devices") / "runs.json"
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=2"
    command = [sys.executable, "-m", "tests.methods.on_two_devices", path]
    root, environment = pathlib.Path(__file__).parents[2], {**os.environ, "XLA_FLAGS": flags}
    finished = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    return json.loads(path.read_text())


@pytest.mark.parametrize("name", [method.name for method in methods.list()])
def test_two_devices_train_each_method_as_one_does(runs, name):
    one, two = runs[name]["one"], runs[name]["two"]
    assert (one["devices"], two["devices"]) == (1, 2)
    assert set(one["losses"]) == set(two["losses"])
    for loss, values in one["losses"].items():
        np.testing.assert_allclose(two["losses"][loss], values, rtol=1e-5, err_msg=loss)
    for path, values in one["weights"].items():
        np.testing.assert_allclose(two["weights"][path], values, rtol=1e-4, atol=1e-6, err_msg=path)
