"""Speed of a training step, of UMD beside DiT and others, and of matrix products on the same device.

    python benchmarks/train_step.py                                    # S/4 at 64x64, float32
    python benchmarks/train_step.py --sizes base_patch4_64 large_patch2_latent32 --batch-size 256 --steps 20 \\
        --dtype mixed_bfloat16 --device "H100 SXM"
    KERAS_BACKEND=torch python benchmarks/train_step.py --synthetic    # small models, to see that it works

Steps as `fit` runs them, on random images in host memory: an epoch of some steps of each method in turn, and as often
the optimizer's step alone on as many weights, and large matrix products of the same type. Medians of the repeats after
one to warm up: seconds of wall and of CPU time, both as a share of DiT's; FLOP/s by `keras_umd.plan`, without
what `remat` computes twice, and as a share of those of the matrix products. Prints a table, writes JSON.
"""

import common
import keras
import numpy as np
from keras import ops

import keras_umd
from keras_umd import evaluation

METHODS = ("umd", "mae", "maskdit", "dit")
SMALL = {"image_shape": (8, 8, 3), "patch_size": 2, "hidden_dim": 32, "num_layers": 2, "num_heads": 2}


def main():
    parser = common.parser(__doc__, "runs/train_step.json")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--sizes", nargs="+", default=["small_patch4_64"], help="presets without the method")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--steps", type=int, default=3, help="of an epoch")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--dtype", default="float32", help="float32, mixed_bfloat16 or bfloat16")
    parser.add_argument("--remat", action="store_true")
    parser.add_argument("--scan-blocks", action="store_true")
    parser.add_argument("--device", help="a name of keras_umd.planning.DEVICES, for the share of its peak")
    parser.add_argument("--product", type=int, help="rows of the matrices; by default 2048, 8192 on accelerators")
    parser.add_argument("--synthetic", action="store_true", help="small models instead of the sizes")
    args = parser.parse_args()

    keras.config.set_dtype_policy(args.dtype)
    print(f"{args.dtype}, batch of {args.batch_size}, {common.versions()}")
    rows = [row for size in (["synthetic"] if args.synthetic else args.sizes) for row in measure(size, args)]
    common.write_json(args.output, arguments=vars(args), rows=rows)


def measure(size, args):
    """Measure all methods in turns, so that they see the same machine; a row for each."""
    models = {method: make_model(method, size, args) for method in args.methods}
    plans = {method: keras_umd.plan(model, args.batch_size, args.device) for method, model in models.items()}
    epochs = {method: epoch_of(model, args) for method, model in models.items()}
    epochs["optimizer"] = epoch_of(WeightsAlone(next(iter(models.values()))), args)
    flops, product = matrix_product(args)
    times = []
    for _ in range(args.repeats + 1):
        times.append({name: np.divide(epoch(), args.steps) for name, epoch in epochs.items()})
        times[-1]["product"] = np.array(common.timed(product)[1:])
    times = {name: np.array([repeat[name] for repeat in times[1:]]) for name in times[0]}
    medians = {name: np.median(values, axis=0) for name, values in times.items()}
    rate, cpu_rate = flops / medians["product"]
    print(f"\n{size}; matrix products: {rate / 1e9:,.1f} GFLOP/s, {cpu_rate / 1e9:,.1f} GFLOP a CPU second")
    print("method    s/step    : DiT   CPU s   : DiT   images/s   GFLOP/s   of products   by CPU s   optimizer")
    rows = []
    for method, plan in plans.items():
        wall, cpu = medians[method]
        result = plan.compare(wall)
        row = {
            "size": size,
            "method": method,
            "seconds": wall,
            "cpu_seconds": cpu,
            "over_dit": over_dit(times, method, 0),
            "cpu_over_dit": over_dit(times, method, 1),
            "images_per_second": result.images_per_second,
            "flops_per_second": result.model_flops_per_second,
            "share_of_products": result.model_flops_per_second / rate,
            "share_of_products_by_cpu": plan.model_flops / cpu / cpu_rate,
            "optimizer_share": medians["optimizer"][0] / wall,
            "share_of_peak": result.model_utilization,
            "product_flops_per_second": rate,
        }
        rows.append(row)
        print(
            f"{method:8} {wall:7.3f}  {row['over_dit']:7.3f} {cpu:7.3f} {row['cpu_over_dit']:7.3f}  "
            f"{row['images_per_second']:9.2f}  {row['flops_per_second'] / 1e9:8,.1f}  {row['share_of_products']:12.1%} "
            f"{row['share_of_products_by_cpu']:10.1%}  {row['optimizer_share']:10.1%}"
            + ("" if args.device is None else f"   {row['share_of_peak']:.1%} of the peak"),
            flush=True,
        )
    return rows


def make_model(method, size, args):
    options = {"scan_blocks": args.scan_blocks, "remat": args.remat}
    if args.synthetic:
        model = keras_umd.UMD(**SMALL, corruption=getattr(keras_umd.Corruption, method)(), **options)
    else:
        model = keras_umd.UMD.from_preset(f"{method}_{size}", **options)
    model.compile(keras_umd.recipes.pretraining_optimizer(10**6, args.batch_size))
    return model


class WeightsAlone(keras.Model):
    """The weights of a model, with their sum as the loss: its step is the optimizer's alone."""

    def __init__(self, model):
        super().__init__()
        self.image_shape = model.image_shape
        self.value_range = model.value_range
        self.copies = [self.add_weight(shape=v.shape, dtype=v.dtype) for v in model.trainable_variables]
        self.built = True
        self.compile(type(model.optimizer).from_config(model.optimizer.get_config()))

    def call(self, images):
        return images

    def compute_loss(self, *args, **kwargs):
        return sum(ops.sum(ops.cast(copy, "float32")) for copy in self.copies)


class Timer(keras.callbacks.Callback):
    """Measures wall and CPU seconds of an epoch, up to the end of its last step."""

    def on_epoch_begin(self, epoch, logs=None):
        self.start = common.now()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds = common.now() - self.start


def epoch_of(model, args):
    """A function that trains for an epoch and returns its seconds."""
    rng = np.random.default_rng(0)
    shape = (args.steps * args.batch_size, *model.image_shape)
    is_latent = model.value_range is None
    images = rng.normal(size=shape).astype("float32") if is_latent else rng.integers(0, 256, shape).astype("uint8")
    timer = Timer()

    def epoch():
        model.fit(images, batch_size=args.batch_size, verbose=0, callbacks=[timer])
        return timer.seconds

    return epoch


def matrix_product(args):
    """The FLOPs of four matrix products in sequence, and a function that computes them."""
    has_accelerator = "CPU cores" not in evaluation.versions()["device"]
    n = args.product or (8192 if has_accelerator else 2048)
    matrix = keras.random.normal((n, n), stddev=n**-0.5, dtype=keras.config.dtype_policy().compute_dtype)

    def chain(x, matrix):
        for _ in range(4):
            x = ops.matmul(x, matrix)
        return x  # the whole matrix: XLA's products on a CPU are many times slower if only a part is returned

    compiled = common.compiled(chain)
    return 4 * 2 * n**3, lambda: ops.convert_to_numpy(compiled(matrix, matrix)[0, 0])


def over_dit(times, method, clock):
    """The median of the ratios to DiT's epoch of the same repeat; NaN without DiT."""
    return np.median(times[method][:, clock] / times["dit"][:, clock]) if "dit" in times else np.nan


if __name__ == "__main__":
    main()
