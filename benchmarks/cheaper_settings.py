"""Time and quality of cheaper settings.

    python benchmarks/cheaper_settings.py time                   # CPU seconds of a step, each beside the baseline's
    python benchmarks/cheaper_settings.py digits                 # quality, trained as the demo is
    python benchmarks/cheaper_settings.py fashion                # idx files of Debian's dataset-fashion-mnist

Quality after equal numbers of images: 10-shot accuracy of the class token and of the patch tokens after pre-training;
after fine-tuning with labels the Fréchet distance of 1,000 samples (DPM-Solver++, 20 steps) to the real images in the
features of a small classifier (its own scale, no FID). Prints a table, writes JSON; interrupted, it continues.

What was tried, on two CPU cores that others used too (Keras 3.15.1, JAX 0.10.2). FLOPs of a step's matrix products,
counted by hand for 256 patches at the paper's ratios, and CPU seconds, median of four steps (256 wide, AdaLN-zero),
both over the baseline's; quality on the digits, mean and standard deviation of three seeds:

                                 FLOPs    CPU s   weights    class token       patch tokens      Fréchet distance
    baseline                      1.00     1.00    19.5M    0.764 +- 0.002    0.910 +- 0.003      3.24 +- 0.41
    decoder of half the width     0.69     0.71    16.3M    0.775 +- 0.012    0.905 +- 0.003      5.03 +- 0.61
    half of the masked decoded    0.86     0.83    19.5M    0.754 +- 0.017    0.905 +- 0.002      3.56 +- 0.67
    cross-attention               0.90     0.92    19.5M    not measured
    cross-attention, half         0.80     0.80    19.5M    0.726 +- 0.015    0.905 +- 0.003      3.58 +- 0.26
    adaLN-single                           0.99    14.0M    not measured

Fashion-MNIST, one seed after 1,000 and 400 steps of 64 images, 16 patches, a training too short for good samples:
class token 0.528, 0.581 with half the width, 0.531 with half decoded, 0.502 with cross-attention and half decoded;
patch tokens 0.716, 0.712, 0.718, 0.715; Fréchet distance 128, 260, 127, 109.

Stays, off by default:
- `UMD(decoder_hidden_dim=...)`: the largest gain. The representation is the same within the deviations, the samples are
  worse: for those who want features.
- `Corruption(decoded_ratio=...)`: a gain of a sixth; every difference is within two deviations, so undecided.
Went:
- Cross-attention (CrossMAE: the decoded patches attend to the encoder's tokens, and to nothing else): 4% less than
  decoding half of the masked patches by self-attention, for a worse class token and another kind of block. Its samples
  were as good on the digits, perhaps better on Fashion-MNIST.
- adaLN-single (PixArt: one modulation for all blocks, and an offset for each): fewer weights, no time, so its quality
  was not measured.
"""

import json
import os
import time

import common
import keras
import numpy as np

import keras_umd

BATCH_SIZE = 64
# Arguments of the constructor, with `decoder_hidden_dim` as a share of the encoder's, and of `Corruption.umd`.
SETTINGS = {
    "baseline": ({}, {}),
    "decoder of half the width": ({"decoder_hidden_dim": 0.5}, {}),
    "half of the masked decoded": ({}, {"decoded_ratio": 0.5}),
}
DATA = {
    "digits": {"image_shape": (8, 8, 1), "patch_size": 2, "num_layers": 2, "clean_mask_ratio": 0.5},
    "fashion": {"image_shape": (28, 28, 1), "patch_size": 7, "num_layers": 2, "clean_mask_ratio": 0.5},
}
SCORES = {
    "class_token": "class token",
    "patch_tokens": "patch tokens",
    "frechet_distance": "Fréchet distance",
}


def main():
    parser = common.parser(__doc__, "runs/cheaper_settings")
    parser.add_argument("what", choices=("time", *DATA))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--pretraining-steps", type=int, default=2000)
    parser.add_argument("--finetuning-steps", type=int, default=800)
    parser.add_argument("--hidden-dim", type=int, default=256, help="of the model whose step is timed")
    parser.add_argument("--repeats", type=int, default=7, help="of the timed step")
    parser.add_argument("--fashion-folder", default="/usr/share/datasets/fashion-mnist")
    args = parser.parse_args()
    print(f"{args.what}; {common.versions()}")
    if args.what == "time":
        common.write_json(os.path.join(args.output, "time.json"), rows=time_steps(args))
    else:
        compare(args)


# Time


