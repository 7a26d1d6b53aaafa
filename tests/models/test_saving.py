"""What was saved goes on as if nothing had happened."""

import keras
import numpy as np
import pytest

from keras_umd import UMD, Corruption, recipes
from tests.conftest import PLAIN, QUICK, array

pytestmark = pytest.mark.usefixtures("op_by_op")


@pytest.fixture
def compiled(shared_model):
    def build(**settings):
        optimizer = recipes.finetuning_optimizer(20, 256, ema_decay=0.9)
        return shared_model({"optimizer": optimizer, **QUICK}, num_classes=3, **settings)

    return build


def state_of(model):
    return [array(v) for v in model.variables + model.optimizer.variables]


def assert_same_state(model, other):
    for value, expected in zip(state_of(model), state_of(other), strict=True):
        np.testing.assert_array_equal(value, expected)


def test_config_round_trip(small_model):
    model = small_model(
        num_classes=3,
        num_cls_tokens=2,
        conditioning="token",
        value_range=(0.0, 1.0),
        patch_size=(2, 4),
        corruption=Corruption(schedule="linear", num_timesteps=100, clean_ratio=0.25),
    )
    model.track_average([0.9, 0.99])
    other = UMD.from_config(model.get_config())
    assert other.get_config() == model.get_config()
    assert [v.shape for v in other.variables] == [v.shape for v in model.variables]


@pytest.mark.parametrize("compile", [True, pytest.param(False, marks=pytest.mark.backends("torch"))])
def test_keras_file_round_trip(compiled, images, labels, tmp_path, compile):
    model = compiled()
    model.fit(images[:8], labels[:8], batch_size=8, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", compile=compile)
    np.testing.assert_array_equal(loaded.predict(images, verbose=0), model.predict(images, verbose=0))
    arguments = {"labels": [0, 1], "num_steps": 4, "guidance": 2.0, "seed": 0}
    np.testing.assert_array_equal(loaded.generate(**arguments), model.generate(**arguments))
    if compile:
        assert_same_state(loaded, model)
        excluded = [v.name for v in loaded.trainable_variables if not loaded.optimizer._use_weight_decay(v)]
        assert set(excluded) == {"bias", "beta", "cls_tokens", "mask_token"}


def test_saving_and_loading_goes_on_exactly(small_model, compiled, images, labels, tmp_path):
    """Weights, optimizer, averages and the random sequence: training in two halves equals training in one."""
    uninterrupted = compiled(**PLAIN)
    uninterrupted.fit(images, labels, batch_size=12, epochs=2, shuffle=False, verbose=0)
    first_half = compiled(**PLAIN)
    first_half.fit(images, labels, batch_size=12, shuffle=False, verbose=0)
    first_half.save(tmp_path / "model.keras")
    second_half = keras.models.load_model(tmp_path / "model.keras")
    second_half.fit(images, labels, batch_size=12, shuffle=False, verbose=0)
    assert_same_state(second_half, uninterrupted)
    assert np.any(array(second_half.seed_generator.state) != array(small_model().seed_generator.state))


class Interrupted(Exception):
    pass


@pytest.mark.backends("jax", "torch")  # test_callbacks.py has our own backup on TensorFlow
def test_backup_and_restore_goes_on_exactly(compiled, images, labels, tmp_path):
    uninterrupted = compiled(**PLAIN)
    uninterrupted.fit(images, labels, batch_size=12, epochs=2, shuffle=False, verbose=0)

    def stop(epoch, logs):
        if epoch == 1:
            raise Interrupted

    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
    killed = compiled(**PLAIN)
    with pytest.raises(Interrupted):
        interrupt = keras.callbacks.LambdaCallback(on_epoch_begin=stop)
        killed.fit(images, labels, batch_size=12, epochs=2, shuffle=False, verbose=0, callbacks=[backup, interrupt])
    resumed = compiled(seed=5, **PLAIN)
    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
    resumed.fit(images, labels, batch_size=12, epochs=2, shuffle=False, verbose=0, callbacks=[backup])
    assert_same_state(resumed, uninterrupted)


def test_weights_file_round_trip(small_model, images, tmp_path):
    model = small_model()
    model.save_weights(tmp_path / "model.weights.h5")
    keras.utils.set_random_seed(1)
    other = UMD.from_config({**model.get_config(), "seed": 7})
    other.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(other.predict(images, verbose=0), model.predict(images, verbose=0))
    np.testing.assert_array_equal(array(other.seed_generator.state), array(model.seed_generator.state))


def test_a_file_keeps_what_jit_compile_was_asked_for(small_model, images, tmp_path):
    """Not what "auto" meant on the backend that wrote it."""
    for argument in ("auto", False):
        model = small_model()
        model.compile("adamw", jit_compile=argument)
        model.save(tmp_path / "model.keras")
        assert keras.models.load_model(tmp_path / "model.keras").get_compile_config()["jit_compile"] == argument


def test_a_model_that_draws_from_a_generator_is_loaded_with_its_state(small_model, images, tmp_path):
    model = small_model(seed=keras.random.SeedGenerator(3))
    model.seed_generator.next()
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(array(loaded.seed_generator.state), array(model.seed_generator.state))
