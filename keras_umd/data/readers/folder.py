"""Images in files, in one folder for each class."""

import dataclasses
import functools
import importlib.util
import os
import zlib

import numpy as np

from keras_umd.backend import import_tensorflow
from keras_umd.data.files import LeftOut, printable, read_file, why_not_read
from keras_umd.data.image_files import IMAGE_TYPES, ImageFiles
from keras_umd.data.limits import DEFAULT_LIMITS
from keras_umd.data.settings import Settings, checked_names, random_access_dataset, some, tf_dataset
from keras_umd.utils.checks import check_paths, require

LOADERS = ("tensorflow", "python")
CHECKED_TOGETHER = 64  # files, before TensorFlow reads them


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
    class_names=None,
    validation_split=None,
    subset=None,
    augment=None,
    limits=None,
):
    """Images in files: JPEG, PNG, WebP, GIF (the first frame), BMP, TIFF, PPM, NumPy's, told apart by their content.

    Images are turned upright as their EXIF data say, whatever their kind. Of 16 bits, the upper 8 are taken; a warning
    names images that use only the lower ones. `.npy` files hold uint8 or uint16 pixels, and no objects.

    Training data are cropped and flipped at random (`keras_umd.data.Crop` has the law), shuffled anew each epoch, and
    in full batches. Evaluation data are cropped in the middle and come in order, each image once; their last batch may
    be shorter.

    Example:

    >>> train = data.from_folder("photos", image_size=8, batch_size=2)   # sub-folders are classes
    >>> len(train), train.num_images, train.image_shape
    (3, 6, (8, 8, 3))

    Args:
        directory: String or path. With labels, its sub-folders are the classes, in the order of their names.
        image_size: Integer, height and width of the images, or a pair `(height, width)`. Smaller ones are enlarged,
            with a warning, but not more than 8-fold. All readers are for pictures, which have two space axes.
        batch_size: Integer, images in a batch of this host.
        training: Bool. Whether to make training data or evaluation data.
        labels: Bool. Whether batches are `(images, labels)` or images alone.
        channels: 3, 1 for grey images, or 4 to keep what is transparent.
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
        max_bad_share: Float in [0, 1], the share of bad images at which to stop all the same. Pipes, devices and
            folders that can't be opened count, too: a folder as so many images as the others have on average.
        class_names: List of strings, the sub-folders to read, in the order of their class indices; one without images
            is allowed. `class_names=train.class_names` gives test data the indices of the training data. Sub-folders
            that aren't among them are left out, with a warning. Defaults to all sub-folders, none of them empty.
        validation_split: Float between 0 and 1, the share of images that are for validation, or `None`.
        subset: `"training"` or `"validation"`, which to read of a `validation_split`. Each image is in one of them,
            whatever the seed is.
        augment: Function from the images of a training batch, uint8 `(batch, height, width, channels)`, and a
            `numpy.random.Generator` to such images; or `None`. It comes behind crop and flip. Draws from the generator
            are the same in every run, also in one that resumes.
        limits: `keras_umd.data.Limits`, what a file may cost, or `None` for the defaults.

    Returns:
        `ImageDataset`. Its `not_read` names what was left out.

    Raises:
        ValueError: for wrong arguments, a folder without images, a class without images, and for more images that
            can't be read than `max_bad_share`.
    """
    settings = Settings.among(locals())
    check_paths(directory=directory)
    if loader is None:
        loader = "tensorflow" if importlib.util.find_spec("tensorflow") else "python"
    require(isinstance(loader, str) and loader in LOADERS, f"`loader` must be one of {LOADERS} or None.", loader=loader)
    require(
        labels or class_names is None, "Without labels, there are no `class_names`.", f"class_names={class_names!r}"
    )
    source = FolderSource(directory, labels, class_names, settings.limits)
    source.take(settings.part(len(source)))
    settings = dataclasses.replace(settings, validation_split=None, subset=None)
    if loader == "python":
        return random_access_dataset(settings, source, source.class_names, source.description())
    tf = import_tensorflow()
    settings.limits.check_records(len(source), source.description())
    order = settings.order(len(source))
    reading = {"read": tf.io.read_file, "read_in_python": functools.partial(read_file, limits=settings.limits)}
    return tf_dataset(
        settings,
        _records(tf, source, order),
        order,
        source.class_names,
        source.description(),
        source.left_out,
        **reading,
    )


