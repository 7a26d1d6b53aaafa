"""One file for each kind of data; each function gives an `ImageDataset`."""

from keras_umd.data.readers.arrays import from_arrays as from_arrays
from keras_umd.data.readers.folder import from_folder as from_folder
from keras_umd.data.readers.tfds import from_tfds as from_tfds
from keras_umd.data.readers.tfrecords import from_tfrecords as from_tfrecords
from keras_umd.data.readers.webdataset import from_webdataset as from_webdataset

__all__ = ["from_arrays", "from_folder", "from_tfds", "from_tfrecords", "from_webdataset"]
