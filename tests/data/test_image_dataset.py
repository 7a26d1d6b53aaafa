"""A data set describes itself, and resumes anywhere."""

import contextlib
import json
import re

import numpy as np
import pytest

from keras_umd import data
from tests.data.conftest import LOADERS, encoded, photo, which

pytestmark = pytest.mark.host


@pytest.fixture(params=LOADERS)
def read_photos(request, photos):
    def read(**options):
        return data.from_folder(photos, **{"image_size": 16, "batch_size": 6, "loader": request.param, **options})

    return read


def test_training_data_say_what_they_are(read_photos):
    train = read_photos()
    assert (len(train), train.num_images, train.image_shape, train.class_names) == (3, 20, (16, 16, 3), ["a", "b"])
    images, labels = next(iter(train))
    assert images.shape == (6, 16, 16, 3) and images.dtype == "uint8" and labels.dtype == "int32"
    np.testing.assert_array_equal(labels, np.asarray(which(images)) >= 10)


def test_training_data_are_shuffled_anew_each_epoch_and_hold_no_image_twice(read_photos):
    train = read_photos(batch_size=5)
    epochs = [[i for images, _ in train for i in which(images)] for _ in range(3)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(20))] * 3
    assert epochs[0] != epochs[1] != epochs[2]
    again = read_photos(batch_size=5)
    assert [i for images, _ in again for i in which(images)] == epochs[0]
    assert [i for images, _ in read_photos(batch_size=5, seed=1) for i in which(images)] != epochs[0]


def test_evaluation_data_come_in_order_each_once_also_in_the_last_shorter_batch(read_photos):
    test = read_photos(training=False)
    for _ in range(2):
        batches = list(test)
        assert [len(images) for images, _ in batches] == [6, 6, 6, 2]
        assert [i for images, _ in batches for i in which(images)] == list(range(20))


def test_hosts_read_all_images_and_none_twice(read_photos):
    seen = [
        i for index in range(2) for x, _ in read_photos(shard_index=index, num_shards=2, batch_size=5) for i in which(x)
    ]
    assert sorted(seen) == list(range(20))
    seen = [
        i
        for index in range(3)
        for x, _ in read_photos(shard_index=index, num_shards=3, training=False)
        for i in which(x)
    ]
    assert sorted(seen) == list(range(20))


def test_a_saved_state_goes_on_with_the_very_same_batches(read_photos):
    train = read_photos()
    whole = [images for _ in range(3) for images, _ in train]
    first = read_photos()
    for _, batch in zip(range(4), (batch for _ in range(3) for batch in first), strict=False):
        np.testing.assert_array_equal(batch[0], whole[_])
    state = first.get_state()
    assert (state["epoch"], state["batch"]) == (1, 1)
    resumed = read_photos()
    resumed.set_state(state)
    rest = [images for _ in range(2) for images, _ in resumed]
    np.testing.assert_array_equal(rest, whole[4:])


def test_a_state_of_other_data_is_refused(read_photos):
    with pytest.raises(ValueError, match="{'seed': 1}"):
        read_photos().set_state(read_photos(seed=1).get_state())
    with pytest.raises(ValueError, match="batch=3"):
        read_photos().go_to(0, 3)


def test_a_batch_can_be_asked_for_by_its_number(read_photos):
    train = read_photos()
    batches = [images for images, _ in train]
    train.go_to(0)
    np.testing.assert_array_equal(train[2][0], batches[2])
    assert train.get_state()["batch"] == 0
    with pytest.raises(IndexError, match="index=3"):
        train[3]


def test_without_labels_batches_are_images(read_photos):
    train = read_photos(labels=False)
    assert train.class_names is None
    assert next(iter(train)).shape == (6, 16, 16, 3)


def test_all_images_as_arrays(read_photos):
    images, labels = read_photos(training=False).as_arrays(verbose=False)
    assert which(images) == list(range(20)) and labels.tolist() == [0] * 10 + [1] * 10
    with pytest.raises(ValueError, match="training=True"):
        read_photos().as_arrays()


