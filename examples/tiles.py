"""Pre-train an MAE on random tiles of pictures too large for memory, such as whole slides of tissue.

    pip install scikit-image
    python examples/tiles.py                            # on its picture of stained tissue: 3 minutes on a core
    python examples/tiles.py --data slides --tile 224 --patch-size 16 --hidden-dim 384 --num-layers 12 --num-heads 6
    python examples/tiles.py --data slides --test others        # of other patients; sub-folders are classes

After "Beyond Labels: A Self-Supervised Framework with Masked Autoencoders and Random Cropping for Breast Cancer Subtype
Classification": no tile is chosen or stored beforehand. Tile i of epoch e is a function of (seed, e, i): a picture and
a corner where at least half of the tile is tissue, which is more saturated than glass, then one of eight orientations.
So the same command goes on where it was stopped, in the middle of an epoch, with the tiles that were next.

--data is a folder with .npy files, uint8 `(height, width, 3)`, which are memory-mapped, or with pictures that Pillow
opens; sub-folders, if there are any, are classes. A slide of OpenSlide's formats fits in behind `shape` and slicing:
`np.asarray(slide.read_region((left, top), 0, (width, height)))[..., :3]`, with slides of their own in --test. Without
--test the last quarter of each picture's width is for tests. Prints the error of masked pixels there, beside that of
the mean colour of the visible ones; with classes, what a ridge regression and neighbours make of the features; and
leaves a picture in --output.
KERAS_BACKEND=jax (the default here), tensorflow or torch chooses the engine.
"""

import argparse
import os
import pathlib
import zlib

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from PIL import Image

import keras_umd
from keras_umd import callbacks, data, evaluation, methods, plots, recipes

Image.MAX_IMAGE_PIXELS = None  # slides are what Pillow takes for decompression bombs
TEST_AREA = 0.25
TYPES = (".npy", ".png", ".jpg", ".jpeg", ".tif", ".tiff")
TEST_EPOCH = 0  # tests are always the same tiles


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, help="a folder; scikit-image's picture by default")
    parser.add_argument("--test", type=pathlib.Path, help="a folder; a quarter of --data by default")
    parser.add_argument("--tile", type=int, default=32, help="height and width of a tile, in pixels")
    parser.add_argument("--saturation", type=float, default=0.07, help="above it a pixel is tissue")
    parser.add_argument("--share", type=float, default=0.5, help="of a tile that must be tissue")
    parser.add_argument("--tiles", type=int, default=6400, help="in an epoch")
    parser.add_argument("--test-tiles", type=int, default=512)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--base-learning-rate", type=float, default=8e-3, help="at a batch of 256")
    parser.add_argument("--patch-size", type=int, default=4)
    parser.add_argument("--hidden-dim", type=int, default=96)
    parser.add_argument("--num-layers", type=int, default=3)
    parser.add_argument("--decoder-layers", type=int, default=1)
    parser.add_argument("--num-heads", type=int, default=4)
    parser.add_argument("--backup-steps", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default="runs/tiles")
    args = parser.parse_args()

    train, test = sources(args)
    order = data.Order(args.tiles, args.batch_size, shuffle=False, drop_remainder=True, seed=args.seed)
    tiles = dataset(train, order)
    print(f"{len(train.pictures)} pictures, tissue at {train.num_corners} corners, {test.num_corners} for tests")

    keras.utils.set_random_seed(args.seed)
    names = ("patch_size", "hidden_dim", "num_layers", "decoder_layers", "num_heads")
    sizes = {name: getattr(args, name) for name in names}
    model = keras_umd.UMD((args.tile, args.tile, 3), **sizes, **methods.mae(), seed=args.seed)
    steps = args.epochs * len(tiles)
    model.compile(recipes.pretraining_optimizer(steps, args.batch_size, base_learning_rate=args.base_learning_rate))
    every = callbacks.standard(args.output, dataset=tiles, save_freq=args.backup_steps)
    model.fit(tiles, epochs=args.epochs, callbacks=every, verbose=2)

    images, labels = test.tiles(args.seed, TEST_EPOCH, range(args.test_tiles))
    report(model, images, pathlib.Path(args.output))
    if len(set(train.labels)) > 1:
        probe(model, train.tiles(args.seed, TEST_EPOCH, range(4 * args.test_tiles)), (images, labels))


