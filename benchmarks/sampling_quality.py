"""Quality of the digits model's samples, by sampler, number of network calls, head and guidance.

    make demo                                   # trains the model
    python benchmarks/sampling_quality.py       # about ten minutes on two cores

Judged by a classifier trained on the real digits: the Fréchet distance between the features of 1,000 samples and of the
real digits (its own scale, no FID), and how often it sees the digit that was asked for. Mean and half the difference of
two seeds. Prints a table, writes JSON and a picture of guidance against steps.
"""

import os

import common
import keras
import numpy as np

import keras_umd
from keras_umd import guidance, plots, samplers

SEED_COUNT = 2


def main():
    parser = common.parser(__doc__, "runs/sampling_quality")
    parser.add_argument("--model", default="runs/quickstart/finetuned.keras")
    parser.add_argument("--num-images", type=int, default=1000)
    args = parser.parse_args()

    train, test = common.digits()
    classifier, features_of, accuracy = common.train_classifier(*train, *test)
    real = features_of.predict(train[0], batch_size=512, verbose=0)
    held_out = features_of.predict(test[0], batch_size=512, verbose=0)
    print(
        f"classifier: {accuracy:.3f} on {len(held_out)} held-out digits, which have a Fréchet distance of "
        f"{keras_umd.evaluation.frechet_distance(held_out, real):.2f} to the training digits"
    )

    model = keras.models.load_model(args.model)
    wanted = np.arange(args.num_images) % 10
    rows = []
    print(f"\n{'':44} calls   Fréchet distance      accuracy")
    for name, num_steps, options in experiments():
        distances, accuracies = [], []
        for seed in range(SEED_COUNT):
            samples = common.generate(model, wanted, num_steps=num_steps, seed=seed, **options)
            distances.append(
                keras_umd.evaluation.frechet_distance(features_of.predict(samples, batch_size=512, verbose=0), real)
            )
            guesses = classifier.predict(samples, batch_size=512, verbose=0).argmax(axis=1)
            accuracies.append(np.mean(guesses == wanted))
        rows.append({"name": name, "num_steps": num_steps, "frechet_distance": distances, "accuracy": accuracies})
        print(
            f"{name:44} {num_steps:5}   {np.mean(distances):8.2f} +- {np.ptp(distances) / 2:.2f}"
            f"      {np.mean(accuracies):.4f}",
            flush=True,
        )
    os.makedirs(args.output, exist_ok=True)
    picture = plots.guidance_grid(model, np.arange(9), num_steps=(5, 10, 20, 100), sampler="dpmpp_2m", scale=4)
    plots.save_image(os.path.join(args.output, "guidance_grid.png"), picture)
    path = os.path.join(args.output, "results.json")
    common.write_json(path, classifier_accuracy=accuracy, num_images=args.num_images, rows=rows)


def experiments():
    """Iterate over name, network calls and other arguments of `generate`."""
    for head in ("eps", "x0"):
        options = {"predict_from": head}
        yield f"DDIM, eta 1, {head} head", 250, options
        yield f"DDIM, eta 0, {head} head", 250, {"sampler": 0.0, **options}
        yield f"DDIM, eta 1, {head} head", 20, options
        yield f"DDIM, eta 0, {head} head", 20, {"sampler": 0.0, **options}
        for grid in ("uniform", "quadratic", "log_snr", "karras"):
            for name, sampler in (("DPM-Solver++ 2M", samplers.DPMSolverPP2M), ("Heun", samplers.Heun)):
                yield f"{name}, {grid}, {head} head", 20, {"sampler": sampler(grid), **options}
    for name, kind in (
        ("guidance 1.5", guidance.Constant(1.5)),
        ("guidance 3", guidance.Constant(3.0)),
        ("guidance 3 in (0.3, 3]", guidance.Interval(3.0, 0.3, 3.0)),
        ("guidance to 3, power-cosine", guidance.PowerCosine(3.0)),
    ):
        yield f"DDIM, eta 1, {name}", 250, {"guidance": kind}
        yield f"DPM-Solver++ 2M, {name}", 20, {"sampler": "dpmpp_2m", "guidance": kind}


if __name__ == "__main__":
    main()