def time_steps(args):
    """CPU seconds of a step over the baseline's, measured in turn; both of 12 and 4 blocks on 64x64, batch 16."""
    images = np.random.default_rng(0).integers(0, 256, (16, 64, 64, 3)).astype("uint8")
    sizes = {"hidden_dim": args.hidden_dim, "num_heads": args.hidden_dim // 64, "num_layers": 12, "decoder_layers": 4}
    rows, steps = {}, {}
    for name in args.only:
        constructor, corruption = SETTINGS[name]
        model = keras_umd.UMD(
            **{**sizes, "conditioning": "adaln_zero", **sized(constructor, args.hidden_dim)},
            corruption=keras_umd.Corruption.umd(**corruption),
            scan_blocks=True,
        )
        model.compile("adamw")
        model.train_on_batch(images)  # compiles
        steps[name] = model
        rows[name] = {"weights": sum(int(np.prod(v.shape)) for v in model.trainable_variables), "cpu_seconds": []}
        print(f"compiled: {name}", flush=True)
    for _ in range(args.repeats):
        for name, model in steps.items():
            started = time.process_time()
            model.train_on_batch(images)
            rows[name]["cpu_seconds"].append(time.process_time() - started)
    print(f"{'':32} weights   CPU s a step   of the baseline's")
    base = np.median(rows[args.only[0]]["cpu_seconds"])
    for name, row in rows.items():
        seconds = np.median(row["cpu_seconds"])
        print(f"{name:32} {row['weights'] / 1e6:6.2f}M   {seconds:12.3f}   {seconds / base:17.2f}")
    return rows


# Quality


def compare(args):
    train, test = common.digits() if args.what == "digits" else common.fashion_mnist(args.fashion_folder)
    some = slice(0, 5000)
    judged = (shrunk(train[0][:3000]), train[1][:3000], shrunk(test[0][some]), test[1][some])
    _, features_of, accuracy = common.train_classifier(*judged)
    real = features_of.predict(shrunk(train[0][:10_000]), batch_size=512, verbose=0)
    print(f"the classifier's accuracy: {accuracy:.3f}")
    results = read(args.output, args.what)
    for seed in range(args.seeds):
        for name in args.only:
            if f"{name}, seed {seed}" in results:
                continue
            model, conditional = trained(args, name, seed, train)
            samples = common.generate(conditional, np.arange(1000) % 10, num_steps=20, sampler="dpmpp_2m", seed=seed)
            features = features_of.predict(shrunk(samples), batch_size=512, verbose=0)
            results[f"{name}, seed {seed}"] = {
                **few_shot(model, [x[some] for x in train], [x[some] for x in test]),
                "frechet_distance": keras_umd.evaluation.frechet_distance(features, real),
                "weights": sum(int(np.prod(v.shape)) for v in model.trainable_variables),
            }
            print(f"{name}, seed {seed}: {results[f'{name}, seed {seed}']}", flush=True)
            common.write_json(os.path.join(args.output, f"{args.what}.json"), rows=results)
    print(f"\n{'':32}" + "".join(f"{title:>22}" for title in SCORES.values()))
    for name in args.only:
        rows = [row for key, row in results.items() if key.startswith(f"{name}, seed")]
        values = {score: [row[score] for row in rows] for score in SCORES}
        summary = [f"{np.mean(v):12.3f} +- {np.std(v, ddof=len(v) > 1):.3f} " for v in values.values()]
        print(f"{name:32}" + "".join(summary))


def trained(args, name, seed, train):
    """A model after pre-training, and its copy after fine-tuning with labels, as in examples/quickstart.py."""
    keras.utils.set_random_seed(seed)
    data, (constructor, corruption) = dict(DATA[args.what]), SETTINGS[name]
    corruption = keras_umd.Corruption.umd(clean_mask_ratio=data.pop("clean_mask_ratio"), **corruption)
    sizes = {**data, "hidden_dim": 96, "num_heads": 4, "decoder_layers": 1, "conditioning": "token"}
    model = keras_umd.UMD(**{**sizes, **sized(constructor, 96)}, corruption=corruption, seed=seed)
    optimizer = keras_umd.recipes.pretraining_optimizer(args.pretraining_steps, BATCH_SIZE, base_learning_rate=8e-3)
    model.compile(optimizer)
    model.fit(common.RandomBatches(train[:1], args.pretraining_steps, BATCH_SIZE, seed), verbose=0)
    conditional = model.with_classes(10)
    optimizer = keras_umd.recipes.finetuning_optimizer(
        args.finetuning_steps, BATCH_SIZE, base_learning_rate=6e-3, ema_decay=0.99
    )
    conditional.compile(optimizer)
    conditional.fit(common.RandomBatches(train, args.finetuning_steps, BATCH_SIZE, seed), verbose=0)
    return model, conditional


def sized(constructor, hidden_dim):
    """The constructor's arguments for a model of this width: `decoder_hidden_dim` is given as a share of it."""
    constructor = dict(constructor)
    if "decoder_hidden_dim" in constructor:
        constructor["decoder_hidden_dim"] = int(hidden_dim * constructor["decoder_hidden_dim"])
    return constructor


def shrunk(images):
    """Images of 28x28 at half the size, to save the classifier time; those of 8x8 as they are."""
    if images.shape[1] == 8:
        return images
    return images.reshape(-1, 14, 2, 14, 2, 1).mean(axis=(2, 4)).astype("uint8")


def few_shot(model, train, test):
    extractor, accuracies = model.feature_extractor(pooling=None), {}
    probe = keras_umd.evaluation.FewShotProbe(10, num_draws=10)
    for name, network in (("class_token", model), ("patch_tokens", extractor)):
        features = [network.predict(x, batch_size=250, verbose=0).reshape(len(x), -1) for x in (train[0], test[0])]
        accuracies[name] = float(np.mean(probe.accuracies((features[0], train[1]), (features[1], test[1]))))
    return accuracies


def read(folder, name):
    path = os.path.join(folder, f"{name}.json")
    if not os.path.exists(path):
        return {}
    with open(path) as file:
        return json.load(file)["rows"]


if __name__ == "__main__":
    main()
