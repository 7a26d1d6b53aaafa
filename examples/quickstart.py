"""Pre-train UMD on small real images, probe its features, fine-tune it with labels and generate: `make demo`.

    python examples/quickstart.py                                  # handwritten digits, which scikit-learn ships
    python examples/quickstart.py --data fashion-mnist             # downloaded by Keras
    python examples/quickstart.py --data path/to/fashion-mnist     # a folder with the four idx files
    python examples/quickstart.py --data path/to/images            # a folder with one sub-folder for each class

KERAS_BACKEND=jax (the default here), tensorflow or torch chooses the engine.
"""

import argparse
import os
import time

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

import keras_umd
from keras_umd import plots

BATCH_SIZE = 64
DRAWS = 20  # of the images to probe with
FASHION_NAMES = ["t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits", help="digits, fashion-mnist or a folder")
    parser.add_argument("--pretraining-steps", type=int, default=2000)
    parser.add_argument("--finetuning-steps", type=int, default=800)
    parser.add_argument("--output", default="runs/quickstart", help="folder of the pictures and models")
    args = parser.parse_args()

    started = time.time()
    keras.utils.set_random_seed(0)
    try:
        images, labels, class_names, patch_size = load(args.data)
    except (OSError, ValueError) as error:
        raise SystemExit(f"{args.data} can't be read: {error}") from error
    num_train = int(0.85 * len(images))
    train, test = (images[:num_train], labels[:num_train]), (images[num_train:], labels[num_train:])
    counts = np.bincount(train[1], minlength=len(class_names))
    if not counts.all() or not len(test[0]):
        few = [name for name, count in zip(class_names, counts, strict=True) if not count] or "the test"
        raise SystemExit(f"{args.data} has too few images: there is none to train on, or to test on, for {few}.")
    print(f"{args.data}: {len(train[0])} images to train, {len(test[0])} to test, {len(class_names)} classes")

    print("\n1. Pre-training without labels")
    model = keras_umd.UMD(
        image_shape=images.shape[1:],
        patch_size=patch_size,
        hidden_dim=96,
        num_layers=2,
        num_heads=4,
        decoder_layers=1,
        conditioning="token",  # AdaLN-zero, the default, starts as the identity and wants a longer training
        corruption=keras_umd.Corruption.umd(clean_mask_ratio=0.5),  # 0.75 is for images of more than 16 patches
        seed=0,
    )
    untrained = patch_tokens(model, train[0], test[0])
    optimizer = keras_umd.recipes.pretraining_optimizer(args.pretraining_steps, BATCH_SIZE, base_learning_rate=8e-3)
    model.compile(optimizer)
    epochs, steps_per_epoch = epochs_of(args.pretraining_steps)
    model.fit(RandomBatches(train[0], steps_per_epoch), epochs=epochs)

    print(f"\n2. Probing: 10 images of each class, closed form, {DRAWS} draws")
    features = {
        "UMD, patch tokens": patch_tokens(model, train[0], test[0]),
        "UMD, class token": [model.predict(x, batch_size=256) for x in (train[0], test[0])],
        "raw pixels": [x.reshape(len(x), -1) / 255.0 for x in (train[0], test[0])],
        "untrained, patch tokens": untrained,
    }
    shots = min(10, int(counts.min()))
    probe = keras_umd.evaluation.FewShotProbe(shots, num_draws=DRAWS)
    accuracies = {
        name: probe.accuracies((x_train, train[1]), (x_test, test[1])) for name, (x_train, x_test) in features.items()
    }
    # All features are probed with the same draws.
    ahead = np.subtract(accuracies["UMD, patch tokens"], accuracies["raw pixels"])

    print("\n3. Reconstructing masked images")
    reconstruction = model.reconstruct(test[0][:10], mask_ratio=0.5, seed=0)

    print("\n4. Fine-tuning with labels")
    conditional = model.with_classes(len(class_names))
    optimizer = keras_umd.recipes.finetuning_optimizer(
        args.finetuning_steps, BATCH_SIZE, base_learning_rate=6e-3, ema_decay=0.99
    )
    conditional.compile(optimizer)
    epochs, steps_per_epoch = epochs_of(args.finetuning_steps)
    conditional.fit(RandomBatches(train[0], steps_per_epoch, train[1]), epochs=epochs)

    print("\n5. Generating and completing")
    wanted = np.repeat(np.arange(len(class_names)), 8)
    settings = {"num_steps": 20, "sampler": "dpmpp_2m", "guidance": 2.0, "seed": 0}
    frames = conditional.trajectory(num_frames=11, labels=wanted, **settings)  # the last are what `generate` returns
    mask = np.zeros((1, *images.shape[1:3], 1), bool)
    mask[:, images.shape[1] // 2 :] = True
    completed = conditional.inpaint(test[0][:10], mask, labels=test[1][:10], **settings)

    scale = max(1, 48 // images.shape[1])
    pictures = {
        "originals, masked, reconstructed": plots.reconstruction_grid(test[0][:10], reconstruction, scale=scale),
        "samples, one row for each class": plots.image_grid(frames[-1], columns=8, scale=scale),
        "from noise to image": plots.strips(frames[:, ::8], scale=scale),
        "originals, lower half masked, completed": plots.reconstruction_grid(
            test[0][:10], {"masked": np.where(mask, 128, test[0][:10]), "reconstruction": completed}, scale=scale
        ),
    }
    files = ("reconstructions.png", "samples.png", "from_noise.png", "completed.png")
    print(f"\nDone in {time.time() - started:.0f} s on {keras.backend.backend()}")
    for name, draws in accuracies.items():
        print(f"  {shots}-shot accuracy, {name + ':':24} {np.mean(draws):.3f} +- {np.std(draws):.3f}")
    error = np.std(ahead, ddof=1) / np.sqrt(DRAWS)
    print(f"  patch tokens are ahead of raw pixels by {np.mean(ahead):.3f}, with a standard error of {error:.3f}")
    for (name, picture), file in zip(pictures.items(), files, strict=True):
        plots.save_image(os.path.join(args.output, file), picture)
        print(f"  {name}: {os.path.join(args.output, file)}")
    for name, trained in {"pretrained": model, "finetuned": conditional}.items():
        trained.save(os.path.join(args.output, f"{name}.keras"))
    print(f"  models: {os.path.join(args.output, 'pretrained.keras')}, finetuned.keras")


def patch_tokens(model, *arrays):
    """The tokens of all patches, concatenated: like pixels, they keep the positions."""
    extractor = model.feature_extractor(pooling=None)
    return [extractor.predict(x, batch_size=256, verbose=0).reshape(len(x), -1) for x in arrays]


def epochs_of(steps):
    """Ten epochs, for ten progress bars, and their number of steps."""
    epochs = min(10, steps)
    return epochs, steps // epochs


class RandomBatches(keras.utils.PyDataset):
    """Batches drawn at random, so that an epoch can be any number of steps."""

    def __init__(self, images, steps, labels=None):
        super().__init__()
        self.images, self.labels, self.steps = images, labels, steps
        self.rng = np.random.default_rng(0)

    def __len__(self):
        return self.steps

    def __getitem__(self, index):
        chosen = self.rng.integers(0, len(self.images), BATCH_SIZE)
        return (self.images[chosen],) if self.labels is None else (self.images[chosen], self.labels[chosen])


def load(data):
    """Shuffled uint8 images (n, height, width, channels), labels, class names and a fitting patch size."""
    if data == "digits":
        from sklearn.datasets import load_digits

        digits = load_digits()
        images = np.round(digits.images[..., None] * (255 / 16)).astype("uint8")
        labels, class_names, patch_size = digits.target, [str(i) for i in range(10)], 2
    elif data == "fashion-mnist":
        images, labels = keras_fashion_mnist()
        class_names, patch_size = FASHION_NAMES, 7
    elif idx_file(data, "train-images-idx3") is not None:
        images, labels = idx_files(data)
        class_names, patch_size = FASHION_NAMES, 7
    else:
        # Of few images, one damaged file may be more than 1%.
        folders = keras_umd.data.from_folder(data, image_size=32, batch_size=64, training=False, max_bad_share=0.1)
        (images, labels), class_names, patch_size = folders.as_arrays(verbose=False), folders.class_names, 4
    order = np.random.default_rng(0).permutation(len(images))
    return images[order], np.asarray(labels)[order].astype("int32"), class_names, patch_size


def keras_fashion_mnist():
    (x_train, y_train), (x_test, y_test) = keras.datasets.fashion_mnist.load_data()
    return np.concatenate([x_train, x_test])[..., None], np.concatenate([y_train, y_test])


def idx_file(folder, name):
    """The path of an idx file, compressed or not; `None` if it isn't there."""
    paths = (os.path.join(folder, f"{name}-ubyte{end}") for end in ("", ".gz"))
    return next(filter(os.path.exists, paths), None)


def idx_files(folder):
    sets = []
    for part in ("train", "t10k"):
        names = [f"{part}-images-idx3", f"{part}-labels-idx1"]
        files = [idx_file(folder, name) for name in names]
        if None in files:
            raise ValueError(f"it must have the files of Fashion-MNIST, and has no {names[files.index(None)]}-ubyte.gz")
        sets.append(keras_umd.data.read_idx(*files))
    images, labels = (np.concatenate(arrays) for arrays in zip(*sets, strict=True))
    if labels.max() >= len(FASHION_NAMES) or images.shape[1:] != (28, 28, 1):
        raise ValueError(
            f"it must have images of 28x28 in {len(FASHION_NAMES)} classes, and has {images.shape[1:3]} and labels up "
            f"to {labels.max()}"
        )
    return images, labels


if __name__ == "__main__":
    main()
