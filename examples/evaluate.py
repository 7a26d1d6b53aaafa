"""Evaluate a saved model's features and images, and write tables, cards and pictures.

    make demo                                                      # trains the digits' models
    python examples/evaluate.py                                    # evaluates them on images they haven't seen
    python examples/evaluate.py --model model.keras --data path/to/images      # with the folders train/ and val/
    python examples/evaluate.py --model model.keras --data imagenet2012        # of TFDS; see --data-dir
    python examples/evaluate.py --inception pt_inception-2015-12-05-6726825d.pth --num-images 50000     # FID, IS, KID
    python examples/evaluate.py --sweep             # averages, guidance, steps and samplers: the best by distance

Without the weights of FID's own Inception network, a classifier is trained on the real images, and the distances are
those of its features: good to compare models on this data set, and not FID.
"""

import argparse
import os

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

from keras_umd import data, evaluation, plots


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="runs/quickstart/finetuned.keras")
    parser.add_argument("--data", default="digits", help="digits, a folder with train/ and val/, or a data set of TFDS")
    parser.add_argument("--data-dir", help="where TFDS keeps its data sets")
    parser.add_argument("--validation-split", default="validation", help="of TFDS")
    parser.add_argument("--inception", help="FID's Inception network: its weights, .pth or .npz, or a .keras file")
    parser.add_argument("--shots", type=int, default=10, help="labelled images of each class")
    parser.add_argument("--num-images", type=int, default=1000, help="to generate; the literature takes 50,000")
    parser.add_argument("--num-steps", type=int, default=50)
    parser.add_argument("--guidance", type=float, default=1.0)
    parser.add_argument("--sweep", action="store_true", help="find the best settings first")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--output", default="runs/evaluate")
    args = parser.parse_args()

    model = keras.models.load_model(args.model)
    train, test = load(args, model)
    os.makedirs(args.output, exist_ok=True)

    print("\n1. Choosing the best features on a part of the training images")
    probe = evaluation.FewShotProbe(args.shots)
    table = evaluation.sweep_features(model, split(train), probe, batch_size=args.batch_size, verbose=False)
    picture = plots.heatmaps(table, probe.name, "layer", "timesteps")
    save(args, "features", table, picture)
    best = {name: table.best(probe.name)[name] for name in ("layer", "pooling", "timesteps")}
    print(f"The best: {best}")

    print("\n2. Probing them on unseen images")
    encoders = {
        "the paper's, class token": model.feature_extractor(),
        "the best": model.feature_extractor(**best, seed=0),
        "raw pixels": keras.Sequential([keras.Input(model.image_shape), keras.layers.Flatten()]),
    }
    probes = [probe, evaluation.KNNProbe(), evaluation.LinearProbe(epochs=20)]
    table = evaluation.Table()
    for name, encoder in encoders.items():
        (row,) = evaluation.evaluate_features(encoder, (train, test), probes, batch_size=args.batch_size, verbose=False)
        table.append({"features": name, **row})
    save(args, "representation", table)

    if model.corruption.clean_ratio == 1:
        print("\nThe model was trained on clean images alone and doesn't generate.")
        return

    print("\n3. Scoring generated images")
    network = inception(args.inception) if args.inception else classifier(train, test, args.batch_size)
    reference = evaluation.Reference.of(network, train[0], batch_size=args.batch_size)
    settings = {"num_steps": args.num_steps, "guidance": args.guidance, "sampler": "ddim"}
    if args.sweep:
        table = evaluation.sweep_generation(
            model,
            reference,
            network,
            num_images=args.num_images,
            samplers=("ddim", "dpmpp_2m"),
            num_steps=(10, 20, args.num_steps),
            guidance=(1.0, 1.5, 2.0) if model.num_classes else (1.0,),
            weights=["raw", *(average.decay for average in model.averages)],
            batch_size=args.batch_size,
            verbose=False,
        )
        distance = table.columns[-1]
        save(args, "sweep", table, plots.heatmaps(table, distance, "guidance", "num_steps", smallest=True))
        best = table.best(distance, smallest=True)
        settings = {name: best[name] for name in ("weights", "sampler", "num_steps", "guidance")}
        print(f"The best: {settings}")
    # Another seed than the sweep's: its choice is fitted to its own noise.
    scores = evaluation.evaluate_generator(
        model, reference, network, args.num_images, batch_size=args.batch_size, seed=1, **settings
    )
    held_out = evaluation.evaluate_images(test[0], reference, network, batch_size=args.batch_size, verbose=False)
    table = evaluation.Table([{"images": "generated", **scores}, {"images": "real, held out", **held_out}])
    save(args, "generation", table)
    print(f"\nThe first one's card: {next(iter(scores.values())).line()}")

    labels = None if model.num_classes is None else np.arange(64) // 8 % model.num_classes
    samples = model.generate(labels, num_images=64, seed=1, **settings)
    scale = max(1, 48 // samples.shape[1])
    plots.save_image(os.path.join(args.output, "samples.png"), plots.image_grid(samples, columns=8, scale=scale))
    images = test[0][:10]
    reconstruction = model.reconstruct(images, mask_ratio=0.5, seed=0)
    picture = plots.reconstruction_grid(images, reconstruction, scale=scale)
    plots.save_image(os.path.join(args.output, "reconstructions.png"), picture)
    print(f"\nTables, cards and pictures are in {args.output}")


def load(args, model):
    """Two pairs of images and labels: those the model was trained on, and unseen ones."""
    if args.data == "digits":
        from sklearn.datasets import load_digits

        digits = load_digits()
        images = np.round(digits.images[..., None] * (255 / 16)).astype("uint8")
        order = np.random.default_rng(0).permutation(len(images))  # the split of the demo
        images, labels = images[order], digits.target[order]
        num_train = int(0.85 * len(images))
        return (images[:num_train], labels[:num_train]), (images[num_train:], labels[num_train:])
    size, _, channels = model.image_shape
    options = {"image_size": size, "channels": channels, "batch_size": args.batch_size, "training": False}
    if os.path.isdir(os.path.join(args.data, "train")):
        sets = [data.from_folder(os.path.join(args.data, part), **options) for part in ("train", "val")]
    else:
        splits = ("train", args.validation_split)
        sets = [data.from_tfds(args.data, part, data_dir=args.data_dir, **options) for part in splits]
    return tuple(x.as_arrays() for x in sets)


def split(train):
    """Four fifths and one fifth of the training images, drawn at random."""
    order = np.random.default_rng(0).permutation(len(train[0]))
    parts = np.split(order, [len(order) * 4 // 5])
    return [(train[0][part], train[1][part]) for part in parts]


def inception(path):
    return keras.models.load_model(path) if path.endswith(".keras") else evaluation.FIDInception(path)


def classifier(train, test, batch_size):
    """Train a small convolutional network; returns a model of its features and logits."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    inputs = keras.Input(train[0].shape[1:])
    x = layers.Rescaling(1 / 127.5, offset=-1)(inputs)
    for filters in (32, 64, 128):
        x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
        x = layers.MaxPooling2D(padding="same")(x)
    x = layers.Dropout(0.3)(layers.Flatten()(x))
    features = layers.Dense(64, activation="relu")(x)
    logits = layers.Dense(int(train[1].max()) + 1)(features)
    network = keras.Model(inputs, logits)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile("adam", loss, metrics=["sparse_categorical_accuracy"])
    network.fit(*train, batch_size=batch_size, epochs=30, verbose=0)
    accuracy = network.evaluate(*test, batch_size=batch_size, verbose=0)[1]
    print(f"The distances are those of a classifier's features, which is right on {accuracy:.3f} of the unseen images.")
    return keras.Model(inputs, {"features": features, "logits": logits}, name="classifier")


def save(args, name, table, picture=None):
    """Write the table as text, and with its cards as JSON; and the picture."""
    print(table)
    table.save(os.path.join(args.output, f"{name}.json"))
    with open(os.path.join(args.output, f"{name}.md"), "w") as file:
        file.write(f"{table}\n")
    if picture is not None:
        plots.save_image(os.path.join(args.output, f"{name}.png"), picture)


if __name__ == "__main__":
    main()
