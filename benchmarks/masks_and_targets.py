"""What masks, changes and targets cost beside a training step, and what teachers do.

    python benchmarks/masks_and_targets.py views       # what comes before the network, beside a step
    python benchmarks/masks_and_targets.py teachers    # steps with a second pass, over MAE's: measured, and by `plan`

`views`: what `make_views` does, drawing, corrupting and targets, a compiled program for each setting, in turns; and the
step of the small preset with a random mask and normalised pixels (S/4 at 64 x 64, batches of 8). The share of that step
includes what all settings have: scaled images and draws. The bound is 2%.

`teachers`: whole steps, in turns. The bound is a ratio within a tenth of that of the planned FLOPs.

Prints a table in Markdown, writes JSON.
"""

import os

import common
import keras
import numpy as np

import keras_umd
from keras_umd import Corruption, Objective, View
from keras_umd.corruption import changes, masks, noise
from keras_umd.objectives import Reconstruction, targets

SIZE, PATCH, BATCH = 64, 4, 8
IMAGES = np.random.default_rng(0).integers(0, 256, (BATCH, SIZE, SIZE, 3)).astype("uint8")
BOUND, PLAN_BOUND = 0.02, 0.1
MASKS = {
    "Random()": masks.Random(),
    'ColorNoise("green")': masks.ColorNoise("green"),
    'ColorNoise("blue")': masks.ColorNoise("blue"),
    "Block(0.5)": masks.Block(0.5),
    "InverseBlock()": masks.InverseBlock(),
    "Coarse(Random(), 4)": masks.Coarse(masks.Random(), unit=4),
    "Shared(Random(), 0)": masks.Shared(masks.Random(), axes=0),
    "Product((0.5, 0.5))": masks.Product((0.5, 0.5)),
    "Center()": masks.Center(),
    "Disjoint(Random(), 1)": masks.Disjoint(masks.Random(), part=1),
    "Varying()": masks.Varying(),
    "InPlace(Random())": masks.InPlace(masks.Random()),
    "Given()": masks.Given(),
}
CHANGES = {
    "Frequency(4)": changes.Frequency(4.0),
    'Fill(Random(), "mean")': changes.Fill(masks.Random(), "mean"),
    "ColorAdapt()": changes.ColorAdapt(),
    'HideChannels((1, 2), "opponent")': changes.HideChannels((1, 2), "opponent"),
    "CropInCrop()": changes.CropInCrop(),
}
TARGETS = {
    "X0()": targets.X0(),
    "Pixels()": targets.Pixels(),
    "Pixels(channels=3)": targets.Pixels(channels=3),
    "HOG(cell=4)": targets.HOG(cell=4),
    "Cells(HOG(cell=8), unit=2)": targets.Cells(targets.HOG(cell=8), "cells", unit=2),
    "Fourier()": targets.Fourier(),
    "BandRatios(((0, 1),))": targets.BandRatios(((0, 1),), channels=3),
    "Bordered()": targets.Bordered(),
    'Channels((1, 2), 3, "opponent")': targets.Channels((1, 2), 3, "opponent"),
}
TEACHERS = ("attmask", "hpm", "adamae", "cae")


def main():
    parser = common.parser(__doc__, "runs/masks_and_targets")
    parser.add_argument("what", choices=("views", "teachers"))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--preset", default="small_patch4_64", help="of `teachers`")
    args = parser.parse_args()
    print(f"{args.what}; {common.versions()}")
    rows = views(args) if args.what == "views" else teachers(args)
    common.write_json(os.path.join(args.output, f"{args.what}.json"), rows=rows)


# Views


