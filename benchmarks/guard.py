"""What a guard costs: training steps with and without `callbacks.Guard`, while nothing goes wrong.

    python benchmarks/guard.py                                     # B/4 at 64x64
    python benchmarks/guard.py --size small_patch4_64 --batch-size 16 --steps 2 --pairs 20
    KERAS_BACKEND=torch python benchmarks/guard.py --synthetic     # a small model, to see that it works

Epochs of some steps, as `fit` runs them, on random images in host memory, in turns: one without a guard and one with,
in an order that changes. Prints the median over the pairs of the relative difference of their times, of wall and of CPU
time, with an interval that covers it in 95 of 100 (of the order statistics, without an assumption); writes JSON. Both
trainings have a callback that looks at each step, so that what is measured is the guard, not that there is a callback.
"""

import common
import keras
import numpy as np

import keras_umd

SMALL = {"image_shape": (8, 8, 3), "patch_size": 2, "hidden_dim": 32, "num_layers": 2, "num_heads": 2}


def main():
    parser = common.parser(__doc__, "runs/guard.json")
    parser.add_argument("--size", default="base_patch4_64", help="a preset without the method")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--steps", type=int, default=3, help="of an epoch")
    parser.add_argument("--pairs", type=int, default=21)
    parser.add_argument("--dtype", default="float32", help="float32, mixed_bfloat16 or mixed_float16")
    parser.add_argument("--synthetic", action="store_true", help="a small model instead of the size")
    args = parser.parse_args()

    keras.config.set_dtype_policy(args.dtype)
    print(f"{args.dtype}, batch of {args.batch_size}, {common.versions()}")
    epochs = [epoch_of(args, []), epoch_of(args, [keras_umd.callbacks.Guard()])]
    times = []
    for pair in range(args.pairs + 1):
        order = [0, 1] if pair % 2 else [1, 0]
        seconds = {which: epochs[which]() for which in order}
        times.append([seconds[0], seconds[1]])
    times = np.array(times[1:]) / args.steps  # (pairs, without and with, wall and CPU); the first pair compiles
    rows = {}
    for clock, name in enumerate(("wall", "CPU")):
        difference = times[:, 1, clock] / times[:, 0, clock] - 1
        low, high = interval_of_median(difference)
        rows[name] = {"median": np.median(difference), "low": low, "high": high}
        step = 1000 * np.median(times[:, 0, clock])
        more = f"{np.median(difference):+.2%} [{low:+.2%}, {high:+.2%}]"
        print(f"{name:4} time of a step {step:8.2f} ms, with a guard {more}")
    common.write_json(args.output, arguments=vars(args), rows=rows, seconds=times.tolist())


class Timer(keras.callbacks.Callback):
    """Measures wall and CPU seconds of an epoch."""

    def on_epoch_begin(self, epoch, logs=None):
        self.start = common.now()

    def on_train_batch_end(self, batch, logs=None):
        self.loss = logs["loss"]

    def on_epoch_end(self, epoch, logs=None):
        self.seconds = common.now() - self.start


def epoch_of(args, guards):
    """A function that trains for an epoch and returns its seconds."""
    keras.utils.set_random_seed(0)
    model = keras_umd.UMD(**SMALL, seed=0) if args.synthetic else keras_umd.UMD.from_preset(f"umd_{args.size}", seed=0)
    model.compile(keras_umd.recipes.AdamW(1e-4, weight_decay=0.05, global_clipnorm=1.0, ema_decay=0.999))
    shape = (args.steps * args.batch_size, *model.image_shape)
    images = np.random.default_rng(0).integers(0, 256, shape).astype("uint8")
    timer = Timer()

    def epoch():
        model.fit(images, batch_size=args.batch_size, verbose=0, callbacks=[*guards, timer])
        return timer.seconds

    return epoch


def interval_of_median(values):
    """The widest pair of order statistics that is needed to cover the median with a probability of at least 95%."""
    values, n = np.sort(values), len(values)
    counts = [1.0]
    for k in range(n):
        counts.append(counts[-1] * (n - k) / (k + 1))
    tails = np.cumsum(counts) / 2.0**n  # P(at most k of n lie below the median)
    outside = int(np.searchsorted(tails, 0.025, side="right"))  # order statistics left out at each end
    low = max(outside - 1, 0)
    return values[low], values[n - 1 - low]


if __name__ == "__main__":
    main()