class Tissue:
    """Pictures, and the corners of all tiles of tissue in them, at distances of a quarter of a tile.

    Args:
        pictures: List of uint8 arrays `(height, width, 3)`, or of objects that have their `shape` and are sliced alike.
        labels: List of integers, their classes.
        tile: Integer, height and width of a tile.
        saturation: Float in [0, 1). Of a pixel that is tissue: (max - min) / max of its colours is above it.
        share: Float in (0, 1], of the pixels of a tile.
    """

    def __init__(self, pictures, labels, tile, saturation, share):
        self.pictures, self.labels, self.tile = pictures, labels, tile
        self.corners = [corners_of_tissue(picture, tile, saturation, share) for picture in pictures]
        self.ends = np.cumsum([len(corners) for corners in self.corners])
        self.num_corners = int(self.ends[-1])
        if not self.num_corners:
            raise SystemExit(f"No tile of {tile} pixels has {share} of tissue above saturation {saturation}.")

    def tiles(self, seed, epoch, indices):
        """Tiles of an epoch by their indices, uint8 `(n, tile, tile, 3)`, and the labels of their pictures `(n,)`."""
        images = np.empty((len(indices), self.tile, self.tile, 3), "uint8")
        labels = np.empty(len(indices), "int32")
        for place, index in enumerate(indices):
            number, top, left, orientation = self.draw(seed, epoch, index)
            image = np.asarray(self.pictures[number][top : top + self.tile, left : left + self.tile])
            image = np.rot90(image, orientation % 4)
            images[place] = image if orientation < 4 else image[:, ::-1]
            labels[place] = self.labels[number]
        return images, labels

    def draw(self, seed, epoch, index):
        """Picture, top, left and orientation of a tile. Large tissue is drawn more often than small."""
        rng = np.random.default_rng([seed, epoch, index])
        chosen = rng.integers(self.num_corners)
        number = int(np.searchsorted(self.ends, chosen, side="right"))
        top, left = self.corners[number][chosen - self.ends[number]]
        return number, int(top), int(left), int(rng.integers(8))


