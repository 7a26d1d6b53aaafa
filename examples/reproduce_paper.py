"""The paper's comparison and its ablations in miniature: UMD, MAE, MaskDiT and DiT on the same images.

Beside them are two methods that the search of docs/results/recipe found: `umd_one_head`, UMD with one head for x_0 of
all patches, and `umd_modern`, the same with a modern block.

    python examples/reproduce_paper.py                             # Fashion-MNIST, which Keras downloads
    python examples/reproduce_paper.py --data path/to/fashion-mnist            # a folder with its four idx files
    python examples/reproduce_paper.py --data cifar10 --flip --patch-size 4    # a data set of TFDS; see --data-dir
    python examples/reproduce_paper.py --data path/to/images --image-size 64   # with the folders train/ and val/
    python examples/reproduce_paper.py --data imagenet_resized/64x64 --flip --preset base --patch-size 4 \
        --batch-size 1024 --pretraining-epochs 800 --finetuning-epochs 50 --base-learning-rate 1.5e-4 \
        --ema-decay 0.9996 --num-images 50000 --num-steps 250                  # the paper's own scale

Each model is pre-trained without labels, probed, fine-tuned with labels and sampled with and without guidance. Recipe,
number of images and size are the same for all; only the corruption differs, and MAE's conditioning (Table 1).
The ablations (Table 2) change one thing about UMD. Samples are judged by the Fréchet distance to the training images in
the features of a classifier that is trained on these. It has its own scale and is not FID; `--inception` adds FID.

After an interruption, the same command continues. At the end it writes a report, with a card for every number;
examples/paper_report.py reports the results so far.
"""

import argparse
import itertools
import json
import os
import sys
import time

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Models that differ in nothing but their seed run the same programs.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", os.path.abspath("runs/compiled"))

import keras
import numpy as np
from paper_report import read, report, slug

import keras_umd
from keras_umd import Corruption, callbacks, data, evaluation, methods, plots, recipes
from keras_umd.utils.atomic import make_folder, write_text, write_whole

# The corruption of each method, and its arguments of the constructor.
METHODS = {
    "MAE": (Corruption.mae(), {"conditioning": "token"}),
    "UMD": (Corruption.umd(), {}),
    "MaskDiT": (Corruption.maskdit(), {}),
    "DiT": (Corruption.dit(), {}),
    "UMD, one head": (methods.umd_one_head()["corruption"], {}),
    "UMD, modern": (methods.umd_modern()["corruption"], {"block": methods.umd_modern()["block"]}),
}
# The paper doesn't give its low r_t0 and its high m_t; these values fit the hours that it reports for them.
ABLATIONS = {
    "x_0 loss only": (Corruption.umd(noisy_losses=["x0"]), {}),
    "eps loss only": (Corruption.umd(noisy_losses=["eps"]), {}),
    "low r_t0 (0.1)": (Corruption.umd(clean_ratio=0.1), {}),
    "high m_t (0.75)": (Corruption.umd(noisy_mask_ratio=0.75), {}),
    "m_t = 0": (Corruption.umd(noisy_mask_ratio=0.0), {}),
    "no AdaLN": (Corruption.umd(), {"conditioning": "token"}),
}
SETTINGS = {**METHODS, **ABLATIONS}
PICTURED = 6  # samples of each class in the pictures
NOISED = 50  # timestep at which methods without clean images are probed (section 5.1)
POOLINGS = ("cls", "mean")
METRICS = ("frechet", "inception_score")


