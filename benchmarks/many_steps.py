"""What several steps in one program cost to compile, and what they save: `steps_per_execution` on JAX.

    python benchmarks/many_steps.py                                  # a small model
    python benchmarks/many_steps.py --size small_patch4_64 --counts 1 16

Data lie on the device. For each number of steps: CPU seconds to trace, lower and compile the program of an execution
(for one, the step as Keras compiles it), its lines, its memory; and CPU and wall time of a step in `fit`, in turns.
Nothing is read from the compilation cache. Prints a table, writes JSON.
"""

import time

import common
import jax
import keras
import numpy as np

import keras_umd
from keras_umd.backend.many_steps import scan_of_steps
from keras_umd.data import on_device
from keras_umd.models.device_data import resident_data

SMALL = {"image_shape": (16, 16, 3), "patch_size": 2, "hidden_dim": 64, "num_layers": 2, "num_heads": 4}


def main():
    parser = common.parser(__doc__, "runs/many_steps.json")
    parser.add_argument("--size", help="a preset without the method; a small model by default")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--counts", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--repeats", type=int, default=3, help="epochs of each, to time; 0 to compile only")
    args = parser.parse_args()
    if common.BACKEND != "jax":
        raise SystemExit(f"Only JAX has this loop. Received: KERAS_BACKEND={common.BACKEND}")

    jax.config.update("jax_enable_compilation_cache", False)
    print(f"{args.size or 'small model'}, batch of {args.batch_size}; {common.versions()}\n")
    print("steps     trace    lower   compile     lines   temporaries")
    rows = []
    for count in args.counts:
        row = compiled(count, args)
        rows.append(row)
        times = "  ".join(f"{row[part]:7.2f}" for part in ("trace", "lower", "compile"))
        print(f"{count:5} {times} s {row['lines']:8} {row['temp_bytes'] / 1e6:10.1f} MB", flush=True)
    if args.repeats:
        cases = {count: epoch_of(count, args) for count in args.counts}
        seconds = common.in_turns(cases, args.repeats)
        for row in rows:
            row["wall"], row["cpu"] = np.median(seconds[row["steps"]], axis=0) / max(args.counts)
            wall, cpu = 1000 * row["wall"], 1000 * row["cpu"]
            print(f"{row['steps']:5} steps at once: {wall:8.2f} ms, {cpu:8.2f} CPU ms a step")
    common.write_json(args.output, arguments=vars(args), rows=rows)


def make(count, args):
    """A compiled model, and data of as many batches as the longest execution."""
    keras.utils.set_random_seed(0)
    model = keras_umd.UMD.from_preset(f"umd_{args.size}", seed=0) if args.size else keras_umd.UMD(**SMALL, seed=0)
    model.compile(keras_umd.recipes.AdamW(1e-4, weight_decay=0.05, ema_decay=0.999), steps_per_execution=count)
    model.optimizer.build(model.trainable_variables)
    shape = (max(args.counts) * args.batch_size, *model.image_shape)
    images = np.random.default_rng(0).integers(0, 256, shape).astype("uint8")
    return model, on_device(images, batch_size=args.batch_size, seed=0)


def compiled(count, args):
    model, dataset = make(count, args)
    with resident_data(model, ("train",), dataset):
        groups = [model.trainable_variables, model.non_trainable_variables, model.optimizer.variables]
        groups.append(model.metrics_variables)
        state = tuple([jax.ShapeDtypeStruct(v.shape, v.dtype) for v in group] for group in groups)
        batch = dataset[0]
        if count == 1:
            step = jax.jit(model.train_step, donate_argnums=0)
        else:
            step = scan_of_steps(model, model.train_step)
            batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct((count, *x.shape), x.dtype), batch)
        marks = [time.process_time()]
        traced = step.trace(state, batch)
        marks.append(time.process_time())
        lowered = traced.lower()
        marks.append(time.process_time())
        program = lowered.compile()
        marks.append(time.process_time())
    seconds = dict(zip(("trace", "lower", "compile"), np.diff(marks).tolist(), strict=True))
    lines = len(lowered.as_text().splitlines())
    return {"steps": count, "lines": lines, "temp_bytes": program.memory_analysis().temp_size_in_bytes, **seconds}


def epoch_of(count, args):
    """A function that trains on all batches once."""
    model, dataset = make(count, args)
    return lambda: model.fit(dataset, verbose=0)


if __name__ == "__main__":
    main()
