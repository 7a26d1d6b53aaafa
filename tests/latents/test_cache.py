"""The cache of latents: what is in it, how it goes on, and what a model gets from it."""

import os

import ml_dtypes
import numpy as np
import pytest

from keras_umd import UMD, data
from keras_umd.latents import cache, cache_latents, from_latents, reader
from tests.conftest import QUICK, array
from tests.data.conftest import photo
from tests.latents.helpers import tiny_autoencoder

IMAGES = np.stack([photo(16, 16, seed) for seed in range(11)])
LABELS = np.arange(11) % 3


@pytest.fixture
def autoencoder():
    return tiny_autoencoder()


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(cache, "SHARD_BYTES", 2_048)  # a batch each


def images_in_order(**options):
    return data.from_arrays(IMAGES, LABELS, batch_size=4, **{"training": False, **options})


def random_crops(**options):
    return images_in_order(training=True, flip=False, shuffle=False, drop_remainder=False, **options)


def rounded(x):
    return array(x).astype(ml_dtypes.bfloat16).astype("float32")


def test_evaluation_gives_the_means_in_order(autoencoder, tmp_path):
    directory = cache_latents(images_in_order(), autoencoder, tmp_path / "cache", verbose=False)
    mean, _ = autoencoder.encode(IMAGES)
    test = from_latents(directory, batch_size=4, training=False)
    assert (test.num_images, test.image_shape, test.class_names) == (11, tuple(mean.shape[1:]), ["0", "1", "2"])
    latents, labels = test.as_arrays(verbose=False)
    np.testing.assert_allclose(latents, rounded(mean), rtol=1e-2, atol=1e-5)
    np.testing.assert_array_equal(labels, LABELS)
    assert [len(x) for x in from_latents(directory, batch_size=4, training=False, labels=False)] == [4, 4, 3]


def test_training_samples_each_image_or_its_mirror_image_on_the_device(autoencoder, tmp_path):
    directory = cache_latents(images_in_order(), autoencoder, tmp_path / "cache", verbose=False)
    versions = [[rounded(part) for part in autoencoder.encode(x)] for x in (IMAGES, IMAGES[:, :, ::-1])]
    train = from_latents(directory, batch_size=5, seed=1)
    deviations, mirrored = [], []
    for epoch in range(20):
        seen = []
        for batch in train:
            latents, labels = train.device_layer(batch)
            np.testing.assert_array_equal(array(labels), LABELS[batch["indices"]])
            assert set(batch["epoch"]) == {epoch}
            for moments, latent, index in zip(batch["moments"], array(latents), batch["indices"], strict=True):
                mean, std = np.split(moments.astype("float32"), 2, axis=-1)
                found = [np.allclose(mean, version[0][index], rtol=1e-2, atol=1e-5) for version in versions]
                assert sum(found) == 1
                mirrored.append(found[1])
                deviations.append((latent - mean) / std)
                seen.append(index)
        assert len(set(seen)) == len(seen) == 10
    deviations = np.asarray(deviations)
    assert abs(np.mean(mirrored) - 0.5) < 4 * 0.5 / np.sqrt(200)
    count = deviations.size
    assert abs(deviations.mean()) < 4 / np.sqrt(count) and abs(deviations.var() - 1) < 4 * np.sqrt(2 / count)
    # Drawn anew each time, not by image or by epoch.
    flat = deviations.reshape(200, -1)
    assert abs(np.corrcoef(flat) - np.eye(200)).max() < 6 / np.sqrt(flat.shape[1])


def test_views_are_the_crops_of_epochs(autoencoder, tmp_path):
    crops = random_crops(area_range=(0.2, 0.5))
    directory = cache_latents(crops, autoencoder, tmp_path / "cache", views=2, flip=False, verbose=False)
    crops.go_to(0)
    views = [rounded(autoencoder.encode(np.concatenate([x for x, _ in crops]))[0]) for _ in range(2)]
    assert np.abs(views[0] - views[1]).max() > 0.01
    chosen = []
    train = from_latents(directory, batch_size=11)
    for _ in range(10):
        for batch in train:
            for moments, index in zip(batch["moments"], batch["indices"], strict=True):
                mean = np.split(moments.astype("float32"), 2, axis=-1)[0]
                found = [np.allclose(mean, view[index], rtol=1e-2, atol=1e-5) for view in views]
                assert sum(found) == 1
                chosen.append(found[1])
    assert 0.2 < np.mean(chosen) < 0.8


