"""What do masks, targets and methods give for the same compute? A row for each, on small real images.

    python examples/compare_methods.py                                        # all settings, one seed each
    python examples/compare_methods.py --settings MAE colormae "MAE, HOG" --seeds 0 1 2
    python examples/compare_methods.py --table                                # what is there so far

All settings have the same network, batch, optimizer and, counted by `keras_umd.plan`, FLOPs of training: a method that
is cheaper an image sees more images. So the rows are the same on any device, up to rounding. The default of
0.028 PFLOP is 23 epochs of Fashion-MNIST for MAE, about 600 CPU seconds. Features of the class token and the mean of
the patches are judged by two probes and a ridge regression on all labels; the error of reconstruction is that of masked
pixels in [-1, 1], at 75% random masks for all. "raw pixels" and "random encoder" are what a method has to beat.

A setting is a name in `settings`, below, or a method of `keras_umd.methods.list()`, also one of your own. Each finished
run is a JSON file in --results with the cards of its scores, and a picture beside it, of what its mask hides and what
it makes of it: the same command goes on where it was stopped. Runs share nothing, so several commands, each with its
own --settings and --seeds, can run side by side. On an accelerator that small networks leave idle, --together trains
the seeds of a setting as one program (JAX).
"""

import argparse
import itertools
import json
import os
import pathlib
import re
import time

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

import keras_umd
from keras_umd import Corruption, data, decoders, evaluation, methods, plots, recipes
from keras_umd.corruption import View, changes, masks, noise
from keras_umd.objectives import Alignment, Classification, Objective, Reconstruction, targets

PIXELS, RANDOM = "raw pixels", "random encoder"
# Methods that these images can't show, and what they are for.
ELSEWHERE = {"fgmae": "13 bands", "videomae": "videos", "video_mae_random": "videos", "videomae_v2": "videos"}
POOLINGS = {"cls": "class token", "mean": "mean of the patches"}
COLUMNS = [
    f"{shots}, {name}" for name in POOLINGS.values() for shots in ("few-shot", "ridge accuracy", "20-NN accuracy")
]
STEPS_TOGETHER = 50  # steps an execution, so that no accelerator waits for its host
PICTURED = 8


