import keras
import numpy as np
import pytest

from keras_umd import recipes
from tests.conftest import QUICK, array


@pytest.mark.host
def test_conditional_pretraining_is_jits():
    recipe = recipes.conditional_pretraining(1_281_167, 1000)
    config = recipe.optimizer.get_config()
    assert (recipe.batch_size, recipe.epochs, recipe.total_steps) == (1024, 200, 200 * 1252)
    assert recipe.averages == (0.9996, 0.9998, 0.9999) == tuple(config["ema_decay"])
    assert (config["beta_1"], config["beta_2"], config["weight_decay"]) == (0.9, 0.95, 0.0)
    rates = [float(array(recipe.optimizer._learning_rate(step))) for step in (0, 3130, 6260, 100_000, 250_000)]
    np.testing.assert_allclose(rates, [0, 1e-4, 2e-4, 2e-4, 2e-4], rtol=1e-5)
    assert recipe.settings == {"num_classes": 1000, "label_dropout": 0.1}
    guidance = recipe.sampling["guidance"]
    assert (guidance.scale, guidance.low, guidance.high, recipe.sampling["num_steps"]) == (2.9, 0.0, 9.0, 50)
    shown = str(recipe)
    for text in ("conditional pre-training", "200 (250,400 steps)", "0.9996, 0.9998, 0.9999", "Interval(", "JiT"):
        assert text in shown


@pytest.mark.host
def test_short_trainings_are_warned_of_and_muon_takes_the_same_recipe():
    with pytest.warns(UserWarning, match=r"JiT's learning rate.*base_learning_rate=8e-3"):
        recipes.conditional_pretraining(3000, 10, batch_size=32, epochs=10)
    recipe = recipes.conditional_pretraining(
        3000, 10, batch_size=30, epochs=10, optimizer=recipes.Muon, base_learning_rate=8e-3, averages=(0.99,)
    )
    config = recipe.optimizer.get_config()
    assert type(recipe.optimizer) is recipes.Muon and config["ema_decay"] == [0.99]
    assert (config["adam_beta_2"], config["weight_decay"], config["adam_weight_decay"]) == (0.95, None, None)
    assert config["learning_rate"]["config"]["warmup_steps"] == 100  # a tenth of the epochs
    assert "Muon" in repr(recipe)


@pytest.mark.host
def test_a_recipe_trains_and_samples(small_model, images, labels):
    recipe = recipes.conditional_pretraining(24, 3, batch_size=12, epochs=1, base_learning_rate=8e-3)
    model = small_model(**recipe.settings)
    model.compile(recipe.optimizer)
    model.fit(images, labels, batch_size=recipe.batch_size, epochs=recipe.epochs, verbose=0)
    assert [average.decay for average in model.averages] == list(recipe.averages)
    assert model.generate([0, 2], **{**recipe.sampling, "num_steps": 2}).shape == (2, 8, 8, 1)


@pytest.mark.host
def test_classification_starts_from_the_features_and_is_saved(small_model, images, labels, tmp_path):
    model = small_model(num_layers=2)
    recipe = recipes.classification(
        model, 24, 3, image_shape=(12, 12, 1), batch_size=12, epochs=2, base_learning_rate=0.02, drop_path=0.5
    )
    large = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)))
    classifier = recipe.model
    features = model.feature_extractor((12, 12, 1), pooling="mean")(large)
    head = classifier.get_layer("classifier")
    expected = array(features) @ array(head.kernel)
    np.testing.assert_allclose(classifier.predict(large, verbose=0), expected, atol=1e-8, rtol=1e-3)
    before = array(head.kernel).copy()
    classifier.compile(recipe.optimizer, recipe.loss, **QUICK)
    classifier.fit(recipes.MixedBatches((large, labels), 3, batch_size=12), epochs=1, verbose=0)
    assert np.any(array(head.kernel) != before)
    floats = large.astype("float32")
    head.kernel.assign(np.random.default_rng(0).normal(size=head.kernel.shape))
    for variable in classifier.trainable_variables:  # AdaLN starts as the identity, where no branch counts
        if "modulation" in variable.path:
            variable.assign(np.random.default_rng(0).normal(size=variable.shape))
    still = [array(classifier(floats, training=False)) for _ in range(2)]
    np.testing.assert_array_equal(*still)
    assert np.abs(array(classifier(floats, training=True)) - still[0]).max() > 1e-3  # branches are left out
    classifier.save(tmp_path / "classifier.keras")
    loaded = keras.models.load_model(tmp_path / "classifier.keras")
    np.testing.assert_allclose(array(loaded(floats)), still[0], rtol=1e-5, atol=1e-6)
    assert loaded.optimizer.rates == recipe.optimizer.rates
    assert recipe.loss.label_smoothing == 0.1 and "classification" in str(recipe)