class Killed(Exception):
    pass


@pytest.mark.parametrize("calls", [3, *(pytest.param(calls, marks=pytest.mark.host) for calls in (1, 4, 8))])
def test_a_killed_run_goes_on_where_it_was(autoencoder, tmp_path, monkeypatch, calls):
    whole = cache_latents(random_crops(), autoencoder, tmp_path / "whole", views=2, verbose=False)
    encode, done = autoencoder.encode, []

    def killed_encode(images):
        if len(done) == calls:
            raise Killed
        done.append(len(images))
        return encode(images)

    monkeypatch.setattr(autoencoder, "encode", killed_encode)
    with pytest.raises(Killed):
        cache_latents(random_crops(), autoencoder, tmp_path / "killed", views=2, verbose=False)
    written = calls // 2
    if written:
        with pytest.raises(ValueError, match="must be complete"):
            from_latents(tmp_path / "killed")
    else:
        assert not os.listdir(tmp_path / "killed")
    encoded_again = []
    monkeypatch.setattr(autoencoder, "encode", lambda images: encoded_again.append(len(images)) or encode(images))
    killed = cache_latents(random_crops(), autoencoder, tmp_path / "killed", views=2, verbose=False)
    files = sorted(name for name in os.listdir(whole) if name.endswith(".npy"))
    assert sorted(name for name in os.listdir(killed) if name.endswith(".npy")) == files
    for name in files:
        np.testing.assert_array_equal(np.load(f"{whole}/{name}"), np.load(f"{killed}/{name}"))
    assert len(encoded_again) == 2 * 2 * 3 - 2 * written  # two views of three batches, with their mirror images
    # A complete one is left alone.
    encoded_again.clear()
    cache_latents(random_crops(), autoencoder, tmp_path / "killed", views=2, verbose=False)
    assert not encoded_again


@pytest.mark.host
def test_a_cache_of_something_else_is_refused(autoencoder, tmp_path):
    directory = cache_latents(images_in_order(), autoencoder, tmp_path / "cache", verbose=False)
    other = tiny_autoencoder()
    other.encoder.set_weights([2 * weight for weight in autoencoder.encoder.get_weights()])
    with pytest.raises(ValueError, match="holds latents made otherwise.*autoencoder_fingerprint"):
        cache_latents(images_in_order(), other, directory, verbose=False)
    with pytest.raises(ValueError, match="holds latents made otherwise.*'flip': True.*'flip': False"):
        cache_latents(images_in_order(), autoencoder, directory, flip=False, verbose=False)
    with pytest.raises(ValueError, match="holds latents made otherwise.*'num_images': 11"):
        fewer = data.from_arrays(IMAGES[:8], LABELS[:8], batch_size=4, training=False)
        cache_latents(fewer, autoencoder, directory, verbose=False)
    with pytest.raises(ValueError, match="holds latents made otherwise.*'source': 'array"):
        cache_latents(data.from_arrays(IMAGES[::-1], LABELS, batch_size=4, training=False), autoencoder, directory)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="must be empty"):
        cache_latents(images_in_order(), autoencoder, tmp_path / "other", verbose=False)


def test_the_autoencoder_of_a_cache_is_known(autoencoder, tmp_path):
    directory = cache_latents(images_in_order(), autoencoder, tmp_path / "cache", verbose=False)
    assert from_latents(directory, batch_size=4, autoencoder=tiny_autoencoder()).num_images == 11
    with pytest.raises(ValueError, match="the one that made the cache, 'tiny'.*Received: 'other'"):
        from_latents(directory, batch_size=4, autoencoder=tiny_autoencoder(name="other"))


