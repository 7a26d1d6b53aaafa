"""Images in TFRecord files."""

import functools
import os

import numpy as np

from keras_umd.backend import import_tensorflow
from keras_umd.data.files import regular_files
from keras_umd.data.image_files import matching_files
from keras_umd.data.limits import BadImage
from keras_umd.data.readers.record_counts import count_records
from keras_umd.data.settings import Settings, checked_names, tf_dataset
from keras_umd.data.tf_loader import independent_of_the_global_seed
from keras_umd.utils.checks import check_positive_integers, is_between, require

NUM_FIRST = 16  # records that are looked at, to tell wrong keys from damaged records


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

    The number of records is counted first, from the lengths that stand before them; of files compressed with gzip or
    zlib, by reading them once. A record without a label, without an image or with several, and one that is no Example
    count as bad images; a file whose checksums are wrong is an error that names the record.

    Example:

    >>> train = data.from_tfrecords("imagenet/train-*", image_size=64, batch_size=1024, first_label=1)  # doctest: +SKIP

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
    check_positive_integers(shuffle_buffer=shuffle_buffer)
    require(is_between(first_label, -(2**31), 2**31), "`first_label` must be an integer.", f"first_label={first_label}")
    tf = import_tensorflow()
    paths = matching_files(paths, tf.io.gfile.glob)
    regular_files(path for path in paths if os.path.exists(path))  # remote ones are no pipes
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
    class_names = None if class_names is None else checked_names(class_names)
    kinds, counts = zip(*(count_records(tf, path, settings.limits) for path in paths), strict=True)
    counts = np.asarray(counts)
    settings.limits.check_records(int(counts.sum()), f"{len(paths)} files")
    shards = [int(counts[index :: settings.num_shards].sum()) for index in range(settings.num_shards)]
    num_own = min(shards) if settings.drop_remainder else shards[settings.shard_index]
    order = settings.order(num_own * settings.num_shards)
    own = slice(settings.shard_index, None, settings.num_shards)
    files = list(zip(paths[own], kinds[own], strict=True))
    parser = _Parser(image_key, label_key if settings.labels else None, first_label)
    parser.check_first(tf, files)
    records = independent_of_the_global_seed(_records(tf, files, parser, order, shuffle_buffer))
    sizes = [(os.path.basename(path), tf.io.gfile.stat(path).length) for path in paths]
    description = f"tfrecords {sizes} {image_key} {label_key} {first_label} {shuffle_buffer}"
    explain = functools.partial(_explain, tf, files)
    return tf_dataset(settings, records, order, class_names, description, explain=explain)


class _Parser:
    """Reads a record: its image's bytes, its label, and why it can't be used or an empty string.

    Args:
        image_key: String.
        label_key: String, or `None` without labels.
        first_label: Integer.
    """

    def __init__(self, image_key, label_key, first_label):
        self.image_key = image_key
        self.label_key = label_key
        self.first_label = first_label

    def check_first(self, tf, files):
        """Raise a ValueError if none of the first records has the features, or a file can't be read."""
        keys = [key for key in (self.image_key, self.label_key) if key is not None]
        names, missing, where = [], keys, f"{files[0][0]} without records"
        for path, record in _first_records(tf, files):
            where = f"{path} with records that are no tf.train.Example"
            try:
                names = tf.train.Example.FromString(record).features.feature.keys()
            except Exception:  # of protobuf, which raises several kinds
                continue
            missing = [key for key in keys if key not in names]
            if not missing:
                return
        require(not names, f"The records have the features {sorted(names)}.", missing)
        require(False, f"There must be records with the features {keys}.", where)

    def parse(self, tf, record):
        """As a graph; TensorFlow raises for a record that isn't as it should be."""
        # With a default, so that a record without an image counts as a bad image instead of an error.
        features = {self.image_key: tf.io.FixedLenFeature([], tf.string, default_value="")}
        if self.label_key is not None:
            features[self.label_key] = tf.io.FixedLenFeature([], tf.int64)
        example = tf.io.parse_single_example(record, features)
        label = tf.constant(-1, tf.int64) if self.label_key is None else example[self.label_key] - self.first_label
        return example[self.image_key], label, ""

    def parse_in_python(self, tf, record):
        """The same for records of any kind."""

        def parse(record):
            try:
                features = tf.train.Example.FromString(record).features.feature
                image = self._only(features, self.image_key, "bytes_list")
                label = -1
                if self.label_key is not None:
                    label = self._only(features, self.label_key, "int64_list") - self.first_label
                return image, np.int64(label), b""
            except BadImage as error:
                return b"", np.int64(-1), str(error).encode(errors="backslashreplace")
            except Exception as error:  # of protobuf, which raises several kinds
                return b"", np.int64(-1), f"no tf.train.Example: {error}".encode(errors="backslashreplace")

        parsed = tf.numpy_function(parse, [record], (tf.string, tf.int64, tf.string))
        return tuple(tf.ensure_shape(value, ()) for value in parsed)

    @staticmethod
    def _only(features, key, kind):
        values = getattr(features[key], kind).value if key in features else ()
        if len(values) != 1:
            raise BadImage(f"a record must have one value in the {kind} of {key!r}, and has {len(values)}")
        return values[0]


def _first_records(tf, files):
    """The path and the bytes of the first records."""
    num_read = 0
    for path, compression in files:
        try:
            for record in tf.data.TFRecordDataset(path, compression).take(NUM_FIRST - num_read):
                yield path, record.numpy()
                num_read += 1
        except tf.errors.OpError as error:
            _explain(tf, [(path, compression)], error)
        if num_read >= NUM_FIRST:
            return


def _records(tf, files, parser, order, shuffle_buffer):
    """A function from an epoch to its records, as `TFLoader` wants it; the key of a record is the image's bytes."""

    def read(path, compression):
        numbered = tf.data.TFRecordDataset(path, compression).enumerate()
        return numbered.map(lambda number, record: (path, number, record))

    def records(epoch, in_python):
        parse = parser.parse_in_python if in_python else parser.parse

        def named(path, number, record):
            image, label, reason = parse(tf, record)
            return image, label, tf.strings.join([path, tf.strings.as_string(number)], ": record "), reason

        rng = np.random.default_rng([order.seed, epoch])
        chosen = [files[i] for i in rng.permutation(len(files))] if order.shuffle else files
        dataset = tf.data.Dataset.from_tensor_slices(tuple(map(list, zip(*chosen, strict=True))))
        dataset = dataset.interleave(read, cycle_length=16 if order.shuffle else 1, num_parallel_calls=tf.data.AUTOTUNE)
        if order.shuffle:
            dataset = dataset.shuffle(shuffle_buffer, seed=int(rng.integers(2**31)))
        return dataset.map(named, num_parallel_calls=tf.data.AUTOTUNE)

    return records


def _explain(tf, files, error):
    """Raise a ValueError that names the file and the record at which TensorFlow can't go on."""
    for path, compression in files:
        count = 0
        try:
            for _ in tf.data.TFRecordDataset(path, compression):
                count += 1
        except tf.errors.OpError as found:
            raise ValueError(
                "A file of records is damaged; leave it out, or write it anew. "
                f"Received: {path}: record {count}: {found.message.rpartition('}}')[-1].strip()}"
            ) from error
    raise ValueError(f"A file of records is damaged, but can be read again now. Received: {error}") from error
