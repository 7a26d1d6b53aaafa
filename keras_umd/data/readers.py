"""One function for each kind of data; each gives an `ImageDataset`."""

import glob
import importlib.util
import os
import struct
import zlib

import numpy as np

from keras_umd.backend import import_tensorflow
from keras_umd.data.options import Options, description_of, names_or_numbers, some
from keras_umd.data.sources import ArraySource, FolderSource, RandomAccessSource, TarSource, read_file
from keras_umd.data.tf_loader import TFLoader

LOADERS = ("tensorflow", "python")


def from_folder(
    directory,
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
    """Images in files: JPEG, PNG, WebP, GIF (the first picture), BMP, TIFF, PPM, told apart by what is in them.

    Training data are cropped and flipped at random (`keras_umd.data.Crop` has the law), shuffled anew each epoch, and
    in full batches. Evaluation data are cropped in the middle, in order, each image once, in a shorter last batch too.

    Example:

    >>> train = keras_umd.data.from_folder("imagenet/train", image_size=64, batch_size=256, labels=False)
    >>> len(train), train.num_images, train.image_shape
    (5004, 1281167, (64, 64, 3))
    >>> model.fit(train, epochs=800)

    Args:
        directory: String or path. With labels, its sub-folders are the classes, in the order of their names.
        image_size: Integer, height and width of the images. Smaller ones are enlarged, with a warning, but not more
            than 8-fold.
        batch_size: Integer, of this host.
        training: Bool. Training data or evaluation data.
        labels: Bool. Whether batches are `(images, labels)` or images alone.
        channels: 3, or 1 for grey images.
        area_range: Pair of floats in (0, 1], the shares of the area that random crops have. The paper pre-trains with
            (0.8, 1.0) and fine-tunes with (0.95, 1.0).
        flip: Bool. Whether to flip half of the training images.
        shuffle: Bool. Defaults to `training`.
        drop_remainder: Bool. Whether to leave out the images of an epoch that don't fill a batch. Defaults to
            `training`.
        seed: Integer, for order, crops and flips.
        shard_index, num_shards: Integers. With several hosts, which one this is, and their number; together they read
            every image once. On JAX: `jax.process_index()`, `jax.process_count()`.
        loader: `"tensorflow"` or `"python"`. Defaults to tf.data where TensorFlow is installed. Both give the same
            data, with other crops.
        workers: Integer, the number of threads. Defaults to one for each core.
        on_error: What to do about an image that can't be read: `"skip"`, or `"raise"` at once.
        max_bad_share: Float in [0, 1], the share of bad images at which to stop all the same.

    Returns:
        `ImageDataset`.

    Raises:
        ValueError: for wrong arguments, a folder without images, and a class without images.
    """
    options = Options(
        image_size=image_size,
        batch_size=batch_size,
        training=training,
        labels=labels,
        channels=channels,
        area_range=area_range,
        flip=flip,
        shuffle=shuffle,
        drop_remainder=drop_remainder,
        seed=seed,
        shard_index=shard_index,
        num_shards=num_shards,
        workers=workers,
        on_error=on_error,
        max_bad_share=max_bad_share,
    )
    if loader is None:
        loader = "tensorflow" if importlib.util.find_spec("tensorflow") else "python"
    if loader not in LOADERS:
        raise ValueError(f"`loader` must be one of {LOADERS} or None. Received: loader={loader!r}")
    source = FolderSource(directory, labels)
    names = "\n".join(os.path.relpath(path, directory) for path in source.paths)
    sizes = [os.path.getsize(path) if os.path.exists(path) else None for path in some(source.paths)]
    description = f"folder {zlib.crc32(os.fsencode(names)):08x} {zlib.crc32(str(sizes).encode()):08x}"
    if loader == "python":
        return options.in_any_order(source, source.class_names, description)
    order = options.order(len(source))
    records = _FolderRecords(source, order)
    tf_loader = TFLoader(records, records.read, read_file, order, options.crop(), workers)
    return options.dataset(tf_loader, order, source.class_names, description)


def from_arrays(images, labels=None, image_size=None, batch_size=64, class_names=None, **options):
    """Images in memory, or in a memory-mapped file.

    `on_device` is faster where they fit into the accelerator's memory.

    Args:
        images: uint8 array `(n, height, width, 1 or 3)`.
        labels: Int array `(n,)`, or `None`.
        image_size: Integer. Defaults to the height of the images.
        batch_size: Integer.
        class_names: List of strings. Defaults to "0", "1", ...
        **options: As of `from_folder`, without `loader`.

    Returns:
        `ImageDataset`.
    """
    source = ArraySource(images, labels)
    image_size = images.shape[1] if image_size is None else image_size
    settings = Options(image_size, batch_size, labels=labels is not None, channels=images.shape[-1], **options)
    return settings.in_any_order(source, names_or_numbers(class_names, source.labels), description_of(source))


def from_webdataset(paths, image_size, batch_size, class_names=None, **options):
    """Images in WebDataset's tar files, with a class index in the `.cls` file beside each, without TensorFlow.

    Args:
        paths: String with wildcards, or list of strings or paths. Local files, uncompressed.
        image_size: Integer.
        batch_size: Integer.
        class_names: List of strings. Defaults to "0", "1", ...
        **options: As of `from_folder`, without `loader`.

    Returns:
        `ImageDataset`.
    """
    settings = Options(image_size, batch_size, **options)
    paths = _matching(paths, glob.glob)
    source = TarSource(paths, settings.labels)
    sizes = {os.path.basename(path): os.path.getsize(path) for path in paths}
    return settings.in_any_order(source, names_or_numbers(class_names, source.labels), f"tar files {sizes}")


def from_tfds(
    name,
    split,
    image_size,
    batch_size,
    data_dir=None,
    image_key="image",
    label_key="label",
    shuffle_buffer=10_000,
    **options,
):
    """A data set of TensorFlow Datasets that has images: imagenet2012, imagenet_resized/64x64, cifar10, ...

    It must have been prepared (`tfds.builder(name).download_and_prepare()`). If its files are of the kind array_record
    (`file_format="array_record"` when it was prepared), they are read in any order and without TensorFlow.

    Args:
        name: String, a data set's name, or the folder of a prepared one.
        split: String, such as `"train"` or `"validation[:1000]"`.
        image_size: Integer.
        batch_size: Integer.
        data_dir: String or path, where TFDS keeps its data sets. Defaults to TFDS' own.
        image_key, label_key: Strings, the features to read.
        shuffle_buffer: Integer, how many records of a TFRecord file are shuffled together; the files are shuffled, too.
        **options: As of `from_folder`, without `loader`.

    Returns:
        `ImageDataset`.
    """
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise ImportError("TFDS is missing: pip install 'keras_umd[data]'") from error
    settings = Options(image_size, batch_size, **options)
    is_folder = os.path.isdir(name)
    builder = tfds.builder_from_directory(name) if is_folder else tfds.builder(name, data_dir=data_dir)
    if not is_folder and not builder.is_prepared():
        raise ValueError(
            "The data set must be prepared first, with tfds.builder(name, data_dir=data_dir).download_and_prepare(). "
            f"Received: name={name!r}, data_dir={data_dir!r}"
        )
    features = builder.info.features
    for key in [image_key] + [label_key] * settings.labels:
        if key not in features:
            raise ValueError(f"The data set has the features {list(features)}. Received: {key!r}")
    if settings.labels and not hasattr(features[label_key], "names"):
        raise ValueError(
            "`label_key` must name a feature that is a class, or take labels=False. "
            f"Received: label_key={label_key!r}, which is {features[label_key]}"
        )
    class_names = list(features[label_key].names) if settings.labels else None
    decoders = {image_key: tfds.decode.SkipDecoding()}
    file_format = builder.info.file_format
    description = f"tfds {builder.info.full_name} {file_format.value} {split} {image_key} {label_key}"
    if file_format == tfds.core.FileFormat.ARRAY_RECORD:
        data_source = builder.as_data_source(split=split, decoders=decoders)
        source = RandomAccessSource(data_source, image_key, label_key if settings.labels else None)
        return settings.in_any_order(source, class_names, description)
    import_tensorflow()
    order = settings.order(builder.info.splits[split].num_examples)
    if settings.num_shards > 1:
        parts = tfds.even_splits(split, settings.num_shards, drop_remainder=settings.drops_remainder)
        split = parts[settings.shard_index]

    def records(epoch):
        seed = int(np.random.default_rng([order.seed, epoch]).integers(2**31))
        read_config = tfds.ReadConfig(shuffle_seed=seed, add_tfds_id=True, try_autocache=False)
        dataset = builder.as_dataset(
            split=split, shuffle_files=order.shuffle, decoders=decoders, read_config=read_config
        )
        if order.shuffle:
            dataset = dataset.shuffle(shuffle_buffer, seed=seed)
        return dataset.map(lambda r: (r[image_key], r[label_key] if settings.labels else -1, r["tfds_id"]))

    loader = TFLoader(_of_its_own_seed(records), _same, _same, order, settings.crop(), settings.workers)
    return settings.dataset(loader, order, class_names, f"{description} {shuffle_buffer}")


def from_tfrecords(
    paths,
    image_size,
    batch_size,
    image_key="image/encoded",
    label_key="image/class/label",
    class_names=None,
    first_label=0,
    shuffle_buffer=10_000,
    **options,
):
    """Images in TFRecord files of `tf.train.Example`; the keys are by default those of the usual ImageNet files.

    The number of records is counted first, from the lengths that stand before them.

    Args:
        paths: String with wildcards, or list of strings or paths; also remote ones that TensorFlow can read. With
            several hosts, each reads files of its own.
        image_size: Integer.
        batch_size: Integer.
        image_key, label_key: Strings, the features to read: the encoded image and the class index.
        class_names: List of strings, which `labels` needs.
        first_label: Integer, the index of the first class: 1 in the usual ImageNet files.
        shuffle_buffer: Integer, how many records are shuffled together; the files are shuffled, too.
        **options: As of `from_folder`, without `loader`.

    Returns:
        `ImageDataset`.
    """
    settings = Options(image_size, batch_size, **options)
    tf = import_tensorflow()
    paths = _matching(paths, tf.io.gfile.glob)
    if len(paths) < settings.num_shards:
        raise ValueError(
            f"There must be at least one file for each of {settings.num_shards} hosts. "
            f"Received: paths with {len(paths)} files"
        )
    if settings.labels and not class_names:
        raise ValueError(
            "TFRecord files don't have the names of the classes: give them, or labels=False. "
            f"Received: class_names={class_names}"
        )
    counts = np.asarray([_count_records(tf, path) for path in paths])
    shards = [int(counts[index :: settings.num_shards].sum()) for index in range(settings.num_shards)]
    num_own = min(shards) if settings.drops_remainder else shards[settings.shard_index]
    order = settings.order(num_own * settings.num_shards)
    own_paths = paths[settings.shard_index :: settings.num_shards]
    # A record without an image is one with a bad image, unless none has any.
    features = {image_key: tf.io.FixedLenFeature([], tf.string, default_value="")}
    if settings.labels:
        features[label_key] = tf.io.FixedLenFeature([], tf.int64)
    first = tf.train.Example.FromString(next(iter(tf.data.TFRecordDataset(own_paths).take(1))).numpy())
    missing = [key for key in features if key not in first.features.feature]
    if missing:
        raise ValueError(f"The records have the features {sorted(first.features.feature)}. Received: {missing}")

    def parse(path, number, record):
        example = tf.io.parse_single_example(record, features)
        label = example[label_key] - first_label if settings.labels else tf.constant(-1, tf.int64)
        return example[image_key], label, tf.strings.join([path, tf.strings.as_string(number)], ": record ")

    def read(path):
        dataset = tf.data.TFRecordDataset(path).enumerate()
        return dataset.map(lambda number, record: (path, number, record))

    def records(epoch):
        rng = np.random.default_rng([order.seed, epoch])
        chosen = rng.permutation(own_paths) if order.shuffle else own_paths
        dataset = tf.data.Dataset.from_tensor_slices(list(chosen))
        dataset = dataset.interleave(read, cycle_length=16 if order.shuffle else 1, num_parallel_calls=tf.data.AUTOTUNE)
        if order.shuffle:
            dataset = dataset.shuffle(shuffle_buffer, seed=int(rng.integers(2**31)))
        return dataset.map(parse, num_parallel_calls=tf.data.AUTOTUNE)

    loader = TFLoader(_of_its_own_seed(records), _same, _same, order, settings.crop(), settings.workers)
    sizes = [(os.path.basename(path), tf.io.gfile.stat(path).length) for path in paths]
    description = f"tfrecords {sizes} {image_key} {label_key} {first_label} {shuffle_buffer}"
    return settings.dataset(loader, order, class_names, description)


def _of_its_own_seed(records):
    """Makes a function from an epoch to a tf.data.Dataset independent of TensorFlow's global seed.

    TensorFlow mixes that into every seed; the one of a graph counts within the graph only.
    """

    def independent(epoch):
        tf = import_tensorflow()

        def within_graph(_):
            tf.random.set_seed(0)
            return records(epoch)

        return tf.data.Dataset.from_tensors(0).flat_map(within_graph)

    return independent


class _FolderRecords:
    """The records of a folder for `TFLoader`; their key is the path."""

    def __init__(self, source, order):
        self.source = source
        self.order = order
        self._columns = None

    def __call__(self, epoch):
        tf = import_tensorflow()
        if self._columns is None:
            labels = self.source.labels if self.source.labels is not None else np.full(len(self.source), -1, "int32")
            self._columns = tf.constant([os.fsencode(path) for path in self.source.paths]), tf.constant(labels)
        paths, labels = self._columns

        def record(index):
            path = tf.gather(paths, index)
            return path, tf.gather(labels, index), path

        return tf.data.Dataset.from_tensor_slices(self.order.records(epoch)).map(record)

    @staticmethod
    def read(path):
        return import_tensorflow().io.read_file(path)


def _same(x):
    return x


def _matching(paths, find):
    """The files that patterns match; each must match one at least."""
    patterns = [paths] if isinstance(paths, (str, os.PathLike)) else paths
    found = []
    for pattern in map(os.fspath, patterns):
        matches = sorted(find(pattern))
        if not matches:
            raise ValueError(f"`paths` must name files. Received: {pattern!r}, which matches none")
        found += matches
    if not found:
        raise ValueError(f"`paths` must name files. Received: paths={paths!r}")
    return found


def _count_records(tf, path):
    """How many records a TFRecord file has: each is its length, in 8 bytes, 4 bytes, the record, and 4 bytes."""
    size, position, count = tf.io.gfile.stat(path).length, 0, 0
    with tf.io.gfile.GFile(path, "rb") as file:
        while position < size:
            file.seek(position)
            header = file.read(8)
            position += 16 + (struct.unpack("<Q", header)[0] if len(header) == 8 else size)
            count += 1
    if position > size:
        raise ValueError(f"A TFRecord file is truncated in record {count - 1}. Received: {path}")
    return count
