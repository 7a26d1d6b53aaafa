"""Measures a device in one command: its rates, training steps, sampling, plain PyTorch and flax, parity, a profile.

    python benchmarks/on_device.py OUTPUT                   # at most 8 minutes, JAX
    python benchmarks/on_device.py OUTPUT --minutes 4
    python benchmarks/on_device.py OUTPUT --tiny            # sizes for a CPU, to see that it works

Parts run in order of importance, each in a process of its own with a deadline: what hangs, or runs out of memory, costs
its own result alone, and what doesn't fit into the minutes is named. After each part OUTPUT has

    results.json    all numbers, and the reason of what is missing
    tables.md       the same as tables; docs/devices.md says what each column means
    log.txt         what the parts printed
    profile.json.gz the trace of a training step, for https://ui.perfetto.dev

It needs what keras_umd needs; torch and flax are measured where they are installed. `on_device.sh` installs Keras from
a folder of wheels first.
"""

import argparse
import datetime
import json
import os
import signal
import sys
import tempfile

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.92")  # by default a quarter is out of reach
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
sys.path.insert(1, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir))

from device.runner import Part, Runner, Setting, work
from device.tables import tables

STEP = "steps.step"
BASE = {"size": "base_patch4_64", "batch_size": 256}
LARGE = {"size": "large_patch2_latent32", "batch_size": 128, "scan_blocks": True}  # unrolled, it compiles for minutes
PARTS = [
    Part("rates", "rates.rates", 60),
    Part("umd_base", STEP, 150, {"method": "umd", **BASE}),
    Part("dit_base", STEP, 120, {"method": "dit", **BASE}),
    Part("plain_torch", "plain_torch.steps", 150, BASE, needs=("torch",), framework="torch"),
    Part("parity", "parity.parity", 75),
    Part("profile", "kernels.profile", 120, {"method": "umd", **BASE}),
    Part("umd_large", STEP, 150, {"method": "umd", **LARGE}),
    Part("umd_base_resident", STEP, 120, {"method": "umd", **BASE, "resident": True}),
    Part("umd_base_scan", STEP, 90, {"method": "umd", **BASE, "scan_blocks": True}),
    Part("umd_base_scan_no_flash", STEP, 90, {"method": "umd", **BASE, "scan_blocks": True, "flash": False}),
    Part("umd_base_scan_pack", STEP, 90, {"method": "umd", **BASE, "scan_blocks": True, "pack": True}),
    Part("umd_base_scan_remat", STEP, 90, {"method": "umd", **BASE, "scan_blocks": True, "remat": True}),
    Part("sampling", "sampling.sampling", 90, {"size": "base_patch4_64", "batch_size": 128}),
    Part("mae_base", STEP, 120, {"method": "mae", **BASE}),
    Part("plain_flax", "plain_flax.steps", 120, BASE, needs=("flax", "optax"), framework="flax"),
    Part(
        "umd_base_scan_resident_many",
        STEP,
        90,
        {"method": "umd", **BASE, "scan_blocks": True, "resident": True, "steps_per_execution": 10},
    ),
    Part(
        "plain_torch_whole",
        "plain_torch.steps",
        150,
        {**BASE, "methods": ("dit",), "whole": True},
        needs=("torch",),
        framework="torch",
    ),
    Part("dit_large", STEP, 150, {"method": "dit", **LARGE}),
]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", help="a folder for the results")
    parser.add_argument("--minutes", type=float, default=8, help="for all parts")
    parser.add_argument("--tiny", action="store_true", help="small models, and parts share a process")
    parser.add_argument("--parts", help="names, separated by commas; by default all")
    parser.add_argument("--exchange", help=argparse.SUPPRESS)  # a worker's, from the runner
    args = parser.parse_args()
    chosen = PARTS if args.parts is None else [part for part in PARTS if part.name in args.parts.split(",")]
    results = Results(args.output)
    if args.exchange:
        done = {name: outcome["result"] for name, outcome in results.parts.items() if outcome["status"] == "done"}
        work(chosen, Setting(args.output, args.tiny, done), args.exchange)
        return
    results.start(vars(args))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no worker stays behind
    command = [sys.executable, os.path.abspath(__file__), args.output, *(["--tiny"] if args.tiny else [])]
    if args.tiny:  # a loaded machine may take its time, and to optimize would take longer than to run
        args.minutes *= 10
        os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "true")
    with tempfile.TemporaryDirectory() as programs:
        # What several parts share is compiled once: the profile's step is that of the part before it.
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", programs)
        Runner(command, results.add, results.path("log.txt"), args.minutes, together=args.tiny).run(chosen)
    print(f"\n{tables(results.values)}\nin {results.path('tables.md')}")


class Results:
    """results.json and tables.md, written anew with each outcome.

    Args:
        folder: String.
    """

    def __init__(self, folder):
        self.folder = folder
        self.values = {"parts": {}}
        if os.path.exists(self.path("results.json")):
            with open(self.path("results.json")) as file:
                self.values = json.load(file)

    @property
    def parts(self):
        return self.values["parts"]

    def path(self, name):
        return os.path.join(self.folder, name)

    def start(self, arguments):
        """Begin anew, with nothing of an earlier run."""
        os.makedirs(self.folder, exist_ok=True)
        open(self.path("log.txt"), "w").close()
        names = ("output", "minutes", "tiny", "parts")
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        self.values = {"begun": now, "arguments": {name: arguments[name] for name in names}, "parts": {}}
        self._save()

    def add(self, name, outcome):
        self.parts[name] = outcome
        self._save()
        print(f"{name:28} {outcome['status']:9} {outcome.get('seconds', 0):6.1f} s", flush=True)

    def _save(self):
        for name, text in (("results.json", json.dumps(self.values, indent=1)), ("tables.md", tables(self.values))):
            with open(self.path(f"{name}.new"), "w") as file:
                file.write(text)
            os.replace(self.path(f"{name}.new"), self.path(name))


if __name__ == "__main__":
    main()
