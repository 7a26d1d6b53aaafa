"""Each kind of data gives the images and labels that are in it."""

import io
import os
import subprocess
import sys
import tarfile

import numpy as np
import pytest

from keras_umd import data
from keras_umd.data.readers.tfds import RandomAccessSource
from keras_umd.data.settings import Settings, random_access_dataset
from tests.data.conftest import encoded, photo, which

pytestmark = pytest.mark.host


def grey(i, size=(40, 50)):
    return np.full((*size, 3), 10 * i, "uint8")


def test_arrays():
    images = np.stack([grey(i, (16, 16)) for i in range(20)])
    labels = np.arange(20) % 4
    train = data.from_arrays(images, labels, batch_size=6)
    assert (len(train), train.num_images, train.image_shape, train.class_names) == (3, 20, (16, 16, 3), list("0123"))
    for x, y in train:
        np.testing.assert_array_equal(y, np.asarray(which(x)) % 4)
    test = data.from_arrays(images, image_size=8, batch_size=6, training=False)
    np.testing.assert_array_equal(np.concatenate(list(test)), images[:, ::2, ::2])


def test_an_array_that_needs_no_crop_comes_as_it_is():
    images = np.random.default_rng(0).integers(0, 256, (10, 8, 8, 1)).astype("uint8")
    np.testing.assert_array_equal(np.concatenate(list(data.from_arrays(images, batch_size=4, training=False))), images)
    train = data.from_arrays(images, batch_size=5, area_range=(1, 1))
    for image in np.concatenate(list(train)):
        assert any(np.array_equal(image, other) or np.array_equal(image[:, ::-1], other) for other in images)


def test_arrays_of_rectangles_keep_their_size_and_can_be_cropped_to_another():
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 16, 3)).astype("uint8")
    test = data.from_arrays(images, batch_size=3, training=False)
    np.testing.assert_array_equal(np.concatenate(list(test)), images)
    train = data.from_arrays(images, image_size=(8, 4), batch_size=3)
    assert train.image_shape == (8, 4, 3) and next(iter(train)).shape == (3, 8, 4, 3)
    with pytest.raises(ValueError, match="state is of another data set"):
        train.set_state(data.from_arrays(images, image_size=(4, 8), batch_size=3).get_state())


def test_volumes_and_videos_are_refused_with_the_way_out():
    with pytest.raises(ValueError, match="go to `fit` as they are. Received: ndarray of shape"):
        data.from_arrays(np.zeros((4, 8, 8, 8, 3), "uint8"))


def add(archive, name, content):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def test_a_tar_of_webdataset(tmp_path):
    for part in range(2):
        with tarfile.open(tmp_path / f"part-{part}.tar", "w") as archive:
            for i in range(10 * part, 10 * part + 10):
                add(archive, f"folder/{i:03}.png", encoded(grey(i), "PNG"))
                add(archive, f"folder/{i:03}.seg.png", encoded(grey(0), "PNG"))  # another feature of the same record
                add(archive, f"folder/{i:03}.cls", str(i % 3).encode())
                add(archive, f"folder/{i:03}.json", b"{}")
                add(archive, f"folder/._{i:03}.png", b"what macOS leaves")
    train = data.from_webdataset(str(tmp_path / "part-*.tar"), image_size=16, batch_size=5)
    assert (train.num_images, train.class_names) == (20, ["0", "1", "2"])
    seen = []
    for x, y in train:
        np.testing.assert_array_equal(y, np.asarray(which(x)) % 3)
        seen += which(x)
    assert sorted(seen) == list(range(20))
    with pytest.raises(ValueError, match="which matches none"):
        data.from_webdataset(str(tmp_path / "*.zip"), image_size=16, batch_size=5)
    with pytest.raises(ValueError, match="part-2.tar', which matches none"):
        data.from_webdataset([tmp_path / "part-0.tar", tmp_path / "part-2.tar"], image_size=16, batch_size=5)