def test_latents_of_rectangles(autoencoder, tmp_path):
    images = data.from_arrays(IMAGES, LABELS, image_size=(16, 8), batch_size=4, training=False)
    directory = cache_latents(images, autoencoder, tmp_path / "cache", verbose=False)
    test = from_latents(directory, batch_size=11, training=False)
    assert test.image_shape == autoencoder.latent_shape((16, 8))
    mean, _ = autoencoder.encode(images.as_arrays(verbose=False)[0])
    np.testing.assert_allclose(test[0][0], rounded(mean), rtol=1e-2, atol=1e-5)
    assert from_latents(directory, batch_size=4).image_shape == test.image_shape


class UnreadableImages(data.ImageDataset):
    """`IMAGES` in batches of 4, of which some can't be read."""

    def __init__(self, unreadable=(), **options):
        whole = random_crops(max_bad_share=1, **options)
        self.__dict__.update(whole.__dict__)
        read = whole.loader.source.read

        def fail_or_read(record):
            if (self._epoch, record) in unreadable:
                raise OSError("gone")
            return read(record)

        whole.loader.source.read = fail_or_read


@pytest.mark.host
def test_images_that_cannot_be_read_are_left_out(autoencoder, tmp_path):
    unreadable = {(view, record) for view in range(2) for record in (1, 8, 9, 10)}  # the last batch has no other
    with pytest.warns(UserWarning, match="4 images can't be used"):
        cache_latents(UnreadableImages(unreadable), autoencoder, tmp_path / "cache", views=2, verbose=False)
    latents, labels = from_latents(tmp_path / "cache", batch_size=4, training=False).as_arrays(verbose=False)
    assert len(latents) == 7
    np.testing.assert_array_equal(labels, np.delete(LABELS, [1, 8, 9, 10]))


@pytest.mark.host
@pytest.mark.filterwarnings("ignore:.*can't be used")
def test_views_of_different_images_are_refused(autoencoder, tmp_path):
    changing = UnreadableImages({(0, 0), (1, 1)})
    with pytest.raises(ValueError, match="must have the same images.*view 1 with other images than view 0"):
        cache_latents(changing, autoencoder, tmp_path / "cache", views=2, verbose=False)


@pytest.mark.host
def test_behind_an_error_the_cache_goes_on_with_the_very_batch(autoencoder, tmp_path):
    unreadable = {(0, 0)}
    images = UnreadableImages(unreadable, on_error="raise")
    with pytest.raises(ValueError, match="image 0: gone"):
        cache_latents(images, autoencoder, tmp_path / "cache", verbose=False)
    unreadable.clear()
    cache_latents(images, autoencoder, tmp_path / "cache", verbose=False)
    labels = from_latents(tmp_path / "cache", batch_size=4, training=False).as_arrays(verbose=False)[1]
    np.testing.assert_array_equal(labels, LABELS)


@pytest.mark.host
def test_damaged_files_are_named(autoencoder, tmp_path):
    directory = cache_latents(images_in_order(), autoencoder, tmp_path / "cache", verbose=False)
    path = sorted(path for path in (tmp_path / "cache").iterdir() if path.suffix == ".npy")[0]
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"missing or damaged.*Received: .*{path.name}"):
        list(from_latents(directory, batch_size=4))
    with pytest.warns(UserWarning, match="only the sizes are compared"):
        assert len(list(from_latents(directory, batch_size=4, verify=False))) == 2
    path.write_bytes(content[:-1])
    with pytest.raises(ValueError, match=f"missing or damaged.*Received: .*{path.name}"):
        from_latents(directory)
    # As the message says.
    path.unlink()
    cache_latents(images_in_order(), autoencoder, directory, verbose=False)
    content[-1] ^= 1
    assert path.read_bytes() == content
    assert len(list(from_latents(directory, batch_size=4))) == 2
    with pytest.raises(ValueError, match="must hold a cache"):
        from_latents(tmp_path)


