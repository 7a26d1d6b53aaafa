"""Images in TFRecord files."""

import os
import struct

import numpy as np

from keras_umd.backend import import_tensorflow
from keras_umd.data.readers.folder import matching_files
from keras_umd.data.settings import Settings, tf_dataset
from keras_umd.data.tf_loader import independent_of_the_global_seed
from keras_umd.utils.checks import require


def from_tfrecords(
    paths,
    *,
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
        image_size: Integer or pair `(height, width)`.
        batch_size: Integer.
        image_key, label_key: Strings, the features to read: the encoded image and the class index.
        class_names: List of strings, which `labels` needs.
        first_label: Integer, the index of the first class: 1 in the usual ImageNet files.
        shuffle_buffer: Integer, how many records are shuffled together; the files are shuffled, too.
        **options: As of `from_folder`, without `loader`.

    Returns:
        `ImageDataset`.
    """
    settings = Settings(image_size, batch_size, **options)
    tf = import_tensorflow()
    paths = matching_files(paths, tf.io.gfile.glob)
    require(
        len(paths) >= settings.num_shards,
        f"There must be at least one file for each of {settings.num_shards} hosts.",
        f"paths with {len(paths)} files",
    )
    require(
        class_names or not settings.labels,
        "TFRecord files don't have the names of the classes: give them, or labels=False.",
        f"class_names={class_names}",
    )
    counts = np.asarray([_count_records(tf, path) for path in paths])
    shards = [int(counts[index :: settings.num_shards].sum()) for index in range(settings.num_shards)]
    num_own = min(shards) if settings.drop_remainder else shards[settings.shard_index]
    order = settings.order(num_own * settings.num_shards)
    own_paths = paths[settings.shard_index :: settings.num_shards]
    parse = _parser(tf, own_paths, image_key, label_key if settings.labels else None, first_label)
    records = independent_of_the_global_seed(_records(tf, own_paths, parse, order, shuffle_buffer))
    sizes = [(os.path.basename(path), tf.io.gfile.stat(path).length) for path in paths]
    description = f"tfrecords {sizes} {image_key} {label_key} {first_label} {shuffle_buffer}"
    return tf_dataset(settings, records, order, class_names, description)


def _parser(tf, paths, image_key, label_key, first_label):
    """A function from a record's path, number and bytes to its image's bytes, label and name.

    Raises:
        ValueError: if the first record lacks a feature.
    """
    # With a default, so that a record without an image counts as a bad image instead of an error.
    features = {image_key: tf.io.FixedLenFeature([], tf.string, default_value="")}
    if label_key is not None:
        features[label_key] = tf.io.FixedLenFeature([], tf.int64)
    first = tf.train.Example.FromString(next(iter(tf.data.TFRecordDataset(paths).take(1))).numpy())
    missing = [key for key in features if key not in first.features.feature]
    require(not missing, f"The records have the features {sorted(first.features.feature)}.", missing)

    def parse(path, number, record):
        example = tf.io.parse_single_example(record, features)
        label = tf.constant(-1, tf.int64) if label_key is None else example[label_key] - first_label
        return example[image_key], label, tf.strings.join([path, tf.strings.as_string(number)], ": record ")

    return parse


def _records(tf, paths, parse, order, shuffle_buffer):
    """A function from an epoch to its records, as `TFLoader` wants it; the key of a record is the image's bytes."""

    def read(path):
        return tf.data.TFRecordDataset(path).enumerate().map(lambda number, record: (path, number, record))

    def records(epoch):
        rng = np.random.default_rng([order.seed, epoch])
        chosen = rng.permutation(paths) if order.shuffle else paths
        dataset = tf.data.Dataset.from_tensor_slices(list(chosen))
        dataset = dataset.interleave(read, cycle_length=16 if order.shuffle else 1, num_parallel_calls=tf.data.AUTOTUNE)
        if order.shuffle:
            dataset = dataset.shuffle(shuffle_buffer, seed=int(rng.integers(2**31)))
        return dataset.map(parse, num_parallel_calls=tf.data.AUTOTUNE)

    return records


def _count_records(tf, path):
    """The number of records of a TFRecord file: each is its length, in 8 bytes, 4 bytes, the record, and 4 bytes."""
    size, position, count = tf.io.gfile.stat(path).length, 0, 0
    with tf.io.gfile.GFile(path, "rb") as file:
        while position < size:
            file.seek(position)
            header = file.read(8)
            position += 16 + (struct.unpack("<Q", header)[0] if len(header) == 8 else size)
            count += 1
    require(position == size, f"A TFRecord file is truncated in record {count - 1}.", path)
    return count
