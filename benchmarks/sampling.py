"""Speed of sampling, beside the network alone.

    python benchmarks/sampling.py                                     # S/4 at 64x64, float32
    python benchmarks/sampling.py --preset umd_base_patch4_64 --dtype bfloat16 --batch-sizes 256 --steps 20 250

Images a second by sampler, number of calls and batch size; the time to the first images, with compilation; and the time
of the loop over that of as many bare calls of the compiled network, measured in turn in the same run. Prints a table,
writes JSON.
"""

import functools
import itertools

import common
import keras
import numpy as np
from keras import ops

import keras_umd


def main():
    parser = common.parser(__doc__, "runs/sampling.json")
    parser.add_argument("--preset", default="umd_small_patch4_64")
    parser.add_argument("--dtype", default="float32", help="float32, mixed_bfloat16 or bfloat16")
    parser.add_argument("--samplers", nargs="+", default=["ddim", "dpmpp_2m", "heun"])
    parser.add_argument("--steps", nargs="+", type=int, default=[10])
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=[1, 4])
    parser.add_argument("--guidance", type=float, default=1.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peak", type=float, help="the device's peak in TFLOP/s for this type, for its share")
    args = parser.parse_args()

    keras.config.set_dtype_policy(args.dtype)
    model = keras_umd.UMD.from_preset(args.preset, num_classes=1000)
    copies = 1 if args.guidance == 1 else 2
    flops = copies * forward_flops(model)
    print(f"{args.preset}, {args.dtype}, guidance {args.guidance}; {common.versions()}")
    print(f"{flops / 1e9:.1f} GFLOP for each call and image\n")
    print("sampler    calls  batch   images/s   to first images   over bare calls   TFLOP/s")
    rows = []
    for batch in args.batch_sizes:
        bare_calls = bare_network(model, copies * batch)
        for sampler, steps in itertools.product(args.samplers, args.steps):
            options = {"num_steps": steps, "sampler": sampler, "guidance": args.guidance, "seed": 0}
            generate = functools.partial(model.generate, np.arange(batch) % 1000, **options)
            first = seconds(generate)
            times = np.array([(seconds(generate), seconds(bare_calls, steps)) for _ in range(args.repeats)])
            row = {
                "sampler": sampler,
                "calls": steps,
                "batch": batch,
                "images_per_second": batch / np.median(times[:, 0]),
                "seconds_to_first_images": first,
                "over_bare_calls": np.median(times[:, 0] / times[:, 1]) - 1,
            }
            row["teraflops"] = row["images_per_second"] * steps * flops / 1e12
            rows.append(row)
            share = f" ({row['teraflops'] / args.peak:.0%})" if args.peak else ""
            print(
                f"{sampler:10} {steps:5}  {batch:5}   {row['images_per_second']:8.3f}   {first:13.1f} s   "
                f"{row['over_bare_calls']:+14.1%}   {row['teraflops']:7.3f}{share}",
                flush=True,
            )
    common.write_json(args.output, arguments=vars(args), rows=rows)


def seconds(function, *args):
    return common.timed(function, *args)[1]


def bare_network(model, batch):
    """A function that calls the compiled network and nothing else, a number of times in sequence."""
    estimate = common.compiled(lambda x, t, labels: model.estimate(x, t, labels)["eps"], model.network_weights)
    x = keras.random.normal((batch, *model.image_shape), dtype="float32")
    labels = ops.arange(batch, dtype="int32") % 1000

    def call(times):
        result = x
        for i in range(times):  # each takes what the one before gave, as in a loop
            result = ops.cast(estimate(result, ops.full((1,), float(i + 1)), labels), "float32")
        ops.convert_to_numpy(result)

    call(1)
    return call


def forward_flops(model):
    """FLOPs of matrix products for one image, unmasked: encoder and decoder, each with the class token."""
    n, dim = model.num_patches + 1, model.hidden_dim
    block = 24 * n * dim**2 + 4 * n**2 * dim
    patch = 3 * int(np.prod(model.patch_size)) * model.image_shape[-1]  # one in, two out
    return (model.encoder.num_layers + model.decoder.num_layers) * block + 2 * n * dim * patch


if __name__ == "__main__":
    main()
