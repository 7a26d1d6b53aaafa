"""`fit`, `evaluate` and `predict` on every backend see each image once an epoch, in the data set's own order."""

import keras
import numpy as np
import pytest

from keras_umd import data
from keras_umd.backend import host_values
from tests.conftest import QUICK
from tests.data.conftest import LOADERS, which


class Recorder(keras.layers.Layer):
    """Remembers which of `photos` went through a model."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seen = []

    def call(self, images):
        values = host_values(images)
        if values is not None:  # not symbolic
            self.seen.append(which(values))
        return keras.ops.mean(keras.ops.cast(images, "float32"), axis=(1, 2))


@pytest.fixture
def recorder():
    layer = Recorder()
    model = keras.Sequential([keras.Input((16, 16, 3), dtype="uint8"), layer, keras.layers.Dense(2)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), run_eagerly=True)
    layer.seen.clear()
    return model, layer


@pytest.mark.parametrize("loader", LOADERS)
def test_epochs_of_fit_are_those_of_the_data_set(loader, recorder, photos):
    model, layer = recorder
    train = data.from_folder(photos, image_size=16, batch_size=5, loader=loader, seed=1)
    expected = [which(images) for _ in range(3) for images, _ in train]
    train.go_to(0)
    model.fit(train, epochs=1, verbose=0)
    model.fit(train, epochs=2, verbose=0)  # a second call goes on with the next epoch
    assert layer.seen == expected
    assert train.get_state()["epoch"] == 3


def test_steps_per_epoch_go_on_in_the_epoch_of_the_data_set(recorder, photos):
    model, layer = recorder
    train = data.from_folder(photos, image_size=16, batch_size=5, loader="python", seed=1)
    model.fit(train, epochs=2, steps_per_epoch=2, verbose=0)
    assert sorted(i for batch in layer.seen for i in batch) == list(range(20))


def test_repeated_data_fill_epochs_of_any_length(recorder, photos):
    model, layer = recorder
    train = data.from_folder(photos, image_size=16, batch_size=5, loader="python", seed=1)
    expected = [which(images) for _ in range(3) for images, _ in train]
    model.fit(train.repeat(), epochs=3, steps_per_epoch=3, shuffle=False, verbose=0)
    assert layer.seen == expected[:9]


def test_evaluate_and_predict_see_each_image_once(recorder, photos):
    model, layer = recorder
    test = data.from_folder(photos, image_size=16, batch_size=6, training=False, loader="python")
    assert model.predict(test, verbose=0).shape == (20, 2)
    layer.seen.clear()
    model.evaluate(test, verbose=0)
    assert [i for batch in layer.seen for i in batch] == list(range(20))


def test_a_model_is_checked_against_the_data_before_anything_is_read(small_model, photos, monkeypatch):
    train = data.from_folder(photos, image_size=16, batch_size=5, loader="python")
    monkeypatch.setattr(train.loader, "batches", None)
    for wrong, message in (
        ({"image_shape": (16, 16, 3)}, "no classes"),
        ({"image_shape": (8, 8, 3)}, "images of shape"),
        ({"image_shape": (16, 16, 3), "num_classes": 1}, "labels from 1 to 1"),
    ):
        model = small_model(**wrong)
        model.compile("adamw")
        with pytest.raises(ValueError, match=message):
            model.fit(train)


def test_a_umd_trains_on_a_folder(plain_model, photos):
    model = plain_model(image_shape=(16, 16, 3), patch_size=8, num_classes=2)
    model.compile("sgd", **QUICK)
    test = data.from_folder(photos, image_size=16, batch_size=10, training=False)
    history = model.fit(
        data.from_folder(photos, image_size=16, batch_size=10), epochs=2, validation_data=test, verbose=0
    ).history
    assert np.isfinite(history["loss"]).all() and np.isfinite(history["val_loss"]).all()
    assert model.predict(test, verbose=0).shape == (20, 16)
