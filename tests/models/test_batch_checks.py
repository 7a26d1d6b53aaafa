"""What later batches hold is checked in the step, and raised at the end of the epoch."""

import keras
import numpy as np
import pytest

from keras_umd import Corruption
from tests.conftest import PLAIN, QUICK_STEP, array


class Batches(keras.utils.PyDataset):
    """Two good batches of 8 float images with labels, and one that is changed."""

    def __init__(self, change):
        super().__init__()
        rng = np.random.default_rng(0)
        self.batches = [(rng.uniform(-1, 1, (8, 8, 8, 1)).astype("float32"), np.arange(8) % 3) for _ in range(3)]
        change(*self.batches[2])

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return self.batches[index]


def labels_from_one(images, labels):
    labels += 1  # 2 of them become 3, the null label


def wild_labels(images, labels):
    labels[:] = [-1, 0, 1, 2**31 - 1, 2, 0, 1, 1000]


def unscaled(images, labels):
    images[:5] *= 255


def with_nan(images, labels):
    images[[1, 2], 0, 0, 0] = [np.nan, np.inf]


@pytest.mark.parametrize(
    "change, match",
    [
        (labels_from_one, r"`labels` must lie in \[0, 3\).*Received: (2 labels outside|labels from 1 to 3)"),
        (wild_labels, r"`labels` must lie in \[0, 3\).*Received: (3 labels outside|labels from -1 to)"),
        (unscaled, r"value_range=\(-1.0, 1.0\).*Received: (5 images|images with values from)"),
        (with_nan, r"`images` must be finite. Received: (2 images|images with NaN)"),
    ],
)
def test_later_batches_are_checked_in_fit_and_evaluate(shared_model, change, match):
    model = shared_model(QUICK_STEP, num_classes=3, **PLAIN)
    data = Batches(change)
    with pytest.raises(ValueError, match=match):
        model.fit(data, verbose=0, shuffle=False)
    with pytest.raises(ValueError, match=match):
        model.evaluate(data, verbose=0)
    if change is not with_nan:  # a label that names no class has counted as none, and not read beside the table
        assert all(np.isfinite(array(variable)).all() for variable in model.trainable_variables)
    good = Batches(lambda images, labels: None)
    model.evaluate(good, verbose=0)  # what was raised is forgotten


def test_validation_data_are_checked_and_told_before_the_model_is_saved(shared_model, tmp_path):
    model = shared_model(QUICK_STEP, num_classes=3, **PLAIN)
    saved = keras.callbacks.ModelCheckpoint(tmp_path / "model.keras")
    good, bad = Batches(lambda images, labels: None), Batches(unscaled)
    with pytest.raises(ValueError, match="value_range"):
        model.fit(good, validation_data=bad, verbose=0, callbacks=[saved])
    assert not (tmp_path / "model.keras").exists()


@pytest.mark.host
def test_a_batch_too_small_for_all_views_is_refused(small_model, images):
    model = small_model()
    model.compile("sgd")
    with pytest.raises(ValueError, match=r"batches of at least 2 images.*Received: batches of 1, .*'clean': 0.5"):
        model.fit(images, batch_size=1, verbose=0)
    mae = small_model(corruption=Corruption.mae())
    mae.compile("sgd")
    mae.fit(images[:2], batch_size=1, verbose=0)  # it has one view


@pytest.mark.host
def test_float16_weights_refuse_an_epsilon_that_is_nothing_there(small_model, images):
    model = small_model(dtype="float16")
    for optimizer in ("adamw", keras.optimizers.AdamW(1e-3, epsilon=1e-8)):
        with pytest.raises(ValueError, match="mixed_float16.*Received: epsilon=1e-0"):
            model.compile(optimizer)
    model.compile(keras.optimizers.AdamW(1e-3, epsilon=1e-4))
    losses = model.fit(images, batch_size=8, epochs=2, verbose=0).history["loss"]
    assert np.isfinite(losses).all() and max(losses) < 1
    small_model(dtype="mixed_float16").compile("adamw")
