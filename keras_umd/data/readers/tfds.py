"""Data sets of TensorFlow Datasets."""

import os

import numpy as np

from keras_umd.backend import import_tensorflow
from keras_umd.data.limits import BadImage
from keras_umd.data.settings import Settings, random_access_dataset, tf_dataset
from keras_umd.data.tf_loader import independent_of_the_global_seed
from keras_umd.utils.checks import require
from keras_umd.utils.optional import import_optional


def from_tfds(
    name,
    split,
    *,
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

    Example:

    >>> train = data.from_tfds("imagenet2012", "train", image_size=64, batch_size=1024)                 # doctest: +SKIP

    Args:
        name: String, a data set's name, or the folder of a prepared one.
        split: String, such as `"train"` or `"validation[:1000]"`.
        image_size: Integer or pair `(height, width)`.
        batch_size: Integer.
        data_dir: String or path, where TFDS keeps its data sets. Defaults to TFDS' own.
        image_key, label_key: Strings, the features to read.
        shuffle_buffer: Integer, how many records of a TFRecord file are shuffled together; the files are shuffled, too.
        **options: As of `from_folder`, without `loader`.

    Returns:
        `ImageDataset`.
    """
    tfds = import_optional("tensorflow_datasets", "TFDS is missing: pip install 'keras_umd[data]'")
    settings = Settings(image_size, batch_size, **options)
    builder = tfds.builder_from_directory(name) if os.path.isdir(name) else tfds.builder(name, data_dir=data_dir)
    require(
        builder.is_prepared(),
        "The data set must be prepared first, with tfds.builder(name, data_dir=data_dir).download_and_prepare().",
        f"name={name!r}, data_dir={data_dir!r}",
    )
    class_names = _checked_features(builder.info.features, image_key, label_key, settings.labels)
    file_format = builder.info.file_format
    description = f"tfds {builder.info.full_name} {file_format.value} {split} {image_key} {label_key}"
    label_key = label_key if settings.labels else None
    if file_format == tfds.core.FileFormat.ARRAY_RECORD:
        data_source = builder.as_data_source(split=split, decoders={image_key: tfds.decode.SkipDecoding()})
        return random_access_dataset(
            settings, RandomAccessSource(data_source, image_key, label_key), class_names, description
        )
    import_tensorflow()
    order = settings.order(builder.info.splits[split].num_examples)
    if settings.num_shards > 1:
        parts = tfds.even_splits(split, settings.num_shards, drop_remainder=settings.drop_remainder)
        split = parts[settings.shard_index]
    records = _records(tfds, builder, split, order, image_key, label_key, shuffle_buffer)
    return tf_dataset(settings, records, order, class_names, f"{description} {shuffle_buffer}")


def _checked_features(features, image_key, label_key, with_labels):
    """The names of the classes, or `None` without labels; a ValueError for keys that aren't there or no class."""
    for key in [image_key] + [label_key] * with_labels:
        require(key in features, f"The data set has the features {list(features)}.", repr(key))
    if not with_labels:
        return None
    require(
        hasattr(features[label_key], "names"),
        "`label_key` must name a feature that is a class, or take labels=False.",
        f"label_key={label_key!r}, which is {features[label_key]}",
    )
    return list(features[label_key].names)


def _records(tfds, builder, split, order, image_key, label_key, shuffle_buffer):
    """A function from an epoch to its records, as `TFLoader` wants it; the key of a record is the image's bytes."""

    def records(epoch, in_python):
        seed = int(np.random.default_rng([order.seed, epoch]).integers(2**31))
        dataset = builder.as_dataset(
            split=split,
            shuffle_files=order.shuffle,
            decoders={image_key: tfds.decode.SkipDecoding()},
            read_config=tfds.ReadConfig(shuffle_seed=seed, add_tfds_id=True, try_autocache=False),
        )
        if order.shuffle:
            dataset = dataset.shuffle(shuffle_buffer, seed=seed)
        return dataset.map(lambda r: (r[image_key], -1 if label_key is None else r[label_key], r["tfds_id"], ""))

    return independent_of_the_global_seed(records)


class RandomAccessSource:
    """A data source of TFDS (`builder.as_data_source`), which reads array_record files without TensorFlow.

    Args:
        data_source: The data source.
        image_key: String.
        label_key: String, or `None` without labels.
    """

    def __init__(self, data_source, image_key, label_key):
        self.data_source = data_source
        self.image_key = image_key
        self.label_key = label_key

    def __len__(self):
        return len(self.data_source)

    def read(self, record):
        try:
            features = self.data_source[int(record)]
        except Exception as error:  # its readers raise many kinds
            raise BadImage(f"can't be read: {error}") from error
        return features[self.image_key], None if self.label_key is None else int(features[self.label_key])

    def name(self, record):
        return f"record {record}"
