"""Images from folders, arrays, TFDS, TFRecords and tar files, cropped and flipped, ready for `fit`."""

from keras_umd.data.crops import Crop
from keras_umd.data.device import on_device
from keras_umd.data.image_dataset import ImageDataset
from keras_umd.data.readers import from_arrays, from_folder, from_tfds, from_tfrecords, from_webdataset