def main():
    args = arguments()
    keep_settings(args)
    train, test = load(args)
    shape = "x".join(map(str, train[0].shape[1:]))
    about = f"{args.data}: {len(train[0])} images of {shape} to train, {len(test[0])} to test"
    print(about)
    command = " ".join(["python", os.path.relpath(sys.argv[0]), *sys.argv[1:]])
    write(os.path.join(args.output, "about.json"), {"command": command, "data": about})
    runs = [(name, 0) for name in args.methods] + [(name, 0) for name in args.ablations]
    runs += [(name, seed) for seed in range(1, args.seeds) for name in args.methods]
    runs += [(name, seed) for seed in range(1, args.ablation_seeds) for name in args.ablations]

    print("\n1. Measuring the cost of a step")
    costs = read(args.output, "costs.json")
    if not {name for name, _ in runs} <= set(costs):
        costs = measure_costs(args, train)
        write(os.path.join(args.output, "costs.json"), costs)
    print("\n2. Training the judges")
    judges = make_judges(args, train, test)
    print("\n3. Measuring the floors")
    once(args, "floors.json", lambda: probe_floors(args, train, test))
    once(args, "real.json", lambda: [{"images": "test", **judged(judges, evaluation.evaluate_images, test[0])}])
    real = np.concatenate([test[0][test[1] == label][:PICTURED] for label in range(test[1].max() + 1)])
    once(args, "real.png", lambda: plots.image_grid(real[: 10 * PICTURED], PICTURED))

    print(f"\n4. {len(runs)} models")
    clock = Clock(args, runs, costs, len(train[0]))
    for name, seed in runs:
        print(f"\n{name}, seed {seed}", flush=True)
        run(args, name, seed, train, test, judges, clock)
    report(args.output)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="fashion-mnist", help="fashion-mnist, a folder, or a data set of TFDS")
    parser.add_argument("--data-dir", help="where TFDS keeps its data sets")
    parser.add_argument("--test-split", default="test", help="of TFDS")
    parser.add_argument("--image-size", type=int, default=32, help="of a folder's and TFDS' images")
    parser.add_argument("--flip", action="store_true", help="flip images at random, where left and right don't matter")
    parser.add_argument(
        "--preset", choices=("tiny", "small", "base", "large"), help="the paper's size, instead of the next four"
    )
    parser.add_argument("--hidden-dim", type=int, default=96)
    parser.add_argument("--num-layers", type=int, default=3)
    parser.add_argument("--decoder-layers", type=int, default=1)
    parser.add_argument("--num-heads", type=int, default=4)
    parser.add_argument("--patch-size", type=int, default=7)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--pretraining-epochs", type=int, default=4)
    parser.add_argument("--finetuning-epochs", type=int, default=1)
    parser.add_argument("--base-learning-rate", type=float, default=8e-3, help="at a batch of 256, of both trainings")
    parser.add_argument("--ema-decay", type=float, default=0.995, help="of the weights' average while fine-tuning")
    parser.add_argument("--seeds", type=int, default=3, help="of the methods")
    parser.add_argument("--ablation-seeds", type=int, default=1)
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=list(METHODS))
    parser.add_argument("--ablations", nargs="*", choices=ABLATIONS, default=list(ABLATIONS))
    parser.add_argument("--shots", type=int, nargs="+", default=[10, 100], help="labelled images of each class")
    parser.add_argument("--num-images", type=int, default=2000, help="to generate of each kind")
    parser.add_argument("--num-steps", type=int, default=16, help="of DPM-Solver++")
    parser.add_argument("--guidance-scale", type=float, default=1.5)
    parser.add_argument("--classifier-epochs", type=int, default=5)
    parser.add_argument("--inception", help="FID's Inception network, for FID: its weights, .pth or .npz")
    parser.add_argument("--output", default="runs/paper")
    return parser.parse_args()


# Training and judging one model