@pytest.mark.parametrize(
    "files, message",
    [
        ({"a.png": b"", "a.jpg": b"", "a.cls": b"1"}, "a with 2 images"),
        ({"a.png": b""}, "a with 1 images, label: None"),
        ({"a.cls": b"1"}, "a with 0 images"),
        ({"a.png": b"", "a.cls": b"cat"}, "a.cls: b'cat'"),
    ],
)
def test_a_wrong_tar_is_named(files, message, tmp_path):
    with tarfile.open(tmp_path / "wrong.tar", "w") as archive:
        for name, content in files.items():
            add(archive, name, content)
    with pytest.raises(ValueError, match=f"wrong.tar: {message}"):
        data.from_webdataset(tmp_path / "wrong.tar", image_size=16, batch_size=1)


def test_a_file_that_is_no_tar_is_named(tmp_path):
    (tmp_path / "photo.tar").write_bytes(encoded(grey(1)))
    with pytest.raises(ValueError, match="whole and not compressed. Received: .*photo.tar"):
        data.from_webdataset(tmp_path / "photo.tar", image_size=16, batch_size=1)


@pytest.fixture
def tfrecords(tmp_path):
    tf = pytest.importorskip("tensorflow")

    def feature(**value):
        return tf.train.Feature(**{kind: klass(value=[value[kind]]) for kind, klass in kinds.items() if kind in value})

    kinds = {"bytes_list": tf.train.BytesList, "int64_list": tf.train.Int64List}
    for part in range(4):
        with tf.io.TFRecordWriter(str(tmp_path / f"train-{part}")) as writer:
            for i in range(5 * part, 5 * part + 5):
                image = b"bad" if i == 7 else encoded(grey(i))
                features = {
                    "image/encoded": feature(bytes_list=image),
                    "image/class/label": feature(int64_list=1 + i % 3),
                }
                example = tf.train.Example(features=tf.train.Features(feature=features))
                writer.write(example.SerializeToString())
    return str(tmp_path / "train-*")


def read_tfrecords(paths, **options):
    options = {"class_names": list("abc"), "first_label": 1, "max_bad_share": 0.1, **options}
    return data.from_tfrecords(paths, image_size=16, batch_size=options.pop("batch_size", 4), **options)


def test_tfrecords(tfrecords):
    test = read_tfrecords(tfrecords, training=False)
    assert (len(test), test.num_images, test.class_names) == (5, 20, list("abc"))
    with pytest.warns(UserWarning, match="train-1: record 2"):
        batches = list(test)
    good = [i for i in range(20) if i != 7]
    assert [i for x, _ in batches for i in which(x)] == good
    assert [i for _, y in batches for i in y] == [i % 3 for i in good]


@pytest.fixture
def tensorflows_seed():
    """Sets TensorFlow's global seed, which mixes into all seeds, and restores it."""
    tf = pytest.importorskip("tensorflow")
    before = tf.compat.v1.get_seed(None)[0]
    yield tf.random.set_seed
    tf.random.set_seed(before)


def test_tfrecords_are_shuffled_and_go_on_in_an_epoch(tfrecords, tensorflows_seed):
    whole = [which(x) for x, _ in read_tfrecords(tfrecords, batch_size=2)]
    assert len(whole) == 10 and sorted(set(np.ravel(whole))) == [i for i in range(20) if i != 7]
    assert np.ravel(whole).tolist() != sorted(np.ravel(whole))
    train = read_tfrecords(tfrecords, batch_size=2)
    tensorflows_seed(1)
    train.go_to(0, 4)
    assert [which(x) for x, _ in train] == whole[4:]
    assert [which(x) for x, _ in train] != whole


def test_another_shuffle_buffer_is_another_order(tfrecords):
    state = read_tfrecords(tfrecords, shuffle_buffer=5).get_state()
    with pytest.raises(ValueError, match="state is of another data set"):
        read_tfrecords(tfrecords, shuffle_buffer=6).set_state(state)


def test_wrong_features_and_files_of_tfrecords_are_named(tfrecords, tmp_path):
    with pytest.raises(ValueError, match=r"\['image/class/label', 'image/encoded'\]. Received: \['image'\]"):
        read_tfrecords(tfrecords, image_key="image")
    with pytest.raises(ValueError, match="train-9', which matches none"):
        read_tfrecords([tfrecords, tmp_path / "train-9"])


