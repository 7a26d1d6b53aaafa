"""Which settings give the best samples and features for the same compute? A table of settings, on small real images.

    python examples/small_data.py emoji; python examples/small_data.py photographs            # the data, once
    python examples/find_recipe.py --data data/emoji --round 1                # every setting, one seed, 10 CPU minutes
    python examples/find_recipe.py --data data/emoji --round 2                # the best four and the paper's, 3 seeds
    python examples/find_recipe.py --data data/emoji --settings "UMD" "one x_0 head" --seeds 0 1
    python examples/find_recipe.py --table                                    # what is there so far

All settings have the network, the batch and the schedule of `recipes.small`, and labels from the first step unless they
say otherwise; a setting changes what is said in `SETTINGS`. "one x_0 head" is `recipes.small` as it is. Each is given
the same CPU seconds: a few steps are timed, as many are planned as fit, and the clock has the last word. Judges are a
classifier trained on the real images (Fréchet distance in its features, which is not FID; precision and recall; the
share of samples that it takes for their label) and probes of the features.

Each finished run is a JSON file in --results, and a picture with a row for each class beside it: the same command goes
on where it was stopped. The classifier is trained once for each data set and kept in --work.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import re
import time

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

import keras_umd
from keras_umd import Corruption, callbacks, data, evaluation, methods, plots, recipes
from keras_umd.corruption import levels, weightings

PAPERS = "UMD"
# What each changes in the arguments of `UMD`.
SETTINGS = {
    PAPERS: {"corruption": Corruption.umd()},
    "UMD, then labels": {"corruption": Corruption.umd()},  # two thirds without labels, a third of fine-tuning
    "MAE": {"corruption": Corruption.mae(), "conditioning": "token"},
    "DiT": {"corruption": Corruption.dit()},
    "MaskDiT": {"corruption": Corruption.maskdit()},
    "SiT": methods.sit(),
    "JiT": methods.jit(),
    "two heads, m_t = 0": {"corruption": Corruption(clean_ratio=0.125, noisy_mask_ratio=0.0)},
    "one x_0 head": methods.umd_x0(),
    "one x_0 head, half clean": methods.umd_x0(clean_ratio=0.5),
    "one x_0 head, m_t = 0.375": methods.umd_x0(noisy_mask_ratio=0.375),
    "one x_0 head, half clean, m_t = 0.375": methods.umd_x0(clean_ratio=0.5, noisy_mask_ratio=0.375),
    "one x_0 head, v weights": methods.umd_x0(weighting="v"),
    "one x_0 head, min-SNR 5": methods.umd_x0(weighting=weightings.MinSNR(5.0)),
    "one x_0 head, logit-normal": methods.umd_x0(levels=levels.LogitNormal()),
    "one x_0 head, v weights, logit-normal": methods.umd_x0(weighting="v", levels=levels.LogitNormal()),
    "one v head": methods.umd_x0(noisy_losses=["v"]),
    "one eps head": methods.umd_x0(noisy_losses=["eps"]),
}
if hasattr(keras_umd.layers, "Block"):
    Block = keras_umd.layers.Block
    SETTINGS["one x_0 head, modern block"] = {**methods.umd_x0(), "block": Block.modern()}
FINALISTS, FINAL_SEEDS = 4, (0, 1, 2)
COLUMNS = ("label_agreement", "frechet_distance", "precision", "recall", "10-shot accuracy", "20-NN accuracy")
SMALLER_IS_BETTER = ("frechet_distance",)
TIMED_STEPS = 10
PICTURED = 8


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, default="data/emoji", help="a folder with train/ and test/")
    parser.add_argument("--round", type=int, choices=(1, 2))
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, help="instead of a round's")
    parser.add_argument("--seeds", type=int, nargs="+", help="instead of a round's")
    parser.add_argument("--cpu-minutes", type=float, default=10, help="of training, for each run")
    parser.add_argument("--wall-minutes", type=float, help="which end a training on a busy machine, too")
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--num-images", type=int, default=450, help="samples to judge")
    parser.add_argument("--guidance", type=float, default=2.0)
    parser.add_argument("--classifier-epochs", type=int, default=15)
    parser.add_argument("--results", type=pathlib.Path, default="docs/results/recipe")
    parser.add_argument("--work", type=pathlib.Path, default="runs/recipe")
    parser.add_argument("--keep-models", action="store_true", help="in --work")
    parser.add_argument("--table", action="store_true", help="run nothing")
    args = parser.parse_args()

    if not args.table:
        names, seeds = plan(args)
        train, test, class_names = load(args)
        judge = make_judge(args, train, test)
        for seed in seeds:
            for name in names:
                path = row_path(args, name, seed)
                if path.exists():
                    continue
                print(f"{args.data.name}: {name}, seed {seed}", flush=True)
                row, picture = run(args, name, seed, train, test, judge)
                plots.save_image(path.with_suffix(".png"), picture)
                unfinished = path.with_suffix(".unfinished")
                unfinished.write_text(json.dumps({**row, "classes": class_names}, indent=1) + "\n")
                unfinished.rename(path)
    print(table(args))


def plan(args):
    """The names of the settings and the seeds that are to run."""
    if args.round == 2 and not args.settings:
        best = ranking(args)
        if not best:
            raise SystemExit("Round 2 takes the best of round 1, and there is none with samples in --results.")
        names = list(dict.fromkeys([*best[:FINALISTS], PAPERS]))
    else:
        names = args.settings or list(SETTINGS)
    return names, args.seeds or (FINAL_SEEDS if args.round == 2 else (0,))


def load(args):
    sets = [
        data.from_folder(args.data / part, image_size=args.image_size, batch_size=256, training=False)
        for part in ("train", "test")
    ]
    arrays = [x.as_arrays(verbose=False) for x in sets]
    return *((images, np.asarray(labels, "int32")) for images, labels in arrays), sets[0].class_names


def make_judge(args, train, test):
    """A network, its reference, and its accuracy on the test images."""
    path = args.work / f"{args.data.name}-{args.image_size}-{args.classifier_epochs}.keras"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        evaluation.train_classifier(*train, epochs=args.classifier_epochs, verbose=False).save(path)
    network = keras.models.load_model(path)
    reference = evaluation.Reference.of(network, train[0], verbose=False)
    metrics = ["frechet", "neighbourhoods", "labels"]
    real = evaluation.evaluate_images(test, reference, network, metrics, verbose=False)
    scores = {name: result.value for name, result in real.items()}
    print(f"The classifier on unseen real images: {shown(scores)}")
    return network, reference, scores


# One run


def run(args, name, seed, train, test, judge):
    num_classes = int(train[1].max()) + 1
    shape = train[0].shape[1:]
    pretrains = name == "UMD, then labels"
    started = time.process_time()
    compiling, seconds = cpu_seconds_of_steps(name, shape, num_classes, train)
    timing = time.process_time() - started
    steps = max(2, int((60 * args.cpu_minutes - (1 + pretrains) * compiling) / seconds))
    keras.utils.set_random_seed(seed)
    if pretrains:
        model, spent, _ = fit(args, name, seed, train[0], None, None, 2 * steps // 3, 2 / 3)
        model = model.with_classes(num_classes)
        model, more, losses = fit(args, name, seed, *train, model, steps - 2 * steps // 3, 1 / 3)
        spent += more
    else:
        model, spent, losses = fit(args, name, seed, *train, None, steps, 1.0)
    if args.keep_models:
        model.save(args.work / f"{row_path(args, name, seed).stem}.keras")
    row = {
        "setting": name,
        "data": args.data.name,
        "image_size": args.image_size,
        "seed": seed,
        "cpu_minutes": args.cpu_minutes,
        "planned_steps": steps,
        "steps": int(model.optimizer.iterations) + (2 * steps // 3 if pretrains else 0),
        "cpu_seconds": round(spent, 1),
        "cpu_seconds_of_timing": round(timing, 1),
        "gigaflops_per_image": round(keras_umd.plan(model, 32).model_flops / 32e9, 4),
        "weights": sum(int(np.prod(variable.shape)) for variable in model.network_weights),
        "losses": losses,
        "guidance": args.guidance,
        "num_images": args.num_images,
        "num_train": len(train[0]),
        "real": judge[2],
        **probe(model, train, test),
        **provenance(),
    }
    if model.corruption.clean_ratio == 1:
        return row, plots.image_grid(model.reconstruct(test[0][:64])["reconstruction"], PICTURED, scale=3)
    network, reference, _ = judge
    sampling = {"num_steps": 20, "sampler": "dpmpp_2m", "guidance": args.guidance}
    scores = evaluation.evaluate_generator(
        model,
        reference,
        network,
        args.num_images,
        metrics=["frechet", "neighbourhoods", "labels"],
        verbose=False,
        **sampling,
    )
    row.update({metric: result.value for metric, result in scores.items()})
    labels = np.repeat(np.arange(num_classes), PICTURED)
    samples = model.generate(labels, seed=1, batch_size=len(labels), **sampling)
    return row, plots.image_grid(samples, PICTURED, scale=3)


def build(name, shape, num_classes, seed, recipe):
    return keras_umd.UMD(**{**recipe.settings, "num_classes": num_classes, "seed": seed, **SETTINGS[name]})


def recipe_of(steps, shape, num_classes, num_images):
    """That of `recipes.small`; its size is that of the shortest training, so that all have the same network."""
    return recipes.small(num_images, steps=min(steps, 9_999), image_shape=shape, num_classes=num_classes)


def cpu_seconds_of_steps(name, shape, num_classes, train):
    """CPU seconds of compilation and of a step; where two kinds of steps are trained, of the dearer one."""
    recipe = recipe_of(100, shape, num_classes, len(train[0]))
    model = build(name, shape, num_classes, 0, recipe)
    model.compile(recipe.optimizer)
    batch = [x[: recipe.batch_size] for x in train]
    began = time.process_time()
    for _ in range(2):
        model.train_on_batch(*batch)
    started = time.process_time()
    for _ in range(TIMED_STEPS):
        model.train_on_batch(*batch)
    return started - began, (time.process_time() - started) / TIMED_STEPS


def fit(args, name, seed, images, labels, model, steps, share):
    """Train for a number of steps, and no longer than a share of the CPU minutes. Returns model, seconds and losses."""
    num_classes = None if labels is None else int(labels.max()) + 1
    recipe = recipe_of(steps, images.shape[1:], num_classes, len(images))
    model = build(name, images.shape[1:], num_classes, seed, recipe) if model is None else model
    model.compile(recipe.optimizer)
    batches = data.on_device(images, labels, batch_size=recipe.batch_size, area_range=(1.0, 1.0), seed=seed)
    clock = callbacks.StopAfter(share * args.cpu_minutes, cpu=True)
    stops = [clock, StopAtStep(steps)]
    if args.wall_minutes:
        stops.append(callbacks.StopAfter(share * args.wall_minutes))
    history = model.fit(batches, epochs=1 + steps // len(batches), callbacks=stops, verbose=0)
    return model, clock.seconds, {key: round(values[-1], 5) for key, values in history.history.items()}


class StopAtStep(keras.callbacks.Callback):
    """Ends a `fit` after this many steps."""

    def __init__(self, steps):
        super().__init__()
        self.steps = steps
        self.done = 0

    def on_train_batch_end(self, batch, logs=None):
        self.done += 1
        if self.done >= self.steps:
            self.model.stop_training = True


def probe(model, train, test):
    """Accuracies of the mean of the patches' tokens, and of raw pixels beside them."""
    shots = min(10, int(np.bincount(train[1]).min()))
    probes = [evaluation.FewShotProbe(shots, num_draws=20), evaluation.KNNProbe(min(20, len(train[0])))]
    pixels = keras.Sequential([keras.Input(train[0].shape[1:]), keras.layers.Flatten()])
    encoders = {"": model.feature_extractor(pooling="mean", timesteps=0), "pixels: ": pixels}
    found = {}
    for prefix, encoder in encoders.items():
        (row,) = evaluation.evaluate_features(encoder, (train, test), probes, verbose=False)
        for metric, result in row.items():
            found[f"{prefix}{metric}"] = result.value
            if result.deviation is not None:
                found[f"{prefix}{metric}, deviation"] = result.deviation
    return found


