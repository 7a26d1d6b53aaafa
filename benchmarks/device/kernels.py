"""The kernels in which a training step spends its time."""

import collections
import glob
import gzip
import json
import os
import shutil
import tempfile

import common
import numpy as np

from device import memory
from device.models import batch_that_fits, make_model, random_images
from device.runner import LeftOut

STEPS = 3
TOP = 10
DEVICE_THREADS = ("Stream", "XLA Ops")  # what runs on GPUs, and on TPUs


def profile(setting, method, size, batch_size, **options):
    """The ten kernels that take most of a step, by JAX's profiler.

    Args:
        setting: `Setting`; its folder gets the trace.
        method, size: Strings, as of `steps.step`.
        batch_size: Integer.
        **options: Of the model.
    """
    if common.BACKEND != "jax":
        raise LeftOut(f"the profile is JAX's, not {common.BACKEND}'s")
    import jax

    model = make_model(setting, method, size, batch_size, **options)
    batch_size = batch_that_fits(setting, model, batch_size, memory.limit())
    images = random_images(model, batch_size * STEPS)
    model.fit(images, batch_size=batch_size, verbose=0)
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            model.fit(images, batch_size=batch_size, verbose=0)
        traces = glob.glob(os.path.join(folder, "**", "*.trace.json.gz"), recursive=True)
        if not traces:
            raise LeftOut(f"the profiler of JAX {jax.__version__} has written no trace")
        shutil.copy(traces[0], os.path.join(setting.folder, "profile.json.gz"))
        with gzip.open(traces[0], "rt") as file:
            found = kernels(json.load(file)["traceEvents"])
    total = sum(seconds for seconds, _ in found.values())
    if not total:
        raise LeftOut(f"the trace of JAX {jax.__version__} has no kernels; it is in the folder")
    rows = sorted(found.items(), key=lambda item: -item[1][0])[:TOP]
    return {
        "batch_size": batch_size,
        "busy_seconds": total / STEPS,
        "kernels": [
            {"name": name, "seconds": seconds / STEPS, "share": seconds / total, "calls": calls / STEPS}
            for name, (seconds, calls) in rows
        ],
    }


def kernels(events):
    """Seconds and calls of each kernel of a trace: dictionary of pairs.

    On accelerators, what their streams run; on CPUs, whose threads run everything, the operations of XLA's programs.

    Args:
        events: List of dictionaries, the "traceEvents" of a trace.
    """
    names = {
        (event["pid"], event.get("tid")): event["args"]["name"]
        for event in events
        if event.get("ph") == "M" and event["name"] in ("process_name", "thread_name")
    }
    is_accelerated = any(name.startswith("/device:") and "CPU" not in name for name in names.values())

    def is_kernel(event):
        if event.get("ph") != "X" or "dur" not in event:
            return False
        if not is_accelerated:
            return "hlo_op" in event.get("args", {})
        process = names.get((event["pid"], None), "")
        return process.startswith("/device:") and names.get((event["pid"], event["tid"]), "").startswith(DEVICE_THREADS)

    total = collections.defaultdict(lambda: np.zeros(2))
    for event in filter(is_kernel, events):
        total[event["name"]] += (event["dur"] / 1e6, 1)
    return {name: (float(seconds), float(calls)) for name, (seconds, calls) in total.items()}
