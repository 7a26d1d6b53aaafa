"""Images in files, in one folder for each class."""

import importlib.util
import os
import warnings
import zlib

import numpy as np

from keras_umd.backend import import_tensorflow
from keras_umd.data.image_dataset import printable
from keras_umd.data.settings import Settings, random_access_dataset, some, tf_dataset
from keras_umd.utils.checks import require

LOADERS = ("tensorflow", "python")
IMAGE_TYPES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")


def from_folder(
    directory,
    *,
    image_size,
    batch_size,
    training=True,
    labels=True,
    channels=3,
    area_range=(0.8, 1.0),
    flip=True,
    shuffle=None,
    drop_remainder=None,
    seed=0,
    shard_index=0,
    num_shards=1,
    loader=None,
    workers=None,
    on_error="skip",
    max_bad_share=0.01,
):
    """Images in files: JPEG, PNG, WebP, GIF (the first frame), BMP, TIFF, PPM, told apart by their content.

    Training data are cropped and flipped at random (`keras_umd.data.Crop` has the law), shuffled anew each epoch, and
    in full batches. Evaluation data are cropped in the middle and come in order, each image once; their last batch may
    be shorter.

    Example:

    >>> train = keras_umd.data.from_folder("imagenet/train", image_size=64, batch_size=256, labels=False)
    >>> len(train), train.num_images, train.image_shape
    (5004, 1281167, (64, 64, 3))
    >>> model.fit(train, epochs=800)

    Args:
        directory: String or path. With labels, its sub-folders are the classes, in the order of their names.
        image_size: Integer, height and width of the images, or a pair `(height, width)`. Smaller ones are enlarged,
            with a warning, but not more than 8-fold. All readers are for pictures, which have two space axes.
        batch_size: Integer, images in a batch of this host.
        training: Bool. Whether to make training data or evaluation data.
        labels: Bool. Whether batches are `(images, labels)` or images alone.
        channels: 3, or 1 for grey images.
        area_range: Pair of floats in (0, 1], the shares of the area that random crops have. The paper pre-trains with
            (0.8, 1.0) and fine-tunes with (0.95, 1.0).
        flip: Bool. Whether to flip half of the training images.
        shuffle: Bool. Defaults to `training`.
        drop_remainder: Bool. Whether to leave out the images of an epoch that don't fill a batch. Defaults to
            `training`.
        seed: Integer, for order, crops and flips.
        shard_index, num_shards: Integers. With several hosts, the index of this one and their number; together they
            read every image once. `keras_umd.distribution.share` gives them.
        loader: `"tensorflow"` or `"python"`. Defaults to tf.data where TensorFlow is installed. Both give the same
            data, with other crops.
        workers: Integer, the number of threads. Defaults to one for each core.
        on_error: `"skip"` to leave out images that can't be read, or `"raise"` at the first one.
        max_bad_share: Float in [0, 1], the share of bad images at which to stop all the same.

    Returns:
        `ImageDataset`.

    Raises:
        ValueError: for wrong arguments, a folder without images, and a class without images.
    """
    settings = Settings.among(locals())
    if loader is None:
        loader = "tensorflow" if importlib.util.find_spec("tensorflow") else "python"
    require(loader in LOADERS, f"`loader` must be one of {LOADERS} or None.", f"loader={loader!r}")
    source = FolderSource(directory, labels)
    if loader == "python":
        return random_access_dataset(settings, source, source.class_names, source.description())
    tf = import_tensorflow()
    order = settings.order(len(source))
    records = _records(tf, source, order)
    reading = {"read": tf.io.read_file, "read_in_python": read_file}
    return tf_dataset(settings, records, order, source.class_names, source.description(), **reading)


