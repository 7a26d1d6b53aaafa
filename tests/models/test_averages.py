import keras
import numpy as np
import pytest

from keras_umd.models.averages import WeightAverage
from tests.conftest import array


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


def test_training_updates_the_average_once_a_step(small_model, images):
    model = small_model()
    model.track_average(0.8)
    model.compile("adamw")
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


def test_averages_are_not_trained_and_know_the_networks_weights_only(small_model):
    model = small_model()
    trainable = len(model.trainable_variables)
    model.track_average([0.5, 0.9])
    assert len(model.trainable_variables) == trainable
    assert len(model.averages[0].averages) == trainable
    assert model.averages[0].trainable_variables == []


def test_decays_out_of_range_are_refused(small_model):
    with pytest.raises(ValueError, match="decay=1.0"):
        small_model().track_average(1.0)


def test_an_average_asked_for_after_training_is_updated_too(small_model, images):
    model = small_model()
    model.compile("adamw")
    model.fit(images[:8], batch_size=8, verbose=0)
    model.track_average(0.8)
    model.fit(images[:8], batch_size=8, verbose=0)
    assert float(array(model.averages[0].num_updates)) == 1