def provenance():
    try:
        (cpu,) = set(re.findall(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text()))
    except (OSError, ValueError):
        cpu = platform.processor()
    return {
        "date": datetime.date.today().isoformat(),
        "hardware": f"{cpu}, {len(os.sched_getaffinity(0))} of {os.cpu_count()} cores",
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "versions": evaluation.versions(),
    }


# Tables


def row_path(args, name, seed):
    slug = re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-")
    return args.results / f"{args.data.name}-{slug}-{args.cpu_minutes:g}min-seed{seed}.json"


def rows(args):
    return [json.loads(path.read_text()) for path in sorted(args.results.glob("*-seed*.json"))]


def ranking(args):
    """Names of round 1's settings, the best first: by their mean place in label agreement and Fréchet distance."""
    found = [r for r in rows(args) if r["data"] == args.data.name and r["cpu_minutes"] == args.cpu_minutes]
    found = [r for r in found if r["seed"] == 0 and "label_agreement" in r]
    places = {r["setting"]: 0 for r in found}
    for metric in ("label_agreement", "frechet_distance"):
        ordered = sorted(found, key=lambda r: r[metric], reverse=metric not in SMALLER_IS_BETTER)
        for place, r in enumerate(ordered):
            places[r["setting"]] += place
    return sorted(places, key=places.get)


def table(args):
    """Means and, of several seeds, deviations: a table in Markdown."""
    groups = {}
    for row in rows(args):
        groups.setdefault((row["data"], row["cpu_minutes"], row["setting"]), []).append(row)
    lines = [f"| data | CPU minutes | setting | seeds | steps | {' | '.join(COLUMNS)} |"]
    lines.append("|" + " --- |" * (5 + len(COLUMNS)))
    for (name, minutes, setting), group in sorted(groups.items()):
        steps = f"{np.mean([row['steps'] for row in group]):.0f}"
        cells = [cell([row[column] for row in group if column in row]) for column in COLUMNS]
        lines.append(f"| {name} | {minutes:g} | {setting} | {len(group)} | {steps} | {' | '.join(cells)} |")
    return "\n".join(lines)


def cell(values):
    if not values:
        return "-"
    deviation = f" +- {np.std(values, ddof=1):.2g}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{deviation}"


def shown(scores):
    return ", ".join(f"{name} {value:.3f}" for name, value in scores.items())


if __name__ == "__main__":
    main()