def run(args, name, seed, train, test, judges, clock):
    folder = f"{slug(name)}/seed{seed}"

    def pretrained():
        keras.utils.set_random_seed(seed)
        model = build(args, name, train[0], seed)
        images = data.on_device(train[0], batch_size=args.batch_size, flip=args.flip, seed=seed)
        total_steps = args.pretraining_epochs * len(images)
        model.compile(
            recipes.pretraining_optimizer(total_steps, args.batch_size, base_learning_rate=args.base_learning_rate)
        )
        return fit(args, model, images, args.pretraining_epochs, f"{folder}/pretraining")

    def finetuned():
        model = keras.models.load_model(os.path.join(args.output, folder, "pretrained.keras"))
        keras.utils.set_random_seed(seed)
        model = model.with_classes(int(train[1].max()) + 1)
        options = {"area_range": (0.95, 1.0), "flip": args.flip, "seed": seed}
        images = data.on_device(*train, batch_size=args.batch_size, **options)
        total_steps = args.finetuning_epochs * len(images)
        rate = {"base_learning_rate": args.base_learning_rate, "ema_decay": args.ema_decay}
        model.compile(recipes.finetuning_optimizer(total_steps, args.batch_size, **rate))
        return fit(args, model, images, args.finetuning_epochs, f"{folder}/finetuning")

    def probes():
        model = keras.models.load_model(os.path.join(args.output, folder, "pretrained.keras"))
        return probe(args, model, train, test, 0 if model.corruption.clean_ratio else NOISED, seed)

    def samples():
        model = keras.models.load_model(os.path.join(args.output, folder, "finetuned.keras"))
        rows, trained = [], model.corruption.noisy_losses
        labels = np.repeat(np.arange(model.num_classes), PICTURED)[: 10 * PICTURED]
        for head, scale in itertools.product(("eps", "x0", "both"), (1.0, args.guidance_scale)):
            if head in trained or len(trained) == 2:
                how = {"sampler": "dpmpp_2m", "num_steps": args.num_steps, "predict_from": head, "seed": seed}
                how["guidance"] = scale
                scores = judged(judges, evaluation.evaluate_generator, model, args.num_images, **how)
                rows.append({"head": head, "guidance_scale": scale, **scores})
                picture = plots.image_grid(model.generate(labels, **how), PICTURED)
                write(os.path.join(args.output, folder, f"{head}_{scale:g}.png"), picture)
        return rows

    for stage, file, make in (
        ("pretraining", "pretrained.keras", pretrained),
        ("probing", "probes.json", probes),
        ("finetuning", "finetuned.keras", finetuned),
        ("sampling", "samples.json", samples),
    ):
        clock.start(name, seed, stage)
        once(args, f"{folder}/{file}", make)
        clock.stop()


def build(args, name, images, seed):
    corruption, constructor = SETTINGS[name]
    options = {"image_shape": images.shape[1:], "corruption": corruption, "seed": seed, **constructor}
    if args.preset:
        return keras_umd.UMD.from_preset(f"umd_{args.preset}_patch{args.patch_size}_{images.shape[1]}", **options)
    sizes = ("patch_size", "hidden_dim", "num_layers", "decoder_layers", "num_heads")
    return keras_umd.UMD(**options, **{size: getattr(args, size) for size in sizes})


def fit(args, model, images, epochs, folder):
    run = callbacks.standard(os.path.join(args.output, folder), dataset=images)
    model.fit(images, epochs=epochs, callbacks=run, verbose=2 if not sys.stdout.isatty() else 1)
    return model


def probes_of(args):
    few_shot = [evaluation.FewShotProbe(shots, num_draws=10) for shots in args.shots]
    return [*few_shot, evaluation.KNNProbe(), evaluation.LinearProbe(epochs=20, batch_size=1024, learning_rate=0.4)]


def probe(args, model, train, test, timesteps, seed):
    """Rows of accuracies, of the class token and of the mean of the patches' tokens."""
    how = {"layers": [model.encoder.num_layers], "poolings": POOLINGS, "timesteps": (timesteps,), "seed": seed}
    return evaluation.sweep_features(model, (train, test), probes_of(args), **how, batch_size=500, verbose=False)