def corners_of_tissue(picture, tile, saturation, share):
    """Top and left of each tile of which so much is tissue, int32 `(n, 2)`. Reads a band of the picture at a time."""
    cell = max(1, tile // 4)
    if tile % cell:
        raise SystemExit(f"--tile must be below 4 or divisible by 4, and is {tile}.")
    rows, columns = (length // cell for length in picture.shape[:2])
    counts = np.zeros((rows + 1, columns + 1), "int64")  # of pixels of tissue above and to the left
    for row in range(rows):
        band = np.asarray(picture[row * cell : (row + 1) * cell, : columns * cell]).astype("float32")
        highest = band.max(axis=-1)
        is_tissue = highest - band.min(axis=-1) > saturation * highest
        counts[row + 1, 1:] = is_tissue.reshape(cell, columns, cell).sum(axis=(0, 2))
    counts = counts.cumsum(axis=0).cumsum(axis=1)
    side = tile // cell
    inside = counts[side:, side:] - counts[:-side, side:] - counts[side:, :-side] + counts[:-side, :-side]
    return (np.argwhere(inside >= share * tile**2) * cell).astype("int32")


class TileLoader:
    """What `keras_umd.data.Dataset` reads: batches of an epoch from any of them on, so that a run can resume."""

    def __init__(self, tissue, order):
        self.tissue, self.order = tissue, order

    def batches(self, epoch, start):
        for indices, _ in self.order.batches(epoch, start):
            yield self.tissue.tiles(self.order.seed, epoch, indices)[0]


def dataset(tissue, order):
    """The `Dataset` of the tiles; its identity tells a resumed run whether they are the same."""
    positions = zlib.crc32(b"".join(corners.tobytes() for corners in tissue.corners))
    shapes = [list(picture.shape) for picture in tissue.pictures]
    identity = {"source": f"tiles of {tissue.tile} {positions:08x}", "pictures": shapes}
    shape = (tissue.tile, tissue.tile, 3)
    return data.Dataset(
        TileLoader(tissue, order), image_shape=shape, class_names=None, training=True, identity=identity
    )


def sources(args):
    """The `Tissue` to train on, and that for tests."""
    how = args.tile, args.saturation, args.share
    if args.test is not None:
        if args.data is None:
            raise SystemExit("--test goes with --data.")
        names = class_names(args.data)
        return tuple(Tissue(*read(folder, names), *how) for folder in (args.data, args.test))
    pictures, labels = read(args.data, class_names(args.data))
    borders = [round((1 - TEST_AREA) * picture.shape[1]) for picture in pictures]
    parts = ([slice(0, border) for border in borders], [slice(border, None) for border in borders])
    return tuple(
        Tissue([picture[:, part] for picture, part in zip(pictures, slices, strict=True)], labels, *how)
        for slices in parts
    )


def class_names(folder):
    """The names of the sub-folders, which are classes; none of a folder without any."""
    return [] if folder is None else sorted(path.name for path in folder.iterdir() if path.is_dir())


def read(folder, names):
    """Pictures of a folder and the numbers of their classes, of which `names` are those to train on."""
    if folder is None:
        from skimage.data import immunohistochemistry  # in the package's wheel

        return [immunohistochemistry()], [0]
    others = set(class_names(folder)) - set(names)
    if others or (names and not class_names(folder)):
        raise SystemExit(f"{folder} has the classes {class_names(folder)}, and those to train on are {names}.")
    paths = [
        (path, names.index(own.name) if names else 0)
        for own in ([folder / name for name in class_names(folder)] or [folder])
        for path in sorted(own.iterdir())
        if path.suffix.lower() in TYPES
    ]
    if not paths:
        raise SystemExit(f"{folder} has no files that end in one of {TYPES}.")
    return [open_picture(path) for path, _ in paths], [label for _, label in paths]


def open_picture(path):
    if path.suffix.lower() == ".npy":
        return np.load(path, mmap_mode="r")
    with Image.open(path) as file:
        return np.asarray(file.convert("RGB"))


def report(model, images, folder):
    """Print the error of masked pixels, in [-1, 1], and draw some tiles."""
    result = model.reconstruct(images, seed=0)
    is_masked = np.broadcast_to(result["mask"], images.shape)
    seen = np.where(is_masked, np.nan, images.astype("float32"))
    mean = np.broadcast_to(np.nanmean(seen, axis=(1, 2), keepdims=True), images.shape)
    for name, guess in (("this MAE", result["reconstruction"]), ("the visible pixels' mean colour", mean)):
        errors = (guess.astype("float32") - images) / 127.5
        print(f"Error of masked pixels by {name}: {np.mean(errors[is_masked] ** 2):.4f}")
    shown = {key: values[:12] for key, values in result.items()}
    plots.save_image(folder / "reconstructions.png", plots.reconstruction_grid(images[:12], shown, scale=2))
    print(f"{folder / 'reconstructions.png'}: tiles, masked, and filled in")


def probe(model, train, test):
    """Print how well features tell the classes of pictures from one tile."""
    raw = keras.Sequential([keras.Input(model.image_shape), keras.layers.Flatten()])
    probes = [evaluation.FewShotProbe(None), evaluation.KNNProbe(min(20, len(train[0])))]
    for name, encoder in {"mean of the patches": model.feature_extractor(pooling="mean"), "raw pixels": raw}.items():
        (found,) = evaluation.evaluate_features(encoder, (train, test), probes, batch_size=256, verbose=False)
        print(f"{name}: " + ", ".join(f"{metric} {result.value:.3f}" for metric, result in found.items()))


if __name__ == "__main__":
    main()
