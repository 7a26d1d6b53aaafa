import csv

import keras
import numpy as np
import pytest

import keras_umd
from keras_umd import callbacks
from keras_umd.planning.flops import step_flops
from keras_umd.training import throughput
from tests.conftest import QUICK_STEP
from tests.shared import SharedModel

SLOW = keras_umd.Device("slow", bfloat16=2e9, float32=1e9, memory=1e9)


class Ticks(keras.callbacks.Callback):
    """A clock by which each execution takes a second, and 100 where it is the first with as many images."""

    def __init__(self, executions):
        super().__init__()
        self.executions = executions  # images of each one of an epoch
        self.now = 0.0
        self.compiled = set()

    def tick(self):
        if 0 < self.begun <= len(self.executions):  # one more begins where data of unknown length end
            images = self.executions[self.begun - 1]
            self.now += 1 if images in self.compiled else 100
            self.compiled.add(images)

    def on_epoch_begin(self, epoch, logs=None):
        self.begun = 0

    def on_train_batch_begin(self, batch, logs=None):
        self.tick()
        self.begun += 1

    def on_test_begin(self, logs=None):
        self.tick()
        self.begun = 0

    def on_test_end(self, logs=None):
        self.now += 1000

    def on_epoch_end(self, epoch, logs=None):
        self.tick()


@pytest.fixture
def small_model(plain_model):
    """The method isn't the subject."""
    return plain_model


@pytest.fixture
def fit(small_model, images, monkeypatch):
    """`fit` by that clock, two epochs of arrays or one of a generator: the model and its history."""

    def run(executions, data=None, steps_per_execution=1, validation=False, callback=None):
        model, ticks = small_model(), Ticks(executions)
        model.compile(**QUICK_STEP, steps_per_execution=steps_per_execution)
        monkeypatch.setattr(throughput, "clock", lambda: ticks.now)
        images_of_epoch = np.resize(images, (sum(executions), 8, 8, 1))
        history = model.fit(
            images_of_epoch if data is None else data(images_of_epoch),
            batch_size=8 if data is None else None,
            validation_data=(images,) if validation else None,
            validation_batch_size=8,
            epochs=2 if data is None else 1,
            verbose=0,
            callbacks=[ticks, callback or callbacks.Throughput(SLOW)],
        ).history
        return model, history

    return run


@pytest.mark.host
@pytest.mark.parametrize(
    ("executions", "first", "second"),
    [
        ((8, 8, 8), 8, 8),
        ((8, 8, 4), 8, 20 / 3),  # the last batch compiles in the first epoch
        ((8, 8), 8, 8),
        ((8, 4), np.nan, 6),
        ((8,), np.nan, 8),
    ],
)
def test_the_speed_is_that_of_what_does_not_compile(fit, executions, first, second):
    _, history = fit(executions)
    np.testing.assert_allclose(history["images_per_second"], [first, second])


@pytest.mark.backends("jax", "tensorflow")  # PyTorch refuses it
def test_several_steps_in_an_execution_count(fit):
    _, history = fit((16, 16, 4), steps_per_execution=2)
    np.testing.assert_allclose(history["images_per_second"], [16, 12])


@pytest.mark.host
def test_validation_does_not_count(fit):
    _, history = fit((8, 8, 4), validation=True)
    np.testing.assert_allclose(history["images_per_second"], [8, 20 / 3])


@pytest.mark.host
def test_flops_are_those_of_each_batch_and_the_utilization_their_share_of_the_peak(fit):
    model, history = fit((8, 8, 4))
    batch, rest = (sum(part.forward + part.backward for part in step_flops(model, n)) for n in (8, 4))
    expected = np.array([batch, (2 * batch + rest) / 3])
    np.testing.assert_allclose(history["teraflops_per_second"], expected / 1e12)
    np.testing.assert_allclose(history["utilization"], expected / 1e9)


@pytest.mark.host
def test_the_device_is_the_one_that_the_backend_names(fit, monkeypatch):
    monkeypatch.setattr(throughput, "training_devices", lambda: ("TPU v4", 4))
    _, history = fit((8, 8), callback=callbacks.Throughput())
    np.testing.assert_allclose(history["utilization"], np.array(history["teraflops_per_second"]) / (4 * 275))
    monkeypatch.setattr(throughput, "training_devices", lambda: ("a new one", 1))
    assert "utilization" not in fit((8, 8), callback=callbacks.Throughput())[1]


@pytest.mark.host
@pytest.mark.filterwarnings("ignore:.*shuffle=True", "ignore:Your input ran out of data")
def test_a_first_epoch_of_unknown_length_counts_to_its_end(fit):
    def batches(images):
        return ((images[i : i + 8],) for i in range(0, len(images), 8))

    _, history = fit((8, 8, 8, 4), data=batches)
    np.testing.assert_allclose(history["images_per_second"], [20 / 102])


@pytest.mark.backends("jax", "torch")  # tracing takes long there, and no state is touched
def test_the_training_is_the_one_without_it_and_files_have_its_numbers(small_model, images, tmp_path):
    weights = []
    model = small_model()
    model.compile(**QUICK_STEP)
    start = SharedModel(model)
    for more in ([], [callbacks.Throughput("TPU v4"), *callbacks.standard(tmp_path)]):
        start.restore()
        model.fit(images[:20], batch_size=8, epochs=2, shuffle=False, verbose=0, callbacks=more)
        weights.append(model.get_weights())
    for value, expected in zip(*weights, strict=True):
        np.testing.assert_array_equal(value, expected)
    with open(tmp_path / "history.csv") as file:
        rows = list(csv.DictReader(file))
    assert all(0 < float(row["utilization"]) < 1 and float(row["images_per_second"]) > 0 for row in rows)


@pytest.mark.host
def test_no_batch_is_waited_for():
    """Keras waits for every batch as soon as one callback has something to do at its end."""
    assert callbacks.Throughput.on_train_batch_end is keras.callbacks.Callback.on_train_batch_end


@pytest.mark.host
def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="`device` must be one of .*'TPU v4'.* Received: device='abacus'"):
        callbacks.Throughput("abacus")
    with pytest.raises(ValueError, match="num_devices=0"):
        callbacks.Throughput(num_devices=0)