@pytest.mark.host
def test_a_shard_is_compared_with_its_checksum_once_when_it_is_first_read(autoencoder, tmp_path, monkeypatch):
    directory = cache_latents(images_in_order(), autoencoder, tmp_path / "cache", verbose=False)
    verified, check_file = [], reader.check_file

    def recorded(directory, entry, verify):
        verified.append(entry["file"])
        check_file(directory, entry, verify)

    monkeypatch.setattr(reader, "check_file", recorded)
    test = from_latents(directory, batch_size=4, training=False)
    assert all(name.endswith("-labels.npy") for name in verified) and len(verified) == 3
    test[0]
    assert "view00-batch0000000-moments.npy" in verified[3:]  # threads may have read ahead
    for _ in range(2):
        list(test)
    assert sorted(verified) == sorted(name for name in os.listdir(directory) if name.endswith(".npy"))


@pytest.mark.host
def test_what_is_no_data_set_of_images_is_refused_and_leaves_nothing(autoencoder, tmp_path):
    grey = data.from_arrays(IMAGES[..., :1], batch_size=4, training=False)
    wrong = tiny_autoencoder(downsampling=4)
    for dataset, message in (
        (IMAGES, "`dataset` must be images"),
        (data.on_device(IMAGES, batch_size=4), "`dataset` must be images"),
        (grey, "3 channels. Received: dataset with images of shape"),
        (images_in_order(num_shards=2), "num_shards=2"),
        (images_in_order().repeat(), "is_repeated=True"),
    ):
        with pytest.raises(ValueError, match=message):
            cache_latents(dataset, autoencoder, tmp_path / "cache", verbose=False)
    with pytest.raises(ValueError, match="autoencoder=None"):
        cache_latents(images_in_order(), None, tmp_path / "cache", verbose=False)
    with pytest.raises(ValueError, match="The encoder must make latents of shape"):
        cache_latents(images_in_order(), wrong, tmp_path / "cache", verbose=False)
    assert not os.listdir(tmp_path / "cache")
    (tmp_path / "manifest.json").write_text('{"model": {}}')
    with pytest.raises(ValueError, match="must hold a cache"):
        from_latents(tmp_path)


@pytest.mark.host
def test_more_files_than_may_be_open_are_read(autoencoder, tmp_path, monkeypatch):
    directory = cache_latents(images_in_order(), autoencoder, tmp_path / "cache", verbose=False)
    expected = from_latents(directory, batch_size=11, training=False, shuffle=True)[0]
    monkeypatch.setattr(reader, "MAX_OPEN_FILES", 1)
    for actual, wanted in zip(
        from_latents(directory, batch_size=11, training=False, shuffle=True)[0], expected, strict=True
    ):
        np.testing.assert_array_equal(actual, wanted)


@pytest.mark.host
def test_data_sets_that_lack_images_or_an_order_are_refused(autoencoder, tmp_path):
    with pytest.raises(ValueError, match="shuffle=True, drop_remainder=True"):
        cache_latents(images_in_order(training=True), autoencoder, tmp_path / "cache")
    with pytest.raises(ValueError, match="views=2, training=False"):
        cache_latents(images_in_order(), autoencoder, tmp_path / "cache", views=2)
    unlabelled = data.from_arrays(IMAGES, batch_size=4, training=False)
    directory = cache_latents(unlabelled, autoencoder, tmp_path / "cache", verbose=False)
    with pytest.raises(ValueError, match="labels=True"):
        from_latents(directory)


def test_a_latent_model_trains_goes_on_and_is_probed_from_a_cache(autoencoder, tmp_path):
    directory = cache_latents(images_in_order(), autoencoder, tmp_path / "cache", verbose=False)
    train = from_latents(directory, batch_size=4)
    model = UMD(
        train.image_shape,
        2,
        hidden_dim=16,
        num_layers=1,
        num_heads=2,
        decoder_layers=1,
        num_classes=3,
        value_range=None,
        seed=0,
    )
    model.compile("sgd", **QUICK)
    assert np.isfinite(model.fit(train, epochs=2, verbose=0).history["loss"]).all()
    features = model.predict(from_latents(directory, batch_size=4, training=False), verbose=0)
    assert features.shape == (11, 16)
    assert np.isfinite(model.evaluate(from_latents(directory, batch_size=4, training=False), verbose=0)).all()
