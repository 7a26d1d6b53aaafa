"""The files of MNIST: what their headers say is compared with what they hold."""

import gzip
import os

import numpy as np
import pytest

from keras_umd import data

pytestmark = pytest.mark.host
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (12, 5, 7)).astype("uint8")
LABELS = (np.arange(12) % 10).astype("uint8")


def idx(values, shape=None, magic=None):
    shape = values.shape if shape is None else shape
    magic = bytes([0, 0, 8, len(shape)]) if magic is None else magic
    return magic + np.array(shape, ">u4").tobytes() + values.tobytes()


@pytest.fixture
def write(tmp_path):
    def write(images, labels):
        (tmp_path / "images").write_bytes(images)
        (tmp_path / "labels").write_bytes(labels)
        return tmp_path / "images", tmp_path / "labels"

    return write


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_idx_files_are_read(pack, write):
    images, labels = data.read_idx(*write(pack(idx(IMAGES)), pack(idx(LABELS))))
    np.testing.assert_array_equal(images, IMAGES[..., None])
    np.testing.assert_array_equal(labels, LABELS)
    assert images.dtype == "uint8" and labels.dtype == "int32"
    assert data.from_arrays(images, labels, batch_size=4).num_images == 12


PACKED = gzip.compress(idx(IMAGES))
LIES = {
    "more images than there are": (idx(IMAGES, (13, 5, 7)), None, "which are 455 bytes, and 420"),
    "fewer images than there are": (idx(IMAGES, (11, 5, 7)), None, "which are 385 bytes, and more"),
    "other rows": (idx(IMAGES, (12, 6, 7)), None, "which are 504 bytes"),
    "four billion rows": (idx(IMAGES, (12, 2**32 - 1, 7)), None, "may have 4294967296 bytes"),
    "billions of images of nothing": (idx(IMAGES[:0], (2**32 - 1, 0, 0)), None, "There may be 1073741824 records"),
    "floats": (idx(IMAGES, magic=bytes([0, 0, 13, 3])), None, "begins with 00 00 0d 03"),
    "two axes": (idx(IMAGES, (12, 35)), None, "begins with 00 00 08 02"),
    "no header": (IMAGES.tobytes(), None, "must begin with 00 00 08 03"),
    "nothing": (b"", None, "begins with nothing"),
    "a part of a header": (idx(IMAGES)[:9], None, "must begin with 00 00 08 03"),
    "labels for images": (idx(LABELS), None, "begins with 00 00 08 01"),
    "images for labels": (None, idx(IMAGES), "begins with 00 00 08 03"),
    "one label fewer": (None, idx(LABELS[:11]), "one label for each image. Received: 12 images .*11 labels"),
    "no images": (idx(IMAGES[:0]), idx(LABELS[:0]), "0 images"),
    "half of a compressed file": (PACKED[: len(PACKED) // 2], None, "can't be read. Received: .*images"),
    "a compressed file with zeros": (PACKED[:100] + bytes(100) + PACKED[200:], None, "can't be read.*images"),
}


@pytest.mark.parametrize("kind", LIES)
def test_a_header_that_lies_is_an_error_that_names_the_file(kind, write):
    images, labels, message = LIES[kind]
    with pytest.raises(ValueError, match=message):
        data.read_idx(*write(idx(IMAGES) if images is None else images, idx(LABELS) if labels is None else labels))


def test_a_compressed_file_that_never_ends_is_read_no_further_than_its_header_says(write):
    packer = gzip.compress(idx(IMAGES) + bytes(2**26))
    with pytest.raises(ValueError, match="which are 420 bytes, and more"):
        data.read_idx(*write(packer, idx(LABELS)))


def test_a_pipe_is_no_idx_file(write):
    images, labels = write(b"", idx(LABELS))
    os.remove(images)
    os.mkfifo(images)
    with pytest.raises(ValueError, match="images: not a regular file"):
        data.read_idx(images, labels)