def views(args):
    plain = View("clean", mask=masks.Random())
    cases = {f"mask | {name}": prepared(View("clean", mask=mask)) for name, mask in MASKS.items()}
    decoded = View("clean", mask=masks.Random(), decoded_ratio=0.5, decoded=masks.RunningCell())
    cases["mask | RunningCell() of decoded patches"] = prepared(decoded)
    cases |= {f"change | {name}": prepared(View("clean", change=change)) for name, change in CHANGES.items()}
    cases["noise | Gaussian()"] = prepared(View("clean", noise=noise.Gaussian(), mask=masks.Random()))
    graded = noise.Graded((0.0, 0.5, 1.0))
    cases["noise | Graded((0, 0.5, 1))"] = prepared(View("clean", noise=graded, mask=masks.Random()))
    cases |= {f"target | {name}": prepared(plain, target) for name, target in TARGETS.items()}
    model = keras_umd.UMD.from_preset("mae_small_patch4_64", objective=objective(targets.Pixels()))
    model.compile("adamw")
    steps = common.in_turns({"step": lambda: model.train_on_batch(IMAGES)}, args.repeats)
    # A step is a hundred times as long: after it a short program would find the caches empty.
    times = common.in_turns({name: repeated(run) for name, run in cases.items()}, args.repeats)
    times = {name: values / REPEATED for name, values in times.items()}
    step = float(np.median(steps["step"][:, 1]))
    print(f"\nA step takes {step:.2f} CPU s.\n\n| kind | setting | CPU ms | of a step |\n| --- | --- | --- | --- |")
    rows = {"step": step}
    for name, values in times.items():
        seconds = float(np.median(values[:, 1]))
        rows[name] = seconds
        print(f"| {name} | {1000 * seconds:.1f} | {seconds / step:.2%}{' **above**' * (seconds > BOUND * step)} |")
    return rows


REPEATED = 10


def repeated(run):
    return lambda: [run() for _ in range(REPEATED)]


def objective(target):
    return Objective([Reconstruction("clean", target)])


def prepared(view, target=None):
    """What `make_views` does for one view, compiled, as a function without arguments."""
    corruption, seed = Corruption(views=[view]), keras.random.SeedGenerator(0)
    of_hidden = view.mask is not None and view.mask.hides_tokens
    where = "unseen" if of_hidden else "all" if view.mask is None else "masked"
    term = Reconstruction("clean", targets.Pixels() if target is None else target, where)

    def run(images):
        images = keras.ops.cast(images, "float32") / 127.5 - 1.0
        draws = corruption.draw(images.shape, PATCH, seed)
        found = corruption.corrupt(images, draws, (PATCH, PATCH))
        return found, Objective([term]).targets(found, (PATCH, PATCH))

    program, images = common.compiled(run, [seed.state]), keras.ops.convert_to_tensor(IMAGES)
    return lambda: finished(program(images))


def finished(outputs):
    """Wait for a program whose results come later."""
    for tensor in keras.tree.flatten(outputs):
        getattr(tensor, "block_until_ready", lambda: None)()


# Teachers


def teachers(args):
    steps, planned = {}, {}
    for name in ("mae", *TEACHERS):
        settings = keras_umd.UMD.presets[name]()
        if name == "mae":
            settings["objective"] = objective(targets.Pixels())
        if name == "adamae":
            settings["corruption"] = Corruption(views=[View("clean", mask=masks.Adaptive(0.75))])
        model = keras_umd.UMD.from_preset(f"mae_{args.preset}", **settings)
        planned[name] = keras_umd.plan(model, BATCH).hardware_flops
        model.compile("adamw")
        steps[name] = lambda model=model: model.train_on_batch(IMAGES)
    times = common.in_turns(steps, args.repeats)
    seconds = {name: float(np.median(values[:, 1])) for name, values in times.items()}
    print("\n| method | CPU s a step | over MAE's | planned | off by |\n| --- | --- | --- | --- | --- |")
    for name in steps:
        measured, expected = seconds[name] / seconds["mae"], planned[name] / planned["mae"]
        off = measured / expected - 1
        above = " **above**" * (abs(off) > PLAN_BOUND)
        print(f"| {name} | {seconds[name]:.2f} | {measured:.2f} | {expected:.2f} | {off:+.0%}{above} |")
    return {"seconds": seconds, "planned": planned}


if __name__ == "__main__":
    main()
