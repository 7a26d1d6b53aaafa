"""Which settings give the best samples and features for the same compute? A table of settings, on small real images.

    python examples/small_data.py emoji; python examples/small_data.py photographs            # the data, once
    python examples/find_recipe.py --data data/emoji --round 1                # every setting, one seed
    python examples/find_recipe.py --data data/emoji --round 2                # the best four and the paper's, 3 seeds
    python examples/find_recipe.py --data data/emoji --settings "UMD" "one x_0 head" --seeds 0 1
    python examples/find_recipe.py --table                                    # what is there so far

All settings have the network, the batch and the schedule of `recipes.small`, and labels from the first step unless they
say otherwise; a setting changes what is said in `SETTINGS`. "one x_0 head" is `recipes.small` as it is. Each is given
the same FLOPs, as `keras_umd.plan` counts them, in whole epochs, so that the number of steps doesn't depend on the
machine: 50 TFLOPs are 3,300 steps of "one x_0 head", about 10 minutes on two cores. Judges are a classifier trained on
the real images (Fréchet distance in its features, which is not FID; precision and recall; the share of samples that it
takes for their label) and probes of the features.

Each finished run is a JSON file in --results, and a picture with a row for each class beside it: the same command goes
on where it was stopped. The classifier is trained once for each data set and kept in --work. On an accelerator that
small networks leave idle, --together trains the seeds of a setting as one program (JAX), and --processes so many
settings at a time.
"""

import argparse
import datetime
import itertools
import json
import os
import pathlib
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

import keras_umd
from keras_umd import Corruption, data, evaluation, methods, plots, recipes
from keras_umd.corruption import levels, weightings
from keras_umd.layers import Block

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
    "one x_0 head, half clean, m_t = 0.375": methods.umd_one_head(),
    "one x_0 head, v weights": methods.umd_x0(weighting="v"),
    "one x_0 head, min-SNR 5": methods.umd_x0(weighting=weightings.MinSNR(5.0)),
    "one x_0 head, logit-normal": methods.umd_x0(levels=levels.LogitNormal()),
    "one x_0 head, v weights, logit-normal": methods.umd_x0(weighting="v", levels=levels.LogitNormal()),
    "one v head": methods.umd_x0(noisy_losses=["v"]),
    "one eps head": methods.umd_x0(noisy_losses=["eps"]),
    "one x_0 head, modern block": {**methods.umd_x0(), "block": Block.modern()},
    "one x_0 head, half clean, m_t = 0.375, modern block": {
        **methods.umd_x0(clean_ratio=0.5, noisy_mask_ratio=0.375),
        "block": Block.modern(),
    },
    "one x_0 head, half clean, m_t = 0.375, logit-normal": methods.umd_x0(
        clean_ratio=0.5, noisy_mask_ratio=0.375, levels=levels.LogitNormal()
    ),
    "one x_0 head, half clean, m_t = 0.375, learned levels": methods.umd_x0(
        clean_ratio=0.5, noisy_mask_ratio=0.375, levels=levels.Adaptive()
    ),
    "one x_0 head, half clean, m_t = 0.375, modern block without tokens": methods.umd_modern(),
    "UMD, modern block": {"corruption": Corruption.umd(), "block": Block.modern()},
}
JAX = keras.backend.backend() == "jax"  # where an epoch is one program, and the host isn't waited for
FINALISTS, FINAL_SEEDS = 4, (0, 1, 2)
COLUMNS = ("label_agreement", "frechet_distance", "precision", "recall", "10-shot accuracy", "20-NN accuracy")
SMALLER_IS_BETTER = ("frechet_distance",)
PLANNED = 32  # images of a batch whose FLOPs are counted
PICTURED = 8


