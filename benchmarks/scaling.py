"""Communication and balance of devices in a training step.

    python benchmarks/scaling.py                                          # 1 to 8 virtual devices, on a small model
    python benchmarks/scaling.py --preset umd_small_patch4_64 --batch-size 64 --devices 1 8

JAX only. A step of `fit` on virtual devices, which share this machine's cores, so that times would mean nothing: read
is the compiled program, the one that every device runs on its share of the batch. For data parallelism and for weights
that are spread (FSDP): the bytes that a device gets from its collectives, by kind, beside those of the gradients; its
images, clean and noisy; and its bytes of weights, optimizer and averages. Prints a table, writes JSON.

Gradients are added up twice here, once for the clean and once for the noisy images: XLA's pass that joins two such sums
of one weight isn't part of its pipeline for CPUs.
"""

import argparse
import json
import math
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import common

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "collective-permute", "all-to-all")
SIZES = {"f32": 4, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "u8": 1, "s8": 1, "pred": 1}


def main():
    parser = common.parser(__doc__, "runs/scaling.json")
    parser.add_argument("--preset", default="umd_tiny_patch8_32")
    parser.add_argument("--batch-size", type=int, default=32, help="of all devices together")
    parser.add_argument("--devices", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--parallelism", nargs="+", choices=("data", "fsdp"), default=["data", "fsdp"])
    parser.add_argument("--scan-blocks", action="store_true")
    parser.add_argument("--step", help=argparse.SUPPRESS)  # in a process that has the devices
    args = parser.parse_args()
    if args.step:
        print(json.dumps(step(args)))
        return
    rows = []
    for parallelism in args.parallelism:
        for num_devices in args.devices:
            row = measure(args, parallelism, num_devices)
            if not rows:
                print(f"{args.preset}, float32, batch of {args.batch_size}; {row['versions']}\n")
                print("          devices   clean+noisy    state MB   gradients MB   " + "   ".join(KINDS) + "  (MB)")
            rows.append(row)
            moved = "   ".join(f"{row['bytes'][kind] / 1e6:{len(kind)}.2f}" for kind in KINDS)
            images = f"{row['clean']:5}+{row['noisy']:<5}"
            state, gradients = row["state_bytes"] / 1e6, row["gradient_bytes"] / 1e6
            print(f"{parallelism:9} {num_devices:7}   {images}   {state:9.2f}   {gradients:12.2f}   {moved}")
    common.write_json(args.output, arguments=vars(args), rows=rows)


def measure(args, parallelism, num_devices):
    """Measure one number of devices, in a process of its own that dumps its program."""
    with tempfile.TemporaryDirectory() as folder:
        flags = f"--xla_force_host_platform_device_count={num_devices} --xla_dump_to={folder}"
        environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
        environment["XLA_FLAGS"] = f"{flags} --xla_dump_hlo_module_re=jit_train_step"
        command = [sys.executable, __file__, "--step", parallelism, "--preset", args.preset]
        command += ["--batch-size", str(args.batch_size), *(["--scan-blocks"] if args.scan_blocks else [])]
        finished = subprocess.run(command, env=environment, capture_output=True, text=True)
        if finished.returncode:
            raise RuntimeError(finished.stderr)
        (program,) = pathlib.Path(folder).glob("*after_optimizations.txt")
        row = json.loads(finished.stdout.splitlines()[-1])
        return {"parallelism": parallelism, "devices": num_devices, **row, "bytes": collectives(program.read_text())}


def collectives(program):
    """Bytes that a device receives in a step, by kind; a loop's body counts once for each iteration."""
    found = dict.fromkeys(KINDS, 0)
    runs = {}
    # XLA writes functions before their callers: reversed, the callers come first.
    for name, body in reversed(re.findall(r"^(?:ENTRY )?%(\S+) [^\n]*\{\n(.*?)^\}", program, re.DOTALL | re.MULTILINE)):
        times = runs.get(name, 1)
        for line in body.splitlines():
            loop = re.search(r" while\(.*body=%([\w.\-]+)", line)
            if loop:
                runs[loop[1]] = times * int(re.search(r'"known_trip_count":\{"n":"(\d+)"', line)[1])
            exchange = re.search(rf"= (.*?) ({'|'.join(KINDS)})(?:-start)?\(", line)
            for dtype, shape in re.findall(r"(\w+)\[([\d,]*)\]", exchange[1]) if exchange else ():
                size = math.prod(int(length) for length in shape.split(",") if length)
                found[exchange[2]] += times * SIZES[dtype] * size
    return found


def step(args):
    """Run a step on all devices of this process; returns the sizes on each."""
    import jax
    import keras
    import numpy as np

    import keras_umd

    keras.utils.set_random_seed(0)
    if args.step == "data":
        keras.distribution.set_distribution(keras.distribution.DataParallel(auto_shard_dataset=False))
    else:
        mesh = keras.distribution.DeviceMesh((len(jax.devices()),), ["batch"])
        layout_map = keras_umd.UMD.layout_map(mesh)
        keras.distribution.set_distribution(keras_umd.distribution.ModelParallel(layout_map=layout_map))
    model = keras_umd.UMD.from_preset(args.preset, scan_blocks=args.scan_blocks)
    model.compile(keras_umd.recipes.pretraining_optimizer(10**6, args.batch_size))
    images = np.random.default_rng(0).integers(0, 256, (args.batch_size, *model.image_shape)).astype("uint8")
    model.fit(images, batch_size=args.batch_size, verbose=0)
    state = [variable.value for variable in (*model.variables, *model.optimizer.variables)]
    share = args.batch_size // len(jax.devices())
    num_clean = round(share * model.corruption.clean_ratio)  # the split alternates within each share
    return {
        "clean": num_clean,
        "noisy": share - num_clean,
        "state_bytes": sum(value.addressable_shards[0].data.nbytes for value in state),
        "gradient_bytes": sum(variable.value.nbytes for variable in model.trainable_variables),
        "versions": common.versions(),
    }


if __name__ == "__main__":
    main()