def probe_floors(args, train, test):
    """Accuracies of raw pixels and of untrained encoders; these with tokens, as AdaLN-zero starts as the identity."""
    pixels = keras.Sequential([keras.Input(train[0].shape[1:]), keras.layers.Flatten()])
    table = evaluation.evaluate_features(pixels, {"raw pixels": (train, test)}, probes_of(args), verbose=False)
    rows = [{"floor": row["data"], **row} for row in table]
    for seed in range(args.seeds):
        keras.utils.set_random_seed(seed)
        model = build(args, "MAE", train[0], seed)
        rows += [{"floor": "random encoder", **row} for row in probe(args, model, train, test, 0, seed)]
    return rows


def judged(judges, evaluate, source, *arguments, **options):
    """Scores by every judge, of images by `evaluation.evaluate_images` or of a model by `evaluate_generator`."""
    options = {"metrics": METRICS, "batch_size": 500, "verbose": False, **options}
    scores = {}
    for network, reference in judges:
        scores.update(evaluate(source, reference, network, *arguments, **options))
    return scores


def train_classifier(images, labels, epochs):
    keras.utils.set_random_seed(0)
    layers = keras.layers
    x = inputs = keras.Input(images.shape[1:])
    x = layers.Rescaling(1 / 127.5, offset=-1)(x)
    for filters in (32, 64, 128):
        x = layers.Conv2D(filters, 3, strides=2, padding="same", activation="relu")(x)
    x = layers.Dropout(0.3)(layers.Flatten()(x))
    features = layers.Dense(64, activation="relu")(x)
    logits = layers.Dense(int(labels.max()) + 1)(features)
    network = keras.Model(inputs, logits)
    network.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    network.fit(images, labels, batch_size=128, epochs=epochs, verbose=2)
    return keras.Model(inputs, {"features": features, "logits": logits}, name="classifier")


def make_judges(args, train, test):
    """Pairs of a network and its reference: a classifier of the training images, and Inception if it is given."""
    once(args, "classifier.keras", lambda: train_classifier(*train, args.classifier_epochs))
    networks = {"classifier": keras.models.load_model(os.path.join(args.output, "classifier.keras"))}
    if args.inception:
        networks["inception"] = evaluation.FIDInception(args.inception)
    logits = networks["classifier"].predict(test[0], batch_size=1000, verbose=0)["logits"]
    accuracy = float(np.mean(logits.argmax(axis=1) == test[1]))
    print(f"The classifier is right on {accuracy:.3f} of the test images.")
    once(args, "classifier.json", lambda: {"accuracy": accuracy})
    judges = []
    for name, network in networks.items():
        path = os.path.join(args.output, f"{name}.npz")
        if not os.path.exists(path):
            reference = evaluation.Reference.of(network, train[0], keep_features=False, batch_size=1000, verbose=False)
            reference.save(path)
        judges.append((network, evaluation.Reference.load(path)))
    return judges


# Costs and time


def measure_costs(args, train, rounds=5, steps=3):
    """Seconds and FLOPs an image of pre-training, with all settings timed in turns, and of fine-tuning."""
    size = args.batch_size
    models = {name: build(args, name, train[0], 0) for name in [*args.methods, *args.ablations]}
    models["fine-tuning"] = build(args, "UMD", train[0], 0).with_classes(int(train[1].max()) + 1)
    for name, model in models.items():
        model.compile(recipes.pretraining_optimizer(10**6, size))
        batch = [x[:size] for x in train] if name == "fine-tuning" else [train[0][:size]]
        models[name] = (model, batch)
        model.train_on_batch(*batch)  # compiles
    seconds = {name: [] for name in models}
    for _ in range(rounds):
        for name, (model, batch) in models.items():
            started = time.perf_counter()
            for _ in range(steps):
                model.train_on_batch(*batch)  # returns when the losses are there
            seconds[name].append((time.perf_counter() - started) / (steps * size))
    costs = {}
    for name, (model, _) in models.items():
        costs[name] = {
            "seconds": float(np.median(seconds[name])),
            "flops": keras_umd.plan(model, size).model_flops / size,
            "weights": model.count_params(),
        }
        print(f"{name:16} {1e3 * costs[name]['seconds']:7.3f} ms an image, {costs[name]['flops'] / 1e6:7.1f} MFLOP")
    return costs


