"""Images from folders, arrays, TFDS, TFRecords and tar files, cropped and flipped, ready for `fit`.

The readers are for pictures, which have two space axes; signals, volumes and videos go to `fit` as arrays.
"""

from keras_umd.data.crops import Crop
from keras_umd.data.dataset import Dataset
from keras_umd.data.device import on_device
from keras_umd.data.image_dataset import ImageDataset
from keras_umd.data.limits import Limits
from keras_umd.data.order import Order
from keras_umd.data.readers.arrays import from_arrays
from keras_umd.data.readers.folder import from_folder
from keras_umd.data.readers.idx import read_idx
from keras_umd.data.readers.tfds import from_tfds
from keras_umd.data.readers.tfrecords import from_tfrecords
from keras_umd.data.readers.webdataset import from_webdataset

__all__ = [
    "Crop",
    "Dataset",
    "ImageDataset",
    "Limits",
    "Order",
    "from_arrays",
    "from_folder",
    "from_tfds",
    "from_tfrecords",
    "from_webdataset",
    "on_device",
    "read_idx",
]
