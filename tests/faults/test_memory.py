"""Resident memory of a long life: training, sampling with changing settings, checkpoints.

What the C library keeps of memory that was given back is returned to the system first: compilers need much for a short
time, and of what is left over the more lies between the pages that are used the longer they run, without an end of use.
"""

import os
import pathlib
import subprocess
import sys

import pytest

from tests.faults import IN_FULL

pytestmark = [pytest.mark.system, pytest.mark.slow]
ROOT = pathlib.Path(__file__).parents[2]
SCRIPT = """
import ctypes, gc, itertools, sys, tempfile
import tests.lean
import numpy as np, keras
import keras_umd
from keras_umd.training.checkpoints import Checkpoints

full = sys.argv[1] == "full"
steps, calls, saves = (3000, 500, 50) if full else (150, 45, 10)

def resident():
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 1e6

model = keras_umd.UMD(
    image_shape=(8, 8, 1), patch_size=4, hidden_dim=16, num_layers=1, num_heads=2, decoder_layers=1, num_classes=3
)
model.compile("adamw")
images = np.zeros((40, 8, 8, 1), "uint8")
labels = np.arange(40) % 3
settings = itertools.cycle(itertools.product(range(1, 7), (1.0, 2.0, 4.0), (0.0, 0.3, 1.0), (2, 3, 4)))
checkpoints = Checkpoints(tempfile.mkdtemp(), keep=2)

def live(steps, calls, saves):
    if steps:
        model.fit(images, labels, batch_size=8, epochs=steps // 5, verbose=0)
    for _ in range(calls):
        num_images, guidance, sampler, num_steps = next(settings)
        # A model that is dropped, with its programs; compiling them is nearly all that this test costs.
        weak = model.with_classes(3) if guidance == 4.0 and sampler == 0.3 else None
        strategy = keras_umd.guidance.Constant(guidance, weak_model=weak)
        model.generate([0] * num_images, guidance=strategy, sampler=sampler, num_steps=num_steps, verbose=False)
    for _ in range(saves):
        checkpoints.save(model, {"loss": None})
    checkpoints.close()
    return resident()

live(steps // 3, calls // 3, saves // 3)  # warm-up
print(live(0, 0, 0), live(steps, calls, saves))
"""


@pytest.mark.parametrize("backend", ["jax", "torch"] if IN_FULL else ["torch"])
def test_memory_is_flat(backend):
    command = [sys.executable, "-c", SCRIPT, "full" if IN_FULL else "sample"]
    environment = {**os.environ, "KERAS_BACKEND": backend}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    before, after = map(float, done.stdout.split()[-2:])
    print(f"{backend}: {before:.0f} MB after the warm-up, {after:.0f} MB at the end")
    assert after < 1.03 * before
