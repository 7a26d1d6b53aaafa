"""Batches that are made on the device are those that a loader would make."""

import keras
import numpy as np
import pytest

from keras_umd import data
from keras_umd.data.device import resize_weights
from tests.conftest import QUICK_STEP, array
from tests.data.conftest import photo

IMAGES = np.stack([photo(32, 32, seed) for seed in range(12)])
LABELS = np.arange(12) % 3


def made(dataset):
    """Batches as the training step makes them."""
    return [list(map(array, dataset.device_layer(batch))) for batch in dataset]


def test_batches_are_those_of_the_same_crops_on_the_host():
    cv2 = pytest.importorskip("cv2")
    device = made(data.on_device(IMAGES, LABELS, batch_size=4, area_range=(0.3, 0.9), seed=1))
    host = list(data.from_arrays(IMAGES, LABELS, batch_size=4, area_range=(0.3, 0.9), seed=1))
    assert cv2 and len(device) == len(host) == 3
    for (images, labels), (expected, expected_labels) in zip(device, host, strict=True):
        np.testing.assert_array_equal(labels, expected_labels)
        assert images.dtype == "uint8"
        # OpenCV rounds weights to 11 bits.
        assert np.abs(images.astype(int) - expected.astype(int)).max() <= 1


def test_rectangles_are_cropped_and_resized_as_on_the_host():
    pytest.importorskip("cv2")
    images = IMAGES[:, :24]
    options = {"image_size": (16, 8), "batch_size": 4, "area_range": (0.3, 0.6), "seed": 1}
    device, host = made(data.on_device(images, LABELS, **options)), list(data.from_arrays(images, LABELS, **options))
    for (resized, labels), (expected, expected_labels) in zip(device, host, strict=True):
        np.testing.assert_array_equal(labels, expected_labels)
        assert resized.shape == expected.shape == (4, 16, 8, 3)
        # Below half the size, OpenCV takes boxes, this a triangle.
        assert np.abs(resized.astype(int) - expected.astype(int)).mean() < 2
    whole = data.on_device(images, batch_size=4, area_range=(1, 1), flip=False)
    assert whole.image_shape == (24, 32, 3)


def test_crops_are_exact_in_mixed_precision():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        layer = data.on_device(np.zeros((1, 600, 600, 1), "uint8"), batch_size=1).device_layer
        assert layer.compute_dtype == "float32"
    finally:
        keras.config.set_dtype_policy(policy)


def test_whole_images_are_only_flipped():
    for images, labels in made(data.on_device(IMAGES, LABELS, batch_size=4, area_range=(1, 1))):
        for image, label in zip(images, labels, strict=True):
            found = [np.array_equal(image, x) or np.array_equal(image[:, ::-1], x) for x in IMAGES]
            assert LABELS[np.flatnonzero(found)].tolist() == [label]


def test_shrinking_takes_means():
    ((images, labels),) = made(data.on_device(IMAGES, image_size=8, batch_size=12, area_range=(1, 1), flip=False))
    assert labels.shape == () or labels is None
    blocks = IMAGES.reshape(12, 8, 4, 8, 4, 3).mean(axis=(2, 4))
    order = data.on_device(IMAGES, image_size=8, batch_size=12).loader.order.records(0)
    # A triangle of twice the width instead of a box: the same for what is smooth.
    assert np.abs(images - blocks[order]).mean() < 2


def test_weights_are_those_of_bilinear_resizing():
    start, length = np.float32([2, 0]), np.float32([4, 10])
    weights = array(resize_weights(*map(keras.ops.convert_to_tensor, (start, length)), 10, 8))
    np.testing.assert_allclose(weights.sum(axis=-1), 1, rtol=1e-6)
    for row, (first, count) in enumerate(zip(start, length, strict=True)):
        centers = np.clip(first + (np.arange(8) + 0.5) * count / 8 - 0.5, first, first + count - 1)
        if count <= 8:  # enlarged: straight lines between the pixels of the crop
            np.testing.assert_allclose(weights[row] @ np.arange(10), centers, atol=1e-5)
        assert not weights[row, :, : int(first)].any() and not weights[row, :, int(first + count) :].any()