class Clock:
    """Estimates the remaining time, from the expected times of all stages and the measured ones of the finished."""

    def __init__(self, args, runs, costs, num_images):
        images_judged = 9 * args.num_images * args.num_steps / 3 + num_images / 2
        self.expected = {
            (name, seed, stage): seconds
            for name, seed in runs
            for stage, seconds in {
                "pretraining": args.pretraining_epochs * num_images * costs[name]["seconds"],
                "probing": num_images * costs["fine-tuning"]["seconds"],
                "finetuning": args.finetuning_epochs * num_images * costs["fine-tuning"]["seconds"],
                "sampling": images_judged * costs["fine-tuning"]["seconds"],
            }.items()
        }
        self.done = self.taken = 0
        self.path = os.path.join(args.output, "times.json")
        self.times = read(args.output, "times.json") or {}

    def start(self, *stage):
        self.stage, self.started = stage, time.time()

    def stop(self):
        expected, taken = self.expected.pop(self.stage), time.time() - self.started
        if taken < 0.05 * expected:  # its file existed
            return
        self.done, self.taken = self.done + expected, self.taken + taken
        self.times[", ".join(map(str, self.stage))] = taken
        write(self.path, self.times)
        left = sum(self.expected.values()) * self.taken / self.done
        print(f"  {self.stage[-1]}: {taken:.0f} s; about {left / 60:.0f} minutes left", flush=True)


# Files


def once(args, name, make):
    """Write the result of `make`, a model, a picture or JSON values, unless the file exists. Returns JSON values."""
    path = os.path.join(args.output, name)
    if not os.path.exists(path):
        write(path, make())
    return read(args.output, name) if name.endswith(".json") else None


def write(path, values):
    """An atomic write."""
    make_folder(os.path.dirname(path))
    if path.endswith(".keras"):
        write_whole(path, values.save)
    elif path.endswith(".png"):
        write_whole(path, lambda temporary: plots.save_image(temporary, values))
    else:
        write_text(path, json.dumps(values, indent=1, default=lambda result: result.card))


def keep_settings(args):
    """Write the settings, or stop if the folder has results of other settings."""
    free = ("seeds", "ablation_seeds", "methods", "ablations", "output", "data_dir")
    settings = {name: value for name, value in vars(args).items() if name not in free}
    settings["backend"] = keras.backend.backend()
    earlier = once(args, "settings.json", lambda: settings)
    differing = [name for name in settings if settings[name] != earlier.get(name)]
    if differing:
        details = ", ".join(f"{name}: {earlier.get(name)} there, {settings[name]} now" for name in differing)
        raise SystemExit(f"{args.output} holds results of other settings; give another --output. {details}")


# Data


def load(args):
    """Two pairs of images and labels, to train on and to test on."""
    if args.data == "fashion-mnist":
        sets = keras.datasets.fashion_mnist.load_data()
        return tuple((images[..., None], labels.astype("int32")) for images, labels in sets)
    if os.path.exists(os.path.join(args.data, "train-images-idx3-ubyte.gz")):
        kinds = ("images-idx3", "labels-idx1")
        return tuple(
            data.read_idx(*(os.path.join(args.data, f"{part}-{kind}-ubyte.gz") for kind in kinds))
            for part in ("train", "t10k")
        )
    options = {"image_size": args.image_size, "batch_size": 256, "training": False}
    if os.path.isdir(args.data):
        train = data.from_folder(os.path.join(args.data, "train"), **options)
        val = data.from_folder(os.path.join(args.data, "val"), class_names=train.class_names, **options)
        sets = [train, val]
    else:
        splits = ("train", args.test_split)
        sets = [data.from_tfds(args.data, part, data_dir=args.data_dir, **options) for part in splits]
    return tuple(x.as_arrays() for x in sets)


if __name__ == "__main__":
    main()
