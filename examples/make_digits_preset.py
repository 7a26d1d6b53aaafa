"""Make the preset `umd_digits`, which comes with the package: the digits of the demo, trained in three CPU minutes.

    python examples/make_digits_preset.py --folder keras_umd/models/shipped/umd_digits

It is the training of `examples/quickstart.py` with more steps of fine-tuning, saved as averages in float16. The results
on its card are measured here, with the weights as they are loaded from the folder.
"""

import argparse
import os
import tempfile
import time

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from sklearn.datasets import load_digits

import keras_umd
from keras_umd import evaluation

BATCH_SIZE = 64
SAMPLING = {"num_steps": 20, "sampler": "dpmpp_2m", "guidance": 2.0, "seed": 0}
DESCRIPTION = (
    "Handwritten digits of 8x8 pixels, by class or without; 85% of the 1797 images of scikit-learn's `load_digits`, a "
    "copy of the test set of the UCI data set "
    '"Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak, 1998, doi.org/10.24432/C50P49, CC BY 4.0), '
    "scaled to uint8. Made by examples/make_digits_preset.py in {minutes:.0f} CPU minutes; to try things, not to read "
    "digits with."
)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", default="runs/umd_digits")
    parser.add_argument("--pretraining-steps", type=int, default=2000)
    parser.add_argument("--finetuning-steps", type=int, default=2000)
    args = parser.parse_args()

    started = time.process_time()
    keras.utils.set_random_seed(0)
    train, test = digits()
    model = train_model(train, args.pretraining_steps, args.finetuning_steps)
    about = {"license": "cc-by-4.0", "description": DESCRIPTION.format(minutes=(time.process_time() - started) / 60)}
    what = {"weights": "average", "dtype": "float16"}
    # Once to measure what a file of float16 is worth, once with these results on its card.
    with tempfile.TemporaryDirectory() as folder:
        model.save_to_preset(folder, **what, **about)
        results = measured(keras_umd.UMD.from_preset(folder), train, test)
    model.save_to_preset(args.folder, **what, **about, results=results)
    for result in results:
        print(result.line())


def digits():
    """Images and labels to train on and to test, shuffled as in the demo."""
    data = load_digits()
    images = np.round(data.images[..., None] * (255 / 16)).astype("uint8")
    order = np.random.default_rng(0).permutation(len(images))
    images, labels = images[order], data.target[order].astype("int32")
    size = int(0.85 * len(images))
    return (images[:size], labels[:size]), (images[size:], labels[size:])


def train_model(train, pretraining_steps, finetuning_steps):
    images, labels = train
    model = keras_umd.UMD(
        image_shape=(8, 8, 1),
        patch_size=2,
        hidden_dim=96,
        num_layers=2,
        num_heads=4,
        decoder_layers=1,
        conditioning="token",
        corruption=keras_umd.Corruption.umd(clean_mask_ratio=0.5),
        seed=0,
    )
    fit(model, keras_umd.recipes.pretraining_optimizer, pretraining_steps, (images,), base_learning_rate=8e-3)
    model = model.with_classes(10)
    rates = {"base_learning_rate": 6e-3, "ema_decay": 0.995}
    fit(model, keras_umd.recipes.finetuning_optimizer, finetuning_steps, (images, labels), **rates)
    return model


def fit(model, recipe, steps, arrays, **rates):
    model.compile(recipe(steps, BATCH_SIZE, **rates))
    rng, epochs = np.random.default_rng(0), min(10, steps)
    for _ in range(epochs):
        chosen = rng.integers(0, len(arrays[0]), (steps // epochs) * BATCH_SIZE)
        model.fit(*(array[chosen] for array in arrays), batch_size=BATCH_SIZE, shuffle=False, verbose=2)


def measured(model, train, test):
    """What the features are worth with ten labels a class, and how many samples a classifier takes for their label."""
    extractor = model.feature_extractor(pooling=None)
    tokens = [extractor.predict(images, verbose=0).reshape(len(images), -1) for images in (train[0], test[0])]
    shots = evaluation.FewShotProbe(10, num_draws=10).accuracies((tokens[0], train[1]), (tokens[1], test[1]))
    labels = np.repeat(np.arange(10), 50)
    samples = model.generate(labels, **SAMPLING)
    pixels = [images.reshape(len(images), -1) / 255.0 for images in (train[0], test[0], samples)]
    neighbours = evaluation.KNNProbe(5)
    right = {
        name: float(np.mean(neighbours.accuracies((pixels[0], train[1]), (x, y))))
        for name, x, y in (("test", pixels[1], test[1]), ("samples", pixels[2], labels))
    }
    data = {"data": "scikit-learn's digits", "train": len(train[0]), "test": len(test[0])}
    judge = {"judge": "5 nearest neighbours among the training pixels", "of real test images": round(right["test"], 3)}
    return [
        evaluation.Result(
            "10-shot accuracy", np.mean(shots), {**data, "features": "patch tokens", "draws": 10}, {}, np.std(shots)
        ),
        evaluation.Result("samples taken for their label", right["samples"], {"samples": 500, **SAMPLING, **judge}, {}),
    ]


if __name__ == "__main__":
    main()
