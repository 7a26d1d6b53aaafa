"""Compilation time and memory of the training step by XLA.

    python benchmarks/compiled_step.py                                    # L/2 on latents, float32; minutes
    python benchmarks/compiled_step.py --preset umd_base_patch4_64 --batch-size 256 --dtype mixed_bfloat16
    python benchmarks/compiled_step.py --synthetic                        # a small model, to see that it works

JAX only. The step as `fit` compiles it: unrolled, with `scan_blocks`, with `remat`, with both. No weights are made and
nothing is run: only shapes go in. Seconds of tracing, of lowering and of compiling; and the memory of the compiled
program, for its arguments and for temporaries, beside the plan of `keras_umd.plan`. (On a CPU, XLA undoes
part of the unrolled `remat`, and computes bfloat16 in float32.) Prints two tables, writes JSON.
"""

import time

import common
import jax
import keras

import keras_umd

VARIANTS = {
    "unrolled": {},
    "scan": {"scan_blocks": True},
    "remat": {"remat": True},
    "scan, remat": {"scan_blocks": True, "remat": True},
}
SMALL = {"image_shape": (16, 16, 3), "patch_size": 2, "hidden_dim": 64, "num_layers": 4, "num_heads": 4}


def main():
    parser = common.parser(__doc__, "runs/compiled_step.json")
    parser.add_argument("--preset", default="umd_large_patch2_latent32")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--dtype", default="float32", help="float32, mixed_bfloat16 or bfloat16")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--synthetic", action="store_true", help="a small model instead of the preset")
    args = parser.parse_args()
    if common.BACKEND != "jax":
        raise SystemExit(f"This compiles by JAX. Received: KERAS_BACKEND={common.BACKEND}")

    keras.config.set_dtype_policy(args.dtype)
    name = "small model" if args.synthetic else args.preset
    print(f"{name}, {args.dtype}, batch of {args.batch_size}; {common.versions()}\n")
    print("step          trace    lower   compile")
    rows = []
    for variant in args.variants:
        row = measure(variant, args)
        rows.append(row)
        times = "  ".join(f"{row[f'{part}_seconds']:7.1f}" for part in ("trace", "lower", "compile"))
        print(f"{variant:12}{times} s", flush=True)
    print("\nGB            weights, optimizer   planned   beside them   planned")
    for row in rows:
        kept, beside = (f"{row[f'{part}_bytes'] / 1e9:10.2f}" for part in ("argument", "temp"))
        planned = (f"{row[f'planned_{part}_bytes'] / 1e9:8.2f}" for part in ("argument", "temp"))
        print(f"{row['variant']:14}        {kept}  {next(planned)}    {beside}  {next(planned)}")
    common.write_json(args.output, arguments=vars(args), rows=rows)


def measure(variant, args):
    model, state = shapes_of_model(args, VARIANTS[variant])
    pixels = jax.ShapeDtypeStruct(
        (args.batch_size, *model.image_shape), "float32" if model.value_range is None else "uint8"
    )
    step = jax.jit(model.train_step, donate_argnums=0)
    start = time.perf_counter()
    traced = step.trace(state, (pixels,))
    trace_end = time.perf_counter()
    lowered = traced.lower()
    lower_end = time.perf_counter()
    compiled = lowered.compile()
    compile_end = time.perf_counter()
    found, planned = compiled.memory_analysis(), keras_umd.plan(model, args.batch_size).memory
    kept = planned.weights + planned.optimizer + planned.averages
    return {
        "variant": variant,
        "trace_seconds": trace_end - start,
        "lower_seconds": lower_end - trace_end,
        "compile_seconds": compile_end - lower_end,
        "argument_bytes": found.argument_size_in_bytes,
        "temp_bytes": found.temp_size_in_bytes,
        "planned_argument_bytes": kept,
        "planned_temp_bytes": planned.total - kept,
    }


def shapes_of_model(args, options):
    """A model with abstract weights, and the shapes of its training state."""
    models = []

    def build():
        if args.synthetic:
            model = keras_umd.UMD(**SMALL, **options)
        else:
            model = keras_umd.UMD.from_preset(args.preset, **options)
        model.compile(keras_umd.recipes.pretraining_optimizer(10**6, args.batch_size))
        model.optimizer.build(model.trainable_variables)
        models.append(model)

    jax.eval_shape(build)
    (model,) = models
    groups = [model.trainable_variables, model.non_trainable_variables, model.optimizer.variables]
    groups.append(model.metrics_variables)
    return model, tuple([jax.ShapeDtypeStruct(v.shape, v.dtype) for v in group] for group in groups)


if __name__ == "__main__":
    main()
