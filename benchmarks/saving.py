"""What a checkpoint costs a training: the time by which the steps around it are longer than the others.

python benchmarks/saving.py [--preset umd_base_patch4_64] [--batch-size 2] [--rounds 3]

In turn, a checkpoint is written in the background, and while the training waits for it. The share is that of one
every 50 steps.
"""

import statistics
import tempfile
import time

import common
import keras
import numpy as np

import keras_umd
from keras_umd.training.checkpoints import Checkpoints

STEPS_BETWEEN = 50


class Saves(keras.callbacks.Callback):
    """Saves after chosen steps, and keeps the time at which each step ended."""

    def __init__(self, folder, waits):
        super().__init__()
        self.checkpoints = Checkpoints(folder, keep=1)
        self.waits = waits  # step -> whether to wait
        self.ends = []

    def on_train_batch_end(self, batch, logs=None):
        if batch in self.waits:
            self.checkpoints.save(self.model, {"loss": None}, wait=self.waits[batch])
        self.ends.append(time.perf_counter())

    def on_train_end(self, logs=None):
        self.checkpoints.close()


def main():
    arguments = common.parser(__doc__, "benchmarks/results/saving.json")
    arguments.add_argument("--preset", default="umd_base_patch4_64")
    arguments.add_argument("--batch-size", type=int, default=2)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--steps", type=int, default=8, help="steps from one checkpoint to the next, while measured")
    args = arguments.parse_args()

    model = keras_umd.UMD.from_preset(args.preset)
    model.compile(keras_umd.recipes.AdamW(1e-4, ema_decay=0.999))
    num_bytes = sum(4 * int(np.prod(variable.shape)) for variable in model.variables)
    num_bytes += sum(4 * int(np.prod(variable.shape)) for variable in model.trainable_variables) * 2
    starts = [args.steps * (number + 1) for number in range(2 * args.rounds)]
    waits = {start: bool(number % 2) for number, start in enumerate(starts)}
    num_steps = args.steps * (2 * args.rounds + 1)
    images = np.zeros((num_steps * args.batch_size, *model.image_shape), "uint8")
    with tempfile.TemporaryDirectory() as folder:
        saves = Saves(folder, waits)
        model.fit(images, batch_size=args.batch_size, verbose=0, callbacks=[saves])
    steps = np.diff(saves.ends)  # steps[i]: of step i + 1
    # The quiet ones: the second half behind each checkpoint, when it is written.
    quiet = [steps[i - 1] for i in range(1, num_steps) if i % args.steps >= args.steps // 2]
    step = statistics.median(quiet)
    extra = {
        name: [
            float(sum(steps[start - 1 : start - 1 + args.steps // 2] - step))
            for start in starts
            if waits[start] == waited
        ]
        for name, waited in (("background", False), ("waiting", True))
    }
    print(
        f"{common.versions()}; {args.preset}, batch {args.batch_size}, {num_bytes / 1e9:.2f} GB a checkpoint, "
        f"{step:.2f} s a step"
    )
    for name, seconds in extra.items():
        share = statistics.median(seconds) / (STEPS_BETWEEN * step)
        print(
            f"{name}: {', '.join(f'{value:.2f}' for value in seconds)} s longer; {share:.1%} of {STEPS_BETWEEN} steps"
        )
    found = {"gigabytes": num_bytes / 1e9, "step_seconds": step, "extra_seconds": extra}
    common.write_json(args.output, preset=args.preset, **found)


if __name__ == "__main__":
    main()
