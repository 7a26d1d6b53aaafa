import keras
import numpy as np
import pytest

from keras_umd import data
from keras_umd.evaluation import fine_tune
from tests.conftest import array
from tests.evaluation.test_feature_scores import grey  # noqa: F401 (a fixture)


@pytest.mark.backends("jax", "torch")
def test_a_copy_of_the_encoder_learns_to_classify(grey, small_model):  # noqa: F811
    train, test = grey
    encoder = small_model().feature_extractor()
    before = [array(weight) for weight in encoder.weights]
    settings = {"num_classes": 3, "epochs": 25, "batch_size": 10, "learning_rate": 3e-3, "verbose": False}
    classifier, result = fine_tune(encoder, (train, test), **settings)
    assert result.value > 0.9
    guesses = classifier.predict(test[0], verbose=0).argmax(axis=1)
    assert result.value == np.mean(guesses == test[1])
    for weight, value in zip(encoder.weights, before, strict=True):
        np.testing.assert_array_equal(array(weight), value)
    moved = [np.any(array(new) != old) for new, old in zip(classifier.layers[1].weights, before, strict=True)]
    assert all(moved)
    assert result.card["protocol"]["optimizer"]["class"] == "AdamW"


@pytest.mark.host
def test_data_sets_and_optimizers_of_the_users(grey, small_model):  # noqa: F811
    train, test = (data.from_arrays(*x, batch_size=10, training=i == 0) for i, x in enumerate(grey))
    optimizer = keras.optimizers.SGD(0.0)
    encoder = small_model().feature_extractor()
    classifier, result = fine_tune(encoder, (train, test), 3, epochs=1, optimizer=optimizer, verbose=False)
    assert result.card["protocol"]["train"]["num_images"] == 30
    assert result.card["protocol"]["optimizer"]["class"] == "SGD"
    assert 0 <= result.value <= 1
    for wrong, message in (((grey[0][0] / 255.0, grey[0][1]), "float64 and uint8"), (iter([grey[0]]), "generator")):
        with pytest.raises(ValueError, match=message):
            fine_tune(small_model().feature_extractor(), (wrong, test), 3, verbose=False)


def test_labels_beyond_the_classes_are_refused(grey, small_model):  # noqa: F811
    train, test = grey
    encoder = small_model().feature_extractor()
    for wrong, message in (
        (((train, test), 2), "num_classes=2, train with labels up to 2"),
        (((train, (test[0], test[1] + 1)), 3), "num_classes=3, test with labels up to 3"),
        (((data.from_arrays(*train, batch_size=10), test), 2), "num_classes=2, train with labels up to 2"),
        (((data.from_arrays(*train, batch_size=10).repeat(), test), 3), "`train` must end"),
        (((iter([train]), test), None), "pass `num_classes`"),
        ((train[:1], 3), "`data` must be a pair .*Received: data of type tuple"),
    ):
        with pytest.raises(ValueError, match=message):
            fine_tune(encoder, *wrong, verbose=False)


def test_several_data_sets_have_a_classifier_each(grey, small_model):  # noqa: F811
    if keras.backend.backend() != "torch":
        pytest.skip("one backend is enough")
    encoder, (train, test) = small_model().feature_extractor(), grey
    pairs = {"grey": grey, "two": lambda: ((train[0], train[1] % 2), (test[0], test[1] % 2))}
    options = {"epochs": 1, "batch_size": 10, "verbose": False}
    results = fine_tune(encoder, pairs, optimizer=lambda num_steps: keras.optimizers.SGD(0.1 / num_steps), **options)
    assert [classifier.output.shape[-1] for classifier, _ in results.values()] == [3, 2]
    alone = fine_tune(encoder, grey, optimizer=keras.optimizers.SGD(0.1 / 3), **options)
    assert results["grey"][1].value == alone[1].value
    assert results["grey"][1].minus(alone[1]) == 0
    with pytest.raises(ValueError, match=r"function from the number of steps.*\['grey', 'two'\]"):
        fine_tune(encoder, pairs, optimizer=keras.optimizers.SGD(0.1), **options)
