import keras
import numpy as np
import pytest
from keras import ops

from keras_umd import recipes
from keras_umd.models.averages import WeightAverage
from tests.conftest import QUICK, QUICK_STEP, array


@pytest.mark.parametrize("decay", [0.0, 0.9, 0.9999])
def test_the_average_weighs_every_update_and_nothing_else(decay):
    variable = keras.Variable(np.full(3, 100.0))
    average = WeightAverage(decay, [variable])
    assert float(array(average.values_for([variable])[0])[0]) == 100  # nothing to average yet
    history = np.random.default_rng(0).normal(size=(20, 3))
    for value in history:
        variable.assign(value)
        average.update()
    weights = decay ** np.arange(19, -1, -1, dtype="float64")
    expected = weights @ history / weights.sum()
    np.testing.assert_allclose(array(average.values_for([variable])[0]), expected, rtol=1e-4)


def test_training_updates_the_average_once_a_step(plain_model, images):
    model = plain_model()
    model.track_average(0.8)
    model.compile("sgd", **QUICK)
    seen = []
    variable = model.decoder.mask_token

    class Record(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append(array(variable).copy())

    model.fit(images[:8], batch_size=8, epochs=4, verbose=0, callbacks=[Record()])
    weights = 0.8 ** np.arange(3, -1, -1)
    expected = np.tensordot(weights, np.stack(seen), 1) / weights.sum()
    np.testing.assert_allclose(array(model.averages[0].values_for([variable])[0]), expected, rtol=1e-4, atol=1e-7)
    assert float(array(model.averages[0].num_updates)) == 4


@pytest.mark.host
def test_averages_are_not_trained_and_know_the_networks_weights_only(small_model):
    model = small_model()
    trainable = len(model.trainable_variables)
    model.track_average([0.5, 0.9])
    assert len(model.trainable_variables) == trainable
    assert len(model.averages[0].averages) == trainable
    assert model.averages[0].trainable_variables == []


@pytest.mark.host
def test_decays_out_of_range_are_refused(small_model):
    with pytest.raises(ValueError, match="decays=1.0"):
        small_model().track_average(1.0)


def test_an_average_asked_for_after_training_is_updated_too(plain_model, images):
    model = plain_model()
    model.compile(**QUICK_STEP)
    model.fit(images[:8], batch_size=8, verbose=0)
    model.track_average(0.8)
    model.fit(images[:8], batch_size=8, verbose=0)
    assert float(array(model.averages[0].num_updates)) == 1


@pytest.mark.host
def test_compiling_keeps_the_averages_that_were_asked_for(small_model, images, tmp_path):
    model = small_model()
    model.track_average([0.5, 0.8])
    first = model.averages[0]
    model.compile(recipes.AdamW(1e-3, ema_decay=0.9), **QUICK)
    assert [average.decay for average in model.averages] == [0.9, 0.5, 0.8]
    assert model.averages[1] is first
    model.track_average([0.5, 0.9])  # in another order than by compiling
    model.fit(images[:8], batch_size=8, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for decay in ("average", 0.5, 0.9):
        for value, expected in zip(loaded.weight_values(decay), model.weight_values(decay), strict=True):
            np.testing.assert_array_equal(array(value), array(expected))
    # An optimizer with another average: until that has seen a step, the one there is counts.
    loaded.compile(recipes.AdamW(1e-3, ema_decay=0.7))
    assert [average.decay for average in loaded.averages] == [0.7, 0.5, 0.9]
    for value, expected in zip(loaded.weight_values(), model.weight_values(0.5), strict=True):
        np.testing.assert_array_equal(array(value), array(expected))


@pytest.mark.host
def test_a_model_that_was_frozen_and_is_not_any_more_does_not_train_its_averages(small_model):
    model = small_model()
    before = len(model.trainable_variables)
    model.track_average(0.9)
    model.trainable = False
    model.trainable = True
    assert len(model.trainable_variables) == before


def test_averages_of_low_precision_weights_keep_small_changes():
    variable = keras.Variable(np.zeros(1), dtype="bfloat16")
    average = WeightAverage(0.999, [variable])
    average.update()
    variable.assign(np.ones(1))
    for _ in range(2000):
        average.update()
    weights = 0.999 ** np.arange(2000, -1, -1, dtype="float64")
    (value,) = average.values_for([variable])
    assert keras.backend.standardize_dtype(value.dtype) == "bfloat16"
    np.testing.assert_allclose(
        float(array(ops.cast(value, "float32"))[0]), weights[1:].sum() / weights.sum(), rtol=5e-3
    )


@pytest.mark.backends("jax")  # Keras distributes on JAX
def test_an_average_can_be_asked_for_between_evaluations_on_several_devices(small_model, images):
    keras.distribution.set_distribution(keras.distribution.DataParallel())
    try:
        model = small_model()
        model.compile("sgd")
        loss = model.evaluate(images[:8], batch_size=8, verbose=0)
        model.track_average(0.8)
        assert model.evaluate(images[:8], batch_size=8, verbose=0) == loss
    finally:
        keras.distribution.set_distribution(None)