def test_a_model_learns_from_data_on_the_device_and_stays_as_it_was(plain_model, tmp_path):
    images = np.stack([photo(8, 8, seed)[..., :1] for seed in range(12)])
    model = plain_model(num_classes=3)
    model.compile(**QUICK_STEP)
    weights = [weight.path for weight in model.weights]
    before = model.get_weights()
    train = data.on_device(images, LABELS, batch_size=4)
    losses = model.fit(train, epochs=2, verbose=0).history["loss"]
    assert np.all(np.isfinite(losses)) and train.get_state()["epoch"] == 2
    assert [weight.path for weight in model.weights] == weights
    assert any(np.abs(new - old).max() > 0 for new, old in zip(model.get_weights(), before, strict=True))
    # Other images, then none: no program remembers the first.
    black = data.on_device(np.zeros_like(images), LABELS, batch_size=4)
    assert not np.isclose(model.evaluate(black, verbose=0)[0], model.evaluate(train, verbose=0)[0], rtol=1e-3)
    model.evaluate(images, LABELS, batch_size=4, verbose=0)
    model.save(tmp_path / "model.keras")
    assert (tmp_path / "model.keras").stat().st_size < 1e6


def test_what_data_on_the_device_are_not_for_is_named(small_model):
    train = data.on_device(IMAGES[:, :8, :8, :1], batch_size=4)
    model = small_model()
    model.compile("adamw")
    with pytest.raises(ValueError, match="training=False, by another function"):
        model.predict(train)
    with pytest.raises(ValueError, match="Only one data set at a time"):
        model.fit(train, validation_data=data.on_device(IMAGES[:, :8, :8, :1], batch_size=4))
    with pytest.raises(ValueError, match="take `from_arrays`. Received: training=False"):
        data.on_device(IMAGES, training=False)


class EvaluateEachEpoch(keras.callbacks.Callback):
    def __init__(self, *datasets):
        super().__init__()
        self.datasets = datasets
        self.losses = []

    def on_epoch_end(self, epoch, logs=None):
        self.losses.append(
            [self.model.evaluate(dataset, verbose=0, return_dict=True)["loss"] for dataset in self.datasets]
        )


def test_other_data_can_be_evaluated_while_a_model_trains_on_the_device(plain_model):
    images = np.stack([photo(8, 8, seed)[..., :1] for seed in range(12)])
    black = np.zeros_like(images)
    evaluated = data.on_device(black, batch_size=4), data.from_arrays(black, batch_size=4, training=False)
    model = plain_model()
    model.compile(**QUICK_STEP)
    callback = EvaluateEachEpoch(*evaluated)
    validation = data.from_arrays(images, batch_size=4, training=False)
    train = data.on_device(images, batch_size=4)
    history = model.fit(train, epochs=2, validation_data=validation, verbose=0, callbacks=[callback]).history
    alone = [model.evaluate(dataset, verbose=0, return_dict=True)["loss"] for dataset in evaluated]
    np.testing.assert_allclose(callback.losses[-1], alone, rtol=1e-5)
    last = model.evaluate(validation, verbose=0, return_dict=True)["loss"]
    np.testing.assert_allclose(history["val_loss"][-1], last, rtol=1e-5)


def test_labels_without_a_name_are_refused():
    for make in (data.on_device, data.from_arrays):
        with pytest.raises(ValueError, match="a name for each label. Received: 2 names, and labels up to 2"):
            make(IMAGES, LABELS, batch_size=4, class_names=["a", "b"])


def test_data_on_the_device_say_what_they_are():
    shown = repr(data.on_device(IMAGES, LABELS, batch_size=4))
    assert shown == "<Dataset: 12 images (32, 32, 3), 3 classes, 3 batches an epoch>"