def test_a_record_without_an_image_is_a_bad_image(tmp_path):
    tf = pytest.importorskip("tensorflow")
    with tf.io.TFRecordWriter(str(tmp_path / "records")) as writer:
        for i in range(4):
            value = tf.train.Feature(bytes_list=tf.train.BytesList(value=[encoded(grey(i))]))
            features = tf.train.Features(feature={} if i == 2 else {"image/encoded": value})
            writer.write(tf.train.Example(features=features).SerializeToString())
    test = data.from_tfrecords(
        tmp_path / "records", image_size=16, batch_size=4, training=False, labels=False, max_bad_share=0.5
    )
    with pytest.warns(UserWarning, match="records: record 2"):
        (images,) = list(test)
    assert which(images) == [0, 1, 3]


def test_a_damaged_tfrecord_file_stops_the_reading(tfrecords, tmp_path):
    content = bytearray((tmp_path / "train-2").read_bytes())
    content[100] ^= 1
    (tmp_path / "train-2").write_bytes(content)
    with pytest.raises(ValueError, match="A file of records is damaged"):
        list(read_tfrecords(tfrecords, training=False))


def test_hosts_read_tfrecord_files_of_their_own(tfrecords):
    read = [read_tfrecords(tfrecords, shard_index=i, num_shards=2, training=False) for i in range(2)]
    seen = [i for dataset in read for x, _ in dataset for i in which(x)]
    assert sorted(seen) == [i for i in range(20) if i != 7]
    with pytest.raises(ValueError, match="at least one file for each of 5 hosts"):
        read_tfrecords(tfrecords, num_shards=5)


def test_a_truncated_tfrecord_file_is_named(tfrecords, tmp_path):
    with open(tmp_path / "train-2", "r+b") as file:
        file.truncate(os.path.getsize(tmp_path / "train-2") - 100)
    with pytest.raises(ValueError, match="truncated in record 4. Received: .*train-2"):
        read_tfrecords(tfrecords)


@pytest.fixture(scope="module", params=["tfrecord", "array_record"])
def prepared_imagenet(request, tmp_path_factory):
    """A prepared data set of TFDS with the name and the features of ImageNet, and 40 images."""
    tfds = pytest.importorskip("tensorflow_datasets")
    directory = str(tmp_path_factory.mktemp(request.param))
    builder = tfds.builder("imagenet2012", data_dir=directory, file_format=request.param)

    def generate(offset, count):
        for i in range(offset, offset + count):
            image = io.BytesIO(encoded(grey(i % 20)))
            yield f"n{i:05}.JPEG", {"image": image, "label": i % 1000, "file_name": f"n{i:05}.JPEG"}

    builder._split_generators = lambda *_: {"train": generate(0, 20), "validation": generate(20, 10)}
    config = tfds.download.DownloadConfig(verify_ssl=False, num_shards=4)
    builder.download_and_prepare(download_config=config)
    return directory


def test_a_data_set_of_tfds(prepared_imagenet, tensorflows_seed):
    train = data.from_tfds("imagenet2012", "train", image_size=16, batch_size=6, data_dir=prepared_imagenet)
    assert (len(train), train.num_images, train.image_shape, len(train.class_names)) == (3, 20, (16, 16, 3), 1000)
    epochs = [[i for x, _ in train for i in which(x)] for _ in range(2)]
    assert all(len(set(epoch)) == 18 for epoch in epochs) and epochs[0] != epochs[1]
    tensorflows_seed(1)
    train.go_to(0, 1)
    x, y = next(iter(train))
    assert which(x) == epochs[0][6:12] and y.tolist() == epochs[0][6:12]
    test = data.from_tfds(
        "imagenet2012",
        "validation",
        image_size=16,
        batch_size=6,
        data_dir=prepared_imagenet,
        training=False,
        labels=False,
    )
    seen = [i for x in test for i in which(x)]
    assert sorted(seen) == list(range(10))