def main():
    args = arguments()
    if not args.table:
        run_missing(args)
    print(table(args))


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, default="data/emoji", help="a folder with train/ and test/")
    parser.add_argument("--round", type=int, choices=(1, 2))
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, help="instead of a round's")
    parser.add_argument("--seeds", type=int, nargs="+", help="instead of a round's")
    parser.add_argument("--teraflops", type=float, default=50, help="of training, for each run")
    parser.add_argument("--processes", type=int, default=1, help="settings at a time")
    parser.add_argument("--together", action="store_true", help="the seeds of a setting as one program")
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--num-images", type=int, default=450, help="samples to judge")
    parser.add_argument("--guidance", type=float, default=2.0)
    parser.add_argument("--classifier-epochs", type=int, default=15)
    parser.add_argument("--results", type=pathlib.Path, default="docs/results/recipe")
    parser.add_argument("--work", type=pathlib.Path, default="runs/recipe")
    parser.add_argument("--keep-models", action="store_true", help="in --work")
    parser.add_argument("--table", action="store_true", help="run nothing")
    return parser.parse_args()


def run_missing(args):
    """Run what has no row in --results yet: in this process, or each job in one of its own."""
    train, test, class_names = load(args)
    judge = make_judge(args, train, test)
    jobs = missing_jobs(args)
    if args.processes > 1 and len(jobs) > 1:
        with ThreadPoolExecutor(args.processes) as pool:
            statuses = list(pool.map(start_process, jobs))
        failed = [job for job, status in zip(jobs, statuses, strict=True) if status]
        if failed:
            raise SystemExit(f"These runs failed: {failed}")
        return
    for name, seeds in jobs:
        print(f"{args.data.name}: {name}, seed {', '.join(map(str, seeds))}", flush=True)
        for seed, row, picture in run(args, name, seeds, train, test, judge):
            path = row_path(args, name, seed)
            plots.save_image(path.with_suffix(".png"), picture)
            unfinished = path.with_suffix(".unfinished")
            unfinished.write_text(json.dumps({**row, "classes": class_names}, indent=1) + "\n")
            unfinished.rename(path)


def missing_jobs(args):
    """Pairs of a setting and its seeds without a row: all of them with --together, else one at a time."""
    names, seeds = plan(args)
    jobs = {}
    for seed, name in itertools.product(seeds, names):
        if not row_path(args, name, seed).exists():
            jobs.setdefault(name if args.together else (name, seed), (name, []))[1].append(seed)
    return list(jobs.values())


def start_process(job):
    """A setting and its seeds, by this command in a process of its own, where later arguments win: its exit status."""
    name, seeds = job
    own = ["--settings", name, "--processes", "1", "--seeds", *map(str, seeds)]
    return subprocess.run([sys.executable, *sys.argv, *own], check=False, stdout=subprocess.DEVNULL).returncode


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


def run(args, name, seeds, train, test, judge):
    """Triples of a seed, its row and its picture."""
    num_classes = int(train[1].max()) + 1
    started = time.process_time(), time.perf_counter()
    if name == "UMD, then labels":
        models, steps, _ = fit(args, name, seeds, train[0], None, None, 2 / 3)
        models = [model.with_classes(num_classes) for model in models]
        models, more, losses = fit(args, name, seeds, *train, models, 1 / 3)
        steps += more
    else:
        models, steps, losses = fit(args, name, seeds, *train, None, 1.0)
    seconds = time.process_time() - started[0], time.perf_counter() - started[1]
    for seed, model, of_model in zip(seeds, models, losses, strict=True):
        if args.keep_models:
            model.save(args.work / f"{row_path(args, name, seed).stem}.keras")
        row = {
            "setting": name,
            "data": args.data.name,
            "image_size": args.image_size,
            "seed": seed,
            "teraflops": args.teraflops,
            "steps": steps,
            "cpu_seconds": round(seconds[0] / len(seeds), 1),
            "seconds": round(seconds[1] / len(seeds), 1),
            "gigaflops_per_image": round(flops_per_image(model) / 1e9, 4),
            "weights": sum(int(np.prod(variable.shape)) for variable in model.network_weights),
            "losses": of_model,
            "num_train": len(train[0]),
            "real": judge[2],
            **probe(model, train, test),
            **provenance(),
        }
        scores, picture = sample(args, model, num_classes, test, judge)
        yield seed, {**row, **scores}, picture