@pytest.mark.parametrize("loader", LOADERS)
class TestBadImages:
    @pytest.fixture
    def folder(self, make_folder):
        return make_folder({f"{i}.jpg": b"bad" if i in (2, 5) else encoded(photo(seed=i)) for i in range(8)})

    def read(self, folder, loader, **options):
        return data.from_folder(folder, image_size=16, batch_size=4, labels=False, loader=loader, **options)

    def test_training_batches_stay_full_and_batches_stay_where_they_are(self, folder, loader):
        train = self.read(folder, loader, max_bad_share=0.5)
        with pytest.warns(UserWarning, match="2 images can't be used"):
            first = list(train)
        assert [len(images) for images in first] == [4, 4]
        assert all(images.std(axis=(1, 2, 3)).min() > 10 for images in first)  # no black one
        resumed = self.read(folder, loader, max_bad_share=0.5)
        resumed.go_to(0, 1)
        # The second batch may be decoded by TensorFlow, behind no bad image, or by Pillow.
        again = next(iter(resumed)).astype(int)
        assert np.abs(again - first[1]).mean() < 2 < np.abs(again - first[0]).mean()

    def test_their_share_is_that_of_an_epoch(self, folder, loader):
        train = self.read(folder, loader, max_bad_share=0.3, num_shards=2, shard_index=0, seed=2, drop_remainder=False)
        with pytest.warns(UserWarning, match="can't be used"):
            for _ in range(6):  # one of four images in some epochs, and over all of them two
                with contextlib.suppress(ValueError):  # both in one epoch
                    list(train)
                train.go_to(train.get_state()["epoch"] + 1)
        assert len(train.bad_images) == 2

    def test_too_many_stop_the_training(self, folder, loader):
        with pytest.raises(ValueError, match="More than max_bad_share=0.1 of the 8 images .* 1 bad images"):
            list(self.read(folder, loader, max_bad_share=0.1))

    def test_those_of_a_batch_that_was_looked_at_count_once(self, folder, loader):
        train = self.read(folder, loader, max_bad_share=0.25, shuffle=False)
        train[0], train[0], train[1]
        with pytest.warns(UserWarning, match="2 images can't be used"):
            assert len(list(train)) == 2

    def test_one_stops_the_training_where_asked_for(self, folder, loader):
        with pytest.raises(ValueError, match=r"on_error='skip' would leave it out. Received: .*[25].jpg: not an image"):
            list(self.read(folder, loader, on_error="raise"))

    def test_a_batch_of_nothing_else_is_left_out_and_for_keras_replaced(self, make_folder, loader):
        files = {f"{i}.jpg": b"bad" if i in (4, 5) else encoded(photo(seed=i)) for i in range(6)}
        folder = make_folder(files)
        test = self.read(folder, loader, training=False, max_bad_share=0.5)
        with pytest.warns(UserWarning, match="2 images can't be used"):
            (only,) = list(test)
        assert len(only) == 4
        assert len(test.as_arrays(verbose=False)[0]) == 4
        test.on_epoch_begin()
        np.testing.assert_array_equal(np.concatenate([test[0], test[1]]), only)  # no image twice

    def test_where_keras_has_nothing_to_put_in_the_place_of_a_batch_it_says_so(self, make_folder, loader):
        test = self.read(make_folder({"0.jpg": b"bad"}), loader, training=False, max_bad_share=1)
        with pytest.raises(ValueError, match="first batch has no image that can be used.*0.jpg"):
            test[0]

    def test_behind_an_error_the_same_batch_is_read_again(self, folder, loader):
        train = self.read(folder, loader, on_error="raise", shuffle=False)
        for _ in range(2):
            with pytest.raises(ValueError, match="2.jpg: not an image"):
                next(iter(train))
        train.on_error, train.max_bad_share = "skip", 0.5
        with pytest.warns(UserWarning, match="2 images can't be used"):
            assert [len(images) for images in train] == [4, 4]

    def test_a_second_epoch_repeats_no_warning(self, folder, loader, recwarn):
        train = self.read(folder, loader, max_bad_share=0.5)
        list(train), list(train)
        assert sum("can't be used" in str(warning.message) for warning in recwarn.list) == 1


WRONG = [
    ("on_error", "ignore"),
    ("max_bad_share", 2),
    ("max_bad_share", None),
    ("loader", "grain"),
    ("workers", -1),
    ("workers", 1.5),
    ("area_range", 0.8),
    ("image_size", 0),
    ("batch_size", 0),
    ("seed", -1),
    ("shard_index", 0.5),
]


def test_wrong_arguments_are_named(photos):
    for name, value in WRONG:
        with pytest.raises(ValueError, match=re.escape(f"{name}={value!r}")):
            data.from_folder(photos, **{"image_size": 16, "batch_size": 4, name: value})
    for epoch, batch in ((-1, 0), (0.5, 0), (0, 3)):
        with pytest.raises(ValueError, match=f"epoch={epoch}, batch={batch}"):
            data.from_folder(photos, image_size=16, batch_size=6).go_to(epoch, batch)


def test_a_state_is_json_whatever_integers_are_given(photos):
    train = data.from_folder(photos, image_size=np.int64(16), batch_size=np.int64(6), seed=np.int32(3))
    train.set_state(json.loads(json.dumps(train.get_state())))


def test_repeated_data_have_no_end(photos):
    train = data.from_folder(photos, image_size=16, batch_size=5, loader="python")
    expected = [which(images) for _ in range(2) for images, _ in train]
    repeated = train.repeat()
    seen = [which(images) for _, (images, _) in zip(range(7), repeated, strict=False)]
    assert seen == expected[:7]
    assert (repeated.get_state()["epoch"], repeated.get_state()["batch"], repeated.num_batches) == (1, 3, None)
    assert train.get_state()["epoch"] == 2 and len(list(train)) == 4


def test_a_fit_that_follows_one_that_was_stopped_begins_the_epoch_anew(photos):
    train = data.from_folder(photos, image_size=16, batch_size=5, loader="python")
    expected = [which(images) for images, _ in train]
    train.go_to(0)
    train.on_epoch_begin()
    assert which(train[0][0]) == expected[0]
    assert train.num_batches == 4  # what a new `fit` asks for first
    train.on_epoch_begin()
    assert [which(train[i][0]) for i in (3, 1, 0, 2)] == expected