def test_hosts_share_a_data_set_of_tfds(prepared_imagenet):
    options = {"data_dir": prepared_imagenet, "training": False, "num_shards": 3}
    read = [
        data.from_tfds("imagenet2012", "train", image_size=16, batch_size=4, shard_index=i, **options) for i in range(3)
    ]
    assert sorted(i for dataset in read for x, _ in dataset for i in which(x)) == list(range(20))
    assert [len(list(dataset)) for dataset in read] == [len(dataset) for dataset in read]


def test_the_folder_of_a_prepared_data_set(prepared_imagenet):
    (folder,) = (path for path, _, files in os.walk(prepared_imagenet) if "dataset_info.json" in files)
    assert data.from_tfds(folder, "train[:50%]", image_size=16, batch_size=5).num_images == 10
    with pytest.raises(ValueError, match="features .*Received: 'class'"):
        data.from_tfds(folder, "train", image_size=16, batch_size=5, label_key="class")
    with pytest.raises(ValueError, match="a feature that is a class.*Received: label_key='file_name'"):
        data.from_tfds(folder, "train", image_size=16, batch_size=5, label_key="file_name")


def test_a_record_that_a_data_source_cannot_read_is_a_bad_image():
    class Damaged(list):
        def __getitem__(self, index):
            if index == 2:
                raise RuntimeError("chunk data hash mismatch")
            return super().__getitem__(index)

    source = RandomAccessSource(Damaged({"image": encoded(grey(i)), "label": i} for i in range(4)), "image", "label")
    settings = Settings(16, 4, training=False, max_bad_share=0.5)
    test = random_access_dataset(settings, source, list("abcd"), "damaged")
    with pytest.warns(UserWarning, match=r"record 2 \(can't be read: chunk data hash mismatch\)"):
        ((images, labels),) = list(test)
    assert which(images) == labels.tolist() == [0, 1, 3]


def test_a_data_set_of_tfds_that_is_not_there_says_what_to_do(tmp_path):
    pytest.importorskip("tensorflow_datasets")
    with pytest.raises(ValueError, match=r"download_and_prepare\(\). Received: name='cifar10'"):
        data.from_tfds("cifar10", "train", image_size=32, batch_size=5, data_dir=str(tmp_path))


def test_folders_without_images_are_named(make_folder, tmp_path):
    with pytest.raises(ValueError, match="must be a folder with images. Received: .*nowhere"):
        data.from_folder(str(tmp_path / "nowhere"), image_size=16, batch_size=4)
    empty = make_folder({"cats/readme.txt": b"", "dogs/1.jpg": encoded(photo())})
    with (
        pytest.warns(UserWarning, match="1 files in .* left out: .*readme.txt"),
        pytest.raises(ValueError, match=r"Every class must have images.* none in \['cats'\]"),
    ):
        data.from_folder(empty, image_size=16, batch_size=4)
    hidden = make_folder(
        {"a/1.jpg": encoded(photo()), "a/.ipynb_checkpoints/1.jpg": encoded(photo()), "2.jpg": b""}, "b"
    )
    with pytest.warns(UserWarning, match="1 images in .* are in no sub-folder .*: 2.jpg"):
        assert data.from_folder(hidden, image_size=16, batch_size=1).num_images == 1
    flat = make_folder({"1.jpg": encoded(photo())}, "flat")
    with pytest.raises(ValueError, match="labels=False takes images alone"):
        data.from_folder(flat, image_size=16, batch_size=4)
    with pytest.raises(ValueError, match="1 images, batch_size=4"):
        data.from_folder(flat, image_size=16, batch_size=4, labels=False)


def test_wrong_arrays_are_named():
    with pytest.raises(ValueError, match=r"ndarray of shape \(4, 8, 8, 3\) and type float64"):
        data.from_arrays(np.zeros((4, 8, 8, 3)))
    with pytest.raises(ValueError, match=r"class indices of shape \(4,\). Received: labels of shape \(3,\)"):
        data.from_arrays(np.zeros((4, 8, 8, 3), "uint8"), np.zeros(3, int))


def test_the_python_loader_imports_no_tensorflow(photos):
    code = (
        "import sys; from keras_umd import data\n"
        f"dataset = data.from_folder({photos!r}, image_size=16, batch_size=4, loader='python')\n"
        "assert len(list(dataset)) == 5\n"
        "assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "KERAS_BACKEND": "torch"})
