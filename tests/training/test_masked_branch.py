"""Fine-tuning with a masked branch: its loss, its limit, and predictions as without it."""

import keras
import numpy as np

from keras_umd import recipes
from keras_umd.layers.masking import split_by_score
from tests.conftest import QUICK, array, trained_like


def classifier(small_model, mask_ratio):
    keras.utils.set_random_seed(0)
    model = small_model().feature_extractor(pooling="mean")
    return trained_like(recipes.MaskedBranch(model, 3, mask_ratio, seed=1))


def softmax(x):
    return np.exp(x) / np.exp(x).sum(-1, keepdims=True)


def test_the_loss_is_that_of_the_paper_and_training_alone_sees_parts(small_model, images, labels, tmp_path):
    images = images[:8]
    targets = np.eye(3, dtype="float32")[labels[:8]]
    model = classifier(small_model, 0.5)
    draws = keras.random.uniform((8, 16), seed=keras.random.SeedGenerator(1))
    visible, _ = split_by_score(draws, 0.5)
    whole = array(model(images))
    part = array(model.classifier(model.encoder(keras.ops.convert_to_tensor(images), visible=visible)))
    of_labels = -(targets * np.log(softmax(whole))).sum(-1).mean()
    of_part = -(softmax(whole) * np.log(softmax(part))).sum(-1).mean()
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.0), loss, **QUICK)
    np.testing.assert_allclose(model.evaluate(images, targets, batch_size=8, verbose=0), of_labels, rtol=1e-5)
    losses = model.fit(images, targets, batch_size=8, verbose=0, shuffle=False).history["loss"]
    np.testing.assert_allclose(losses, [(of_labels + of_part) / 2], rtol=1e-4)
    np.testing.assert_allclose(model.predict(images, verbose=0), whole, atol=1e-5)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.predict(images, verbose=0), whole, atol=1e-5)


def test_without_a_branch_it_is_a_plain_classifier(small_model, images, labels):
    settings = {"value_range": (-1.0, 1.0), "batch_size": 8, "epochs": 1}
    recipe = recipes.classification(small_model(), 8, 3, **settings)
    branched = recipes.classification(small_model(), 8, 3, **settings, masked_branch=0.5)
    assert isinstance(branched.model, recipes.MaskedBranch) and not isinstance(recipe.model, recipes.MaskedBranch)
    model = classifier(small_model, 0.0)
    targets = np.eye(3, dtype="float32")[labels[:8]]
    model.compile(keras.optimizers.SGD(0.0), keras.losses.CategoricalCrossentropy(from_logits=True), **QUICK)
    losses = model.fit(images[:8], targets, batch_size=8, verbose=0).history["loss"]
    np.testing.assert_allclose(losses[0], model.evaluate(images[:8], targets, batch_size=8, verbose=0), rtol=1e-5)