class FolderSource:
    """Image files: those of each sub-folder are a class, or those of a folder and all below it are one set.

    Args:
        directory: String or path.
        with_labels: Bool. Whether the sub-folders are classes.
    """

    def __init__(self, directory, with_labels=True):
        directory = os.fspath(directory)
        require(
            os.path.isdir(directory),
            "`directory` must be a folder with images.",
            f"directory={printable(directory)}",
        )
        self.class_names, self.paths, self.labels = (
            _classes(directory) if with_labels else (None, _image_files(directory), None)
        )
        require(
            self.paths,
            f"There must be image files, which end in one of {IMAGE_TYPES}.",
            f"directory={printable(directory)} with none",
        )
        self.directory = directory

    def __len__(self):
        return len(self.paths)

    def read(self, record):
        return read_file(self.paths[record]), None if self.labels is None else self.labels[record]

    def name(self, record):
        return self.paths[record]

    def description(self):
        """A string that tells this folder's images from others', by all names and by sizes of some files."""
        names = "\n".join(os.path.relpath(path, self.directory) for path in self.paths)
        sizes = [os.path.getsize(path) if os.path.exists(path) else None for path in some(self.paths)]
        return f"folder {zlib.crc32(os.fsencode(names)):08x} {zlib.crc32(str(sizes).encode()):08x}"


def _records(tf, source, order):
    """A function from an epoch to its records, as `TFLoader` wants it; the key of a record is its path."""
    paths = tf.constant([os.fsencode(path) for path in source.paths])
    labels = tf.constant(np.full(len(source), -1, "int32") if source.labels is None else source.labels)

    def record(index):
        path = tf.gather(paths, index)
        return path, tf.gather(labels, index), path

    def records(epoch):
        return tf.data.Dataset.from_tensor_slices(order.records(epoch)).map(record)

    return records


def _classes(directory):
    """The names of the classes, the paths of all their images, and the class index of each image."""
    entries = list(os.scandir(directory))
    class_names = sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    stray = sorted(e.name for e in entries if e.name.lower().endswith(IMAGE_TYPES) and not e.is_dir())
    require(
        class_names,
        "With labels, there must be a sub-folder for each class; labels=False takes images alone.",
        f"directory={printable(directory)} without sub-folders",
    )
    files = [_image_files(os.path.join(directory, name)) for name in class_names]
    _warn_of(stray, f"images in {printable(directory)} are in no sub-folder and so have no class")
    empty = [printable(name) for name, paths in zip(class_names, files, strict=True) if not paths]
    require(
        not empty,
        f"Every class must have images, files that end in one of {IMAGE_TYPES}.",
        f"directory={printable(directory)} with none in {empty[:5]}",
    )
    labels = np.repeat(np.arange(len(files), dtype="int32"), [len(paths) for paths in files])
    return class_names, [path for paths in files for path in paths], labels


def _image_files(directory):
    """The image files in a folder and all below it, in the order of their names."""
    files, seen = [], set()
    for folder, folders, names in os.walk(directory, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if os.path.realpath(folder) in seen:  # a link to a folder above would go on for ever
            folders.clear()
            continue
        seen.add(os.path.realpath(folder))
        files += [os.path.join(folder, name) for name in sorted(names) if not name.startswith(".")]
    paths = [path for path in files if path.lower().endswith(IMAGE_TYPES)]
    others = [path for path in files if not path.lower().endswith(IMAGE_TYPES)]
    _warn_of(others, f"files in {printable(directory)} don't end in one of {IMAGE_TYPES}")
    return paths


def _warn_of(left_out, why):
    if left_out:
        more = ", ..." if len(left_out) > 1 else ""
        warnings.warn(f"{len(left_out)} {why}; they are left out: {printable(left_out[0])}{more}", stacklevel=5)


def matching_files(paths, find):
    """The files that match patterns.

    Args:
        paths: String with wildcards, or list of strings or paths.
        find: Function from a pattern to the names that match it.

    Raises:
        ValueError: for a pattern that no file matches.
    """
    patterns = [paths] if isinstance(paths, (str, os.PathLike)) else paths
    found = []
    for pattern in map(os.fspath, patterns):
        matches = sorted(find(pattern))
        require(matches, "`paths` must name files.", f"{pattern!r}, which matches none")
        found += matches
    require(found, "`paths` must name files.", f"paths={paths!r}")
    return found


def read_file(path):
    with open(path, "rb") as file:
        return file.read()
