"""Keras' global settings and NumPy's own numbers change nothing, and break nothing."""

import json

import keras
import numpy as np
import pytest

from keras_umd import UMD, Corruption, NoiseSchedule, data, evaluation, plan, recipes
from tests.conftest import QUICK, array

pytestmark = pytest.mark.usefixtures("op_by_op")

SETTINGS = {
    "channels first": (keras.config.set_image_data_format, "channels_first", "channels_last"),
    "float64": (keras.config.set_floatx, "float64", "float32"),
    "float16": (keras.config.set_floatx, "float16", "float32"),
    "epsilon": (keras.config.set_epsilon, 1e-2, 1e-7),
    "policy": (keras.config.set_dtype_policy, "mixed_bfloat16", "float32"),
}
# One by one where nothing is compiled, and as many at a time as go together where everything is, for each of them.
TOGETHER = [("channels first", "float64", "epsilon"), ("float16", "policy")]
TOGETHER = [pytest.param(names, marks=pytest.mark.backends("jax", "tensorflow")) for names in TOGETHER]
ALONE = [pytest.param((name,), marks=pytest.mark.backends("torch")) for name in SETTINGS]


@pytest.fixture
def globally(request):
    for name in request.param:
        change, value, _ = SETTINGS[name]
        change(value)
    yield
    for name in reversed(request.param):
        change, _, before = SETTINGS[name]
        change(before)


def small_model(**overrides):
    keras.utils.set_random_seed(0)
    sizes = {"image_shape": (8, 8, 3), "patch_size": 2, "hidden_dim": 24, "num_heads": 2, "num_layers": 1}
    sizes |= {"decoder_layers": 1, "num_classes": 3}
    return UMD(**{**sizes, "conditioning": "token", "seed": 0, "dtype": "float32", **overrides})


def everything():
    """What a user gets from a model of a given precision: losses, weights, features, pictures, scores."""
    images = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3)).astype("uint8")
    labels = (np.arange(8) % 3).astype("int32")
    model = small_model()
    model.compile("sgd", **QUICK)
    history = model.fit(data.from_arrays(images, labels, batch_size=4), epochs=1, verbose=0).history
    features = array(model.encode(images, timesteps=3, seed=0))
    probe = evaluation.LinearProbe(epochs=2, batch_size=4)
    return {
        "loss": history["loss"],
        "weights": np.concatenate([array(weight).ravel() for weight in model.network_weights]),
        "features": features,
        "extracted": evaluation.extract(model.feature_extractor(), images).features,
        "reconstruction": model.reconstruct(images, seed=0)["reconstruction"],
        "samples": model.generate([0, 1], num_steps=2, seed=0),
        "probe": probe.accuracies((features, labels), (features, labels)),
    }


@pytest.fixture(scope="module")
def usual():
    return everything()


@pytest.mark.parametrize("globally", [*ALONE, *TOGETHER], indirect=True, ids="-".join)
def test_a_global_setting_changes_nothing(usual, globally):
    for name, value in everything().items():
        # Keras keeps the mean of the losses and the learning rate in floatx.
        tolerance = 1e-3 if name == "loss" else 2e-5  # of features of up to 2
        atol = 1 if np.asarray(value).dtype == "uint8" else tolerance  # rounded to the next level
        np.testing.assert_allclose(np.float64(value), np.float64(usual[name]), rtol=tolerance, atol=atol, err_msg=name)


@pytest.fixture(scope="module")
def of_integers():
    """A model of Python's integers, and what it makes."""
    model = small_model(label_dropout=0.5, corruption=Corruption(num_timesteps=50, clean_mask_ratio=0.5))
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3)).astype("uint8")
    features = {timesteps: array(model.encode(images, timesteps=timesteps, seed=0)) for timesteps in (0, 3)}
    return images, features, model.generate(num_images=2, num_steps=2, seed=0, batch_size=1)


@pytest.mark.parametrize("integer", [np.int64, np.int32, np.uint8, lambda number: np.array(number)])
def test_integers_of_numpy_are_integers(of_integers, integer):
    images, expected, samples = of_integers
    model = small_model(
        image_shape=(integer(8), integer(8), integer(3)),
        patch_size=integer(2),
        hidden_dim=integer(24),
        num_heads=integer(2),
        num_layers=integer(1),
        decoder_layers=integer(1),
        num_classes=integer(3),
        num_cls_tokens=integer(1),
        seed=integer(0),
        label_dropout=np.float32(0.5),
        corruption=Corruption(num_timesteps=integer(50), clean_mask_ratio=np.float64(0.5)),
    )
    own = model.generate(num_images=integer(2), num_steps=integer(2), seed=integer(0), batch_size=integer(1))
    np.testing.assert_array_equal(own, samples)
    for timesteps, features in expected.items():
        np.testing.assert_array_equal(
            array(model.encode(images, timesteps=integer(timesteps), seed=integer(0))), features
        )
    extractor = model.feature_extractor(layer=integer(1), timesteps=integer(0), seed=integer(0))
    for made in (model, extractor):  # what a .keras file holds
        config = json.loads(json.dumps(keras.saving.serialize_keras_object(made)))
        keras.saving.deserialize_keras_object(config)


@pytest.mark.host
def test_integers_of_numpy_are_integers_elsewhere():
    images, labels = np.zeros((6, 8, 8, 3), "uint8"), np.arange(6) % 2
    for integer in (np.int64, np.uint8, np.array):
        dataset = data.from_arrays(images, labels, batch_size=integer(2), image_size=integer(4), seed=integer(1))
        assert len(dataset) == 3 and dataset.image_shape == (4, 4, 3)
        json.dumps(dataset.get_state())
        dataset.go_to(integer(1), integer(1))
        assert NoiseSchedule.from_betas([0.1] * 3).num_timesteps == 3
        optimizer = recipes.pretraining_optimizer(integer(100), integer(64), base_learning_rate=np.float32(1e-3))
        assert float(array(optimizer._learning_rate(5))) == pytest.approx(1e-3 * 64 / 256, rel=1e-5)
        assert plan(small_model(), integer(8), num_devices=integer(2)).batch_size == 8
