"""What users choose: an augmentation of their own, a part for validation, channels."""

import numpy as np
import pytest

from keras_umd import data
from tests.data.conftest import LOADERS, encoded, photo, which

pytestmark = pytest.mark.host


def darker(images, rng):
    """Divides each image by 1 or 2, at random."""
    return images // rng.integers(1, 3, (len(images), 1, 1, 1)).astype("uint8")


@pytest.fixture(params=LOADERS)
def read(request, photos):
    def read(**options):
        return data.from_folder(photos, **{"image_size": 16, "batch_size": 5, "loader": request.param, **options})

    return read


# Augmentation


def test_an_augmentation_is_the_same_in_every_run_and_another_in_every_epoch(read):
    unchanged = read()
    plain = [which(images) for _ in range(2) for images, _ in unchanged]
    train = read(augment=darker)
    first, second = ([images for images, _ in train] for _ in range(2))
    numbers = [which(images) for images in first + second]
    assert numbers != plain
    for changed, original in zip(sum(numbers, []), sum(plain, []), strict=True):
        assert changed in (original, original // 2, (original + 1) // 2)
    resumed = read(augment=darker)
    resumed.go_to(1, 2)
    np.testing.assert_array_equal([images for images, _ in resumed], second[2:])
    np.testing.assert_array_equal(train[3][0], [images for images, _ in read_epoch(read, 2)][3])
    assert [which(images) for images, _ in read(augment=darker, seed=1)] != numbers[:4]


def read_epoch(read, epoch):
    train = read(augment=darker)
    train.go_to(epoch)
    return train


def test_what_an_augmentation_returns_is_checked(read):
    for wrong in (lambda images, rng: images / 255, lambda images, rng: images[:, :8], lambda images, rng: None):
        with pytest.raises(ValueError, match=r"must return uint8 images of shape \(5, 16, 16, 3\)"):
            next(iter(read(augment=wrong)))
    with pytest.raises(ValueError, match="a function for training data"):
        read(augment=darker, training=False)
    with pytest.raises(ValueError, match="augment=random"):
        read(augment="random")
    with pytest.raises(ValueError, match="take `from_arrays` for an `augment`"):
        data.on_device(np.zeros((8, 8, 8, 3), "uint8"), batch_size=4, augment=darker)


def test_a_state_of_data_that_are_augmented_otherwise_is_refused(read):
    with pytest.raises(ValueError, match="state is of another data set"):
        read(augment=darker).set_state(read().get_state())


# A part for validation


@pytest.mark.parametrize("split", [0.1, 0.25, 0.9])
def test_each_image_is_in_one_part_whatever_the_seed(split, read):
    parts = {
        subset: read(validation_split=split, subset=subset, training=False, seed=seed)
        for subset, seed in (("training", 1), ("validation", 2))
    }
    seen = {subset: [i for images, _ in dataset for i in which(images)] for subset, dataset in parts.items()}
    assert len(seen["validation"]) == parts["validation"].num_images == round(split * 20)
    assert sorted(seen["training"] + seen["validation"]) == list(range(20))
    labels = [y for dataset in parts.values() for _, batch in dataset for y in batch]
    assert labels == [int(i >= 10) for numbers in seen.values() for i in numbers]
    assert all(dataset.class_names == ["a", "b"] for dataset in parts.values())
    with pytest.raises(ValueError, match="state is of another data set"):
        parts["training"].set_state(parts["validation"].get_state())


def test_arrays_have_parts_too():
    images = np.stack([np.full((8, 8, 3), 10 * i, "uint8") for i in range(20)])
    seen = []
    for subset in ("training", "validation"):
        part = data.from_arrays(
            images, np.arange(20), batch_size=4, training=False, validation_split=0.2, subset=subset
        )
        for x, y in part:
            assert which(x) == y.tolist()
            seen += which(x)
    assert sorted(seen) == list(range(20))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"validation_split": 0.2}, "belong together"),
        ({"subset": "training"}, "belong together"),
        ({"validation_split": 1.0, "subset": "training"}, "between 0 and 1"),
        ({"validation_split": 0.2, "subset": "test"}, "`subset` must be one of"),
        ({"validation_split": 0.001, "subset": "validation"}, "must be images in the subset"),
    ],
)
def test_a_wrong_split_is_named(options, message, read):
    with pytest.raises(ValueError, match=message):
        read(**options)


# Channels


@pytest.mark.parametrize("loader", LOADERS)
def test_what_is_transparent_can_be_kept(loader, make_folder):
    pixels = np.dstack([photo(64, 64), np.linspace(0, 255, 64 * 64).reshape(64, 64).astype("uint8")])
    folder = make_folder({"a.png": encoded(pixels, "PNG"), "b.png": encoded(pixels[..., :3], "PNG")})
    (images,) = data.from_folder(
        folder, image_size=64, batch_size=2, training=False, labels=False, channels=4, loader=loader
    )
    np.testing.assert_array_equal(images[0], pixels)
    np.testing.assert_array_equal(images[1][..., :3], pixels[..., :3])
    assert (images[1][..., 3] == 255).all()
    assert data.from_arrays(images, batch_size=2).image_shape == (64, 64, 4)