class FolderSource:
    """Image files: those of each sub-folder are a class, or those of a folder and all below it are one set.

    Args:
        directory: String or path.
        with_labels: Bool. Whether the sub-folders are classes.
        class_names: List of strings, some or all of the sub-folders and perhaps others, or `None` for all.
        limits: `Limits`.
    """

    def __init__(self, directory, with_labels=True, class_names=None, limits=DEFAULT_LIMITS):
        directory = os.fspath(directory)
        require(
            os.path.isdir(directory),
            "`directory` must be a folder with images.",
            f"directory={printable(directory)}",
        )
        self.limits = limits
        self.left_out = LeftOut()
        self._chosen = class_names
        files = ImageFiles(self.left_out)
        self.class_names, self.labels = None, None
        if with_labels:
            self.class_names, self.paths, self.labels = _classes(directory, class_names, files)
        else:
            self.paths = files.below(directory)
            files.count_unreadable()
            self.left_out.warn()
        require(
            self.paths,
            f"There must be image files, which end in one of {IMAGE_TYPES}.",
            f"directory={printable(directory)} with none",
        )
        self.directory = directory

    def __len__(self):
        return len(self.paths)

    def take(self, records):
        """Keep these records alone, an int array, or all for `None`."""
        if records is not None:
            self.paths = [self.paths[record] for record in records]
            self.labels = None if self.labels is None else self.labels[records]

    def read(self, record):
        return read_file(self.paths[record], self.limits), None if self.labels is None else self.labels[record]

    def name(self, record):
        return self.paths[record]

    def description(self):
        """A string that tells this folder's images from others', by all names and by sizes of some files."""
        names = "\n".join(os.path.relpath(path, self.directory) for path in self.paths)
        sizes = [os.path.getsize(path) if os.path.exists(path) else None for path in some(self.paths)]
        chosen = "" if self._chosen is None else f" classes {zlib.crc32(repr(list(self._chosen)).encode()):08x}"
        return f"folder {zlib.crc32(os.fsencode(names)):08x} {zlib.crc32(str(sizes).encode()):08x}{chosen}"


def _records(tf, source, order):
    """A function from an epoch to its records, as `TFLoader` wants it; the key of a record is its path."""
    paths = tf.constant([os.fsencode(path) for path in source.paths])
    labels = tf.constant(np.full(len(source), -1, "int32") if source.labels is None else source.labels)

    def reasons(records):  # TensorFlow would wait for ever for a pipe, and crash at a file of a terabyte
        found = (why_not_read(source.paths[record], source.limits) for record in records)
        return np.array([reason.encode(errors="backslashreplace") for reason in found], object)

    def checked(records):
        why = tf.numpy_function(reasons, [records], tf.string)
        return records, tf.ensure_shape(why, records.shape)

    def record(index, reason=""):
        path = tf.gather(paths, index)
        return path, tf.gather(labels, index), path, reason

    def records(epoch, in_python):
        dataset = tf.data.Dataset.from_tensor_slices(order.records(epoch))
        if not in_python:  # else `read_file` looks at them
            dataset = dataset.batch(CHECKED_TOGETHER).map(checked, num_parallel_calls=tf.data.AUTOTUNE).unbatch()
        return dataset.map(record)

    return records


def _classes(directory, chosen, files):
    """The names of the classes, the paths of all their images, and the class index of each image.

    Args:
        directory: String.
        chosen: List of strings, or `None` for all sub-folders.
        files: `ImageFiles`.
    """
    entries = list(os.scandir(directory))
    found = sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    require(
        found,
        "With labels, there must be a sub-folder for each class; labels=False takes images alone.",
        f"directory={printable(directory)} without sub-folders",
    )
    class_names = found if chosen is None else checked_names(chosen)
    left_out = files.left_out
    for entry in entries:
        if entry.name.startswith("."):
            left_out.add("hidden files and folders", entry.path, quiet=True)
        elif not entry.is_dir() and entry.name.lower().endswith(IMAGE_TYPES):
            left_out.add(
                f"images in {printable(directory)} are in no sub-folder and so have no class; they are left out",
                entry.name,
            )
    for name in sorted(set(found) - set(class_names)):
        left_out.add("sub-folders are none of the `class_names`; they are left out", name)
    paths = [files.below(os.path.join(directory, name)) if name in found else [] for name in class_names]
    files.count_unreadable()
    left_out.warn()
    empty = [printable(name) for name, own in zip(class_names, paths, strict=True) if not own]
    require(
        not empty or chosen is not None,
        f"Every class must have images, files that end in one of {IMAGE_TYPES}; `class_names` allows classes without.",
        f"directory={printable(directory)} with none in {empty[:5]}",
    )
    labels = np.repeat(np.arange(len(paths), dtype="int32"), [len(own) for own in paths])
    return class_names, [path for own in paths for path in own], labels