def main():
    args = arguments()
    if not args.table:
        run_missing(args)
    print(table(args))


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", default="fashion-mnist", help="that, a .npz, or a folder of idx files or train/, test/"
    )
    parser.add_argument("--settings", nargs="+", help="all by default")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--petaflops", type=float, default=0.028, help="of training, for each run")
    parser.add_argument("--image-size", type=int, default=32, help="of images in folders")
    parser.add_argument("--patch-size", type=int, default=7)
    parser.add_argument("--hidden-dim", type=int, default=96)
    parser.add_argument("--num-layers", type=int, default=3)
    parser.add_argument("--decoder-layers", type=int, default=1)
    parser.add_argument("--num-heads", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--base-learning-rate", type=float, default=8e-3, help="at a batch of 256")
    parser.add_argument("--shots", type=int, default=100)
    parser.add_argument("--results", type=pathlib.Path, default="docs/results/methods")
    parser.add_argument("--keep-models", action="store_true", help="in --results")
    parser.add_argument("--together", action="store_true", help="the seeds of a setting as one program")
    parser.add_argument("--table", action="store_true", help="run nothing")
    return parser.parse_args()


def run_missing(args):
    """Run what has no row in --results yet."""
    train, test = load(args)
    of_data = args, train[0].shape[1:], int(train[1].max()) + 1
    known = settings(*of_data)
    names = args.settings or list(known)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise SystemExit(f"There is no setting {unknown}; there are {list(known)}. Not for these images: {ELSEWHERE}")
    args.results.mkdir(parents=True, exist_ok=True)
    for name, seeds in missing_jobs(args, names):
        print(f"{name}, seed {', '.join(map(str, seeds))}", flush=True)
        fresh = [settings(*of_data)[name] for _ in seeds]  # terms have weights of their own
        for seed, row, picture in run(args, name, seeds, fresh, train, test):
            path = row_path(args, name, seed)
            if picture is not None:
                plots.save_image(path.with_suffix(".png"), picture)
            unfinished = path.with_suffix(".unfinished")
            unfinished.write_text(json.dumps(row, indent=1) + "\n")
            unfinished.rename(path)


def missing_jobs(args, names):
    """Pairs of a setting and its seeds without a row: all of them with --together, else one at a time."""
    jobs = {}
    for seed, name in itertools.product(args.seeds, names):
        if not row_path(args, name, seed).exists():
            jobs.setdefault(name if args.together else (name, seed), (name, []))[1].append(seed)
    return list(jobs.values())


def settings(args, image_shape, num_classes):
    """What each setting changes in the arguments of `UMD`, by its name; `None` for what isn't trained.

    Small images have few patches and pixels: a cell, a square or a rectangle is 2 patches wide.
    """
    some = ELSEWHERE if image_shape[-1] == 3 else {**ELSEWHERE, "split_brain": "colours"}
    cells = masks.Coarse(masks.Random(0.75), unit=2)
    cell = next(size for size in (8, 7, 6, 5, 4, 3, 2) if args.patch_size % size == 0)
    found = {PIXELS: None, RANDOM: methods.mae()}
    found |= {x.name: keras_umd.UMD.presets[x.name]() for x in methods.list() if x.name not in some}
    found["pixio"] = {**found["pixio"], "corruption": Corruption(views=[View("clean", mask=cells)])}
    found["mfm"]["corruption"] = Corruption(views=[View("clean", change=changes.Frequency(image_shape[0] / 14))])
    found["adamae"]["corruption"] = Corruption(views=[View("clean", mask=masks.Adaptive(0.75))])
    rectangles = masks.InPlace(masks.Block(0.4, min_patches=2))
    found["maskfeat"]["corruption"] = Corruption(views=[View("clean", mask=rectangles)])
    found["maskfeat"]["objective"] = Objective([Reconstruction("clean", targets.HOG(cell=cell), "unseen")])
    found["gmml"]["corruption"].views[0].change.mask.min_patches = 2
    found["context_encoder"]["objective"] = Objective([Reconstruction("clean", targets.Bordered(width=1))])
    halves = [Reconstruction(name, targets.HOG(cell=cell), weight=0.5) for name in ("first", "second")]
    found["dmjd"]["objective"] = Objective(halves)
    found["cae"]["corruption"] = Corruption(views=[View("clean", mask=masks.Block(0.5, min_patches=2))])
    found["cae"]["decoder"] = decoders.Regressor(args.decoder_layers)
    for weight in (0, 2):  # 2 is the paper's, beside another loss
        terms = [Reconstruction("clean", targets.Pixels()), Alignment("clean", weight=weight)]
        found[f"cae, weight {weight}"] = {**found["cae"], "objective": Objective(terms)}
    crops = View("clean", mask=masks.Random(0.9), change=changes.CropInCrop())
    found["cropmae"]["corruption"] = Corruption(views=[crops])
    found["localmim"] |= scales(args.num_layers, cell)
    plain = {
        "MAE, 50%": masks.Random(0.5),
        "MAE, 90%": masks.Random(0.9),
        "MAE, blue noise": masks.ColorNoise("blue", 0.75),
        "MAE, red noise": masks.ColorNoise("red", 0.75),
        "MAE, rectangles": masks.Block(0.5, min_patches=2),
        "MAE, squares": masks.InverseBlock(0.75, size=2),
        "MAE, cells": cells,
        "MAE, centre": masks.Center(0.25),
        "MAE, rows and columns": masks.Product((0.5, 0.5)),
    }
    found |= {name: masked(mask, targets.X0()) for name, mask in plain.items()}
    aims = {
        "MAE, normalised": [targets.Pixels()],
        "MAE, HOG": [targets.HOG(cell=cell)],
        "MAE, spectrum": [targets.Fourier()],
        "MAE, pixels and spectrum": [targets.X0(), targets.Fourier(2.0, focal=True)],
    }
    found |= {name: masked(masks.Random(0.75), *aim) for name, aim in aims.items()}
    found["MAE, all patches count"] = masked(masks.Random(0.75), targets.X0(), where="all")
    graded = noise.Graded((0.0, 0.5, 1.0))
    found["clean to noisy"] = {"corruption": Corruption(views=[View("noisy", noise=graded, mask=masks.Random(0.5))])}
    found["MAE, ratio drawn"] = masked(masks.Varying(), targets.X0(), where="unseen")
    of_labels = [Classification("clean", num_classes, args.hidden_dim)]
    found["MAE and labels"] = masked(masks.Random(0.75), targets.X0(), terms=of_labels, gives_class=True)
    found["MAE and labels"]["num_classes"] = num_classes
    return found


def scales(num_layers, cell):
    """LocalMIM's decoder and objective for two scales: cells of a patch or less from a block in the middle, and of
    2 x 2 patches from the last."""
    aims = {
        "fine": targets.Cells(targets.HOG(cell=cell), "fine"),
        "coarse": targets.Cells(targets.HOG(cell=2 * cell), "coarse", 2),
    }
    return {
        "decoder": decoders.LocalScale({"fine": max(1, num_layers // 2), "coarse": -1}, {"coarse": 2}),
        "objective": Objective([Reconstruction("clean", aim) for aim in aims.values()]),
    }


def masked(mask, *aims, where="masked", terms=(), **options):
    """MAE with this mask and these targets."""
    objective = Objective([*(Reconstruction("clean", aim, where) for aim in aims), *terms])
    corruption = Corruption(views=[View("clean", mask=mask, **options)])
    return {"corruption": corruption, "objective": objective, "conditioning": "token"}


# One run


def run(args, name, seeds, settings_of_seeds, train, test):
    """Triples of a seed, its row and its picture."""
    started = time.perf_counter()
    row = {"setting": name, "data": str(args.data), "petaflops": args.petaflops, **sizes(args)}
    row |= {
        "batch_size": args.batch_size,
        "base_learning_rate": args.base_learning_rate,
        "num_train": len(train[0]),
        "num_test": len(test[0]),
    }
    if settings_of_seeds[0] is None:
        pixels = keras.Sequential([keras.Input(train[0].shape[1:]), keras.layers.Flatten()])
        scores = probe(args, dict.fromkeys(POOLINGS.values(), pixels), train, test)
        yield from ((seed, row | {"seed": seed} | scores, None) for seed in seeds)
        return
    models = []
    for seed, setting in zip(seeds, settings_of_seeds, strict=True):
        keras.utils.set_random_seed(seed)
        models.append(keras_umd.UMD(**{"image_shape": train[0].shape[1:], **sizes(args), "seed": seed, **setting}))
    flops = keras_umd.plan(models[0], args.batch_size).model_flops / args.batch_size
    row |= {"megaflops_per_image": round(flops / 1e6, 2)}
    row |= {"weights": sum(int(np.prod(variable.shape)) for variable in models[0].network_weights)}
    trained = [{} for _ in seeds]
    if name != RANDOM:
        labels = None if models[0].num_classes is None else train[1]
        trained = fit(args, models, flops, seeds, train[0], labels)
    for seed, model, of_model in zip(seeds, models, trained, strict=True):
        if args.keep_models:
            model.save(row_path(args, name, seed).with_suffix(".keras"))
        timesteps = 0 if any(view.noise is None for view in model.corruption.views) else 50
        encoders = {title: model.feature_extractor(pooling=how, timesteps=timesteps) for how, title in POOLINGS.items()}
        scores = probe(args, encoders, train, test)
        errors, picture = reconstruct(model, test[0])
        seconds = {"seconds": round(time.perf_counter() - started, 1)}
        yield seed, row | {"seed": seed} | of_model | scores | errors | seconds, picture


def sizes(args):
    names = ("patch_size", "hidden_dim", "num_layers", "decoder_layers", "num_heads")
    return {name: getattr(args, name) for name in names}


def fit(args, models, flops, seeds, images, labels):
    """Train a model for each seed, for the FLOPs of a run. Returns the steps of each, its losses and what they took."""
    steps = round(args.petaflops * 1e15 / (flops * args.batch_size))
    together = 1 if keras.backend.backend() == "torch" else max(1, min(STEPS_TOGETHER, steps))
    steps = max(1, steps // together) * together
    how = {"batch_size": args.batch_size, "area_range": (0.95, 1.0), "flip": True}
    datasets = [data.on_device(images, labels, **how, seed=seed) for seed in seeds]
    is_together, losses = args.together and len(seeds) > 1, []
    started, cpu = time.perf_counter(), time.process_time()
    for seed, model, batches in zip(seeds, models, datasets, strict=True):
        keras.utils.set_random_seed(seed)
        optimizer = recipes.pretraining_optimizer(steps, args.batch_size, base_learning_rate=args.base_learning_rate)
        model.compile(optimizer, steps_per_execution=together)
        if not is_together:
            history = model.fit(batches.repeat(), steps_per_epoch=steps, shuffle=False, verbose=0).history
            losses.append({key: values[-1] for key, values in history.items()})
    if is_together:
        from several_seeds import fit_together

        losses = fit_together(models, datasets, steps_per_epoch=steps)
    took = {
        "steps": steps,
        "epochs": round(steps * args.batch_size / len(images), 2),
        "seconds_of_training": round((time.perf_counter() - started) / len(seeds), 1),
        "cpu_seconds_of_training": round((time.process_time() - cpu) / len(seeds), 1),
    }
    return [{**took, "losses": {key: round(value, 5) for key, value in one.items()}} for one in losses]


def probe(args, encoders, train, test):
    """Accuracies of several features, and their cards."""
    few_shot = evaluation.FewShotProbe(min(args.shots, int(np.bincount(train[1]).min())), num_draws=10)
    neighbours = evaluation.KNNProbe(min(20, len(train[0])))
    names = {few_shot.name: "few-shot", neighbours.name: "20-NN accuracy"}
    scores, cards = {}, []
    for title, encoder in encoders.items():
        probes = [few_shot, neighbours, evaluation.FewShotProbe(None)]
        (found,) = evaluation.evaluate_features(encoder, (train, test), probes, batch_size=500, verbose=False)
        scores |= {f"{names.get(metric, metric)}, {title}": result.value for metric, result in found.items()}
        cards += [result.card for result in found.values()]
    return {**scores, "cards": cards}


def reconstruct(model, images):
    """The errors of masked pixels, and a picture: what the masks hide, and images, masked and filled in again."""
    pictures, errors = [], {}
    if any(view.mask is not None for view in model.corruption.views):
        try:
            pictures.append(plots.masks(model, grid=model.grid, num_images=PICTURED, scale=2 * max(model.patch_size)))
        except ValueError as error:  # of masks that look at images
            print(f"No picture of the mask: {error}")
    try:
        result = model.reconstruct(images[:1000], seed=0)
    except ValueError as error:  # of models that predict no pixels
        print(f"No reconstruction: {error}")
    else:
        is_masked = np.broadcast_to(result["mask"], images[:1000].shape)
        differences = (result["reconstruction"] / 127.5 - images[:1000] / 127.5)[is_masked]
        # Normalised pixels get mean and contrast from the true patch: an error of another kind.
        is_normalised = any(getattr(target, "normalize", False) for target in model.objective.heads().values())
        errors["error, with the true contrast" if is_normalised else "error"] = float(np.mean(differences**2))
        shown = {key: values[:PICTURED] for key, values in result.items()}
        pictures.append(plots.reconstruction_grid(images[:PICTURED], shown, scale=2))
    return errors, stacked(pictures)


def stacked(pictures):
    """One picture below the other, on white; `None` of none."""
    width = max((picture.shape[1] for picture in pictures), default=0)
    widened = [np.pad(x, ((0, 8), (0, width - x.shape[1]), (0, 0)), constant_values=255) for x in pictures]
    return np.concatenate(widened) if widened else None


# Data


def load(args):
    """Two pairs of images and labels, to train on and to test on."""
    path = pathlib.Path(args.data)
    if args.data == "fashion-mnist":
        sets = keras.datasets.fashion_mnist.load_data()
        return tuple((images[..., None], labels.astype("int32")) for images, labels in sets)
    if path.suffix == ".npz":
        arrays = np.load(path)
        return tuple((arrays[f"x_{part}"], arrays[f"y_{part}"].astype("int32")) for part in ("train", "test"))
    if (path / "train-images-idx3-ubyte.gz").exists():
        kinds = ("images-idx3", "labels-idx1")
        return tuple(data.read_idx(*(path / f"{x}-{kind}-ubyte.gz" for kind in kinds)) for x in ("train", "t10k"))
    options = {"image_size": args.image_size, "batch_size": 256, "training": False}
    sets = [data.from_folder(path / part, **options).as_arrays(verbose=False) for part in ("train", "test")]
    return tuple((images, np.asarray(labels, "int32")) for images, labels in sets)


# Tables


def row_path(args, name, seed):
    slug = re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-")
    return args.results / f"{slug}-seed{seed}.json"


def table(args):
    """Means and, of several seeds, deviations, the best first: a table in Markdown."""
    groups = {}
    for path in sorted(args.results.glob("*-seed*.json")):
        row = json.loads(path.read_text())
        groups.setdefault(row["setting"], []).append(row)
    columns = [*COLUMNS, "error"]
    lines = [
        f"| setting | seeds | MFLOP an image | epochs | {' | '.join(columns)} |",
        "|" + " --- |" * (4 + len(columns)),
    ]
    for name, group in sorted(groups.items(), key=lambda item: -np.mean([row[COLUMNS[0]] for row in item[1]])):
        costs = [f"{np.mean([row.get(key, 0) for row in group]):.1f}" for key in ("megaflops_per_image", "epochs")]
        cells = [cell([row[column] for row in group if column in row]) for column in columns]
        lines.append(f"| {name} | {len(group)} | {' | '.join([*costs, *cells])} |")
    return "\n".join(lines)


def cell(values):
    if not values:
        return ""
    spread = f" +- {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread}"


if __name__ == "__main__":
    main()