def sample(args, model, num_classes, test, judge):
    """Scores of samples and some of them; of a model without, its reconstructions."""
    if model.corruption.clean_ratio == 1:
        return {}, plots.image_grid(model.reconstruct(test[0][:64])["reconstruction"], PICTURED, scale=3)
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
    scores = {metric: result.value for metric, result in scores.items()}
    labels = np.repeat(np.arange(num_classes), PICTURED)
    samples = model.generate(labels, seed=1, batch_size=len(labels), **sampling)
    scores.update(guidance=args.guidance, num_images=args.num_images)
    return scores, plots.image_grid(samples, PICTURED, scale=3)


def build(name, num_classes, seed, recipe):
    return keras_umd.UMD(**{**recipe.settings, "num_classes": num_classes, "seed": seed, **SETTINGS[name]})


def recipe_of(steps, shape, num_classes, num_images):
    """That of `recipes.small`; its size is that of the shortest training, so that all have the same network."""
    return recipes.small(num_images, steps=min(steps, 9_999), image_shape=shape, num_classes=num_classes)


def flops_per_image(model):
    return keras_umd.plan(model, PLANNED).model_flops / PLANNED


def fit(args, name, seeds, images, labels, models, share):
    """Train a model for each seed, for a share of the FLOPs, in whole epochs. Returns models, steps and losses."""
    num_classes = None if labels is None else int(labels.max()) + 1
    task = images.shape[1:], num_classes, len(images)
    batch_size = recipe_of(1, *task).batch_size
    datasets = [
        data.on_device(images, labels, batch_size=batch_size, area_range=(1.0, 1.0), seed=seed) for seed in seeds
    ]
    steps_per_epoch = len(datasets[0])
    built, losses, is_together = [], [], args.together and len(seeds) > 1
    for number, seed in enumerate(seeds):
        keras.utils.set_random_seed(seed)
        model = build(name, num_classes, seed, recipe_of(1, *task)) if models is None else models[number]
        flops = args.teraflops * 1e12 / flops_per_image(model)
        epochs = max(1, round(share * flops / batch_size / steps_per_epoch))
        steps = epochs * steps_per_epoch
        model.compile(recipe_of(steps, *task).optimizer, steps_per_execution=steps_per_epoch if JAX else 1)
        if not is_together:
            history = model.fit(datasets[number], epochs=epochs, verbose=0).history
            losses.append({key: values[-1] for key, values in history.items()})
        built.append(model)
    if is_together:
        from several_seeds import fit_together

        losses = fit_together(built, datasets, epochs)
    return built, steps, [{key: round(value, 5) for key, value in of_model.items()} for of_model in losses]


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
    diagnosis = keras_umd.doctor()
    return {
        "date": datetime.date.today().isoformat(),
        "device": diagnosis.devices,
        "float32_products": diagnosis.precision["float32_products"],
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "versions": evaluation.versions(),
    }


# Tables


def row_path(args, name, seed):
    slug = re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-")
    return args.results / f"{args.data.name}-{slug}-{args.teraflops:g}tflops-seed{seed}.json"


def rows(args):
    return [json.loads(path.read_text()) for path in sorted(args.results.glob("*-seed*.json"))]


def ranking(args):
    """Names of round 1's settings, the best first: by their mean place in label agreement and Fréchet distance."""
    found = [r for r in rows(args) if r["data"] == args.data.name and r["teraflops"] == args.teraflops]
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
        groups.setdefault((row["data"], row["teraflops"], row["setting"]), []).append(row)
    lines = [f"| data | TFLOPs | setting | seeds | GFLOPs an image | steps | {' | '.join(COLUMNS)} |"]
    lines.append("|" + " --- |" * (6 + len(COLUMNS)))
    for (name, teraflops, setting), group in sorted(groups.items()):
        cost = f"{group[0]['gigaflops_per_image']:.2f}"
        steps = f"{np.mean([row['steps'] for row in group]):.0f}"
        cells = [cell([row[column] for row in group if column in row]) for column in COLUMNS]
        lines.append(f"| {name} | {teraflops:g} | {setting} | {len(group)} | {cost} | {steps} | {' | '.join(cells)} |")
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
