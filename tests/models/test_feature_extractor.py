"""The encoder inside other Keras models."""

import keras
import numpy as np
import pytest

from keras_umd import FeatureExtractor
from keras_umd.corruption import schedules
from tests.conftest import QUICK, array, trained_like


def classifier_with(extractor, image_shape=(8, 8, 1), dtype=None):
    inputs = keras.Input(image_shape, dtype=dtype)
    outputs = keras.layers.Dense(3)(extractor(inputs))
    model = keras.Model(inputs, outputs)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-2), loss, **QUICK)
    return model


on_torch = pytest.mark.backends("torch")  # the same operations in another order
CONDITIONS = [{}, *(pytest.param(value, marks=on_torch) for value in ({"num_classes": 3}, {"conditioning": None}))]


@pytest.mark.usefixtures("op_by_op")
@pytest.mark.parametrize("settings", [*CONDITIONS, {"conditioning": "token"}], ids=str)
def test_features_are_those_of_the_model(small_model, images, settings):
    model = small_model(**settings)
    np.testing.assert_allclose(array(model.feature_extractor()(images)), array(model.encode(images)), atol=1e-5)


@pytest.mark.usefixtures("op_by_op")
def test_poolings(small_model, images):
    model = small_model()
    tokens = array(model.feature_extractor(pooling=None)(images))
    assert tokens.shape == (24, 16, 16)
    np.testing.assert_allclose(array(model.feature_extractor(pooling="mean")(images)), tokens.mean(1), atol=1e-5)
    both = array(model.feature_extractor(pooling="cls+mean")(images))
    np.testing.assert_allclose(both[:, :16], array(model.encode(images)), atol=1e-5)
    np.testing.assert_allclose(both[:, 16:], tokens.mean(1), atol=1e-5)
    with pytest.raises(ValueError, match="pooling='max'"):
        model.feature_extractor(pooling="max")


@pytest.mark.usefixtures("op_by_op")
@pytest.mark.parametrize("frozen", [False, True])
def test_a_functional_model_trains_saves_and_loads_with_it(small_model, images, labels, tmp_path, frozen):
    model = small_model()
    before = model.get_weights()
    extractor = model.feature_extractor()
    extractor.trainable = not frozen
    weights = extractor.get_weights()
    classifier = classifier_with(extractor, dtype="uint8")
    classifier.fit(images, labels, batch_size=8, verbose=0)
    moved = [np.any(old != new) for old, new in zip(weights, extractor.get_weights(), strict=True)]
    assert any(moved) != frozen
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)  # the extractor is a copy
    classifier.save(tmp_path / "classifier.keras")
    loaded = keras.models.load_model(tmp_path / "classifier.keras")
    np.testing.assert_allclose(loaded.predict(images, verbose=0), classifier.predict(images, verbose=0), atol=1e-6)
    assert len(loaded.trainable_variables) == len(classifier.trainable_variables)
    assert len(loaded.trainable_variables) == (2 if frozen else 2 + len(extractor.trainable_variables))


@pytest.mark.usefixtures("op_by_op")
def test_training_the_model_afterwards_leaves_the_extractor(small_model, images):
    model = small_model()
    extractor = model.feature_extractor()
    features = array(extractor(images))
    model.compile("adamw", **QUICK)
    model.fit(images, batch_size=8, verbose=0)
    np.testing.assert_array_equal(array(extractor(images)), features)
    conditional = model.with_classes(3)
    features = array(conditional.encode(images))
    model.fit(images, batch_size=8, verbose=0)
    np.testing.assert_array_equal(array(conditional.encode(images)), features)


@pytest.mark.usefixtures("op_by_op")
def test_uint8_and_scaled_floats_give_the_same_features(small_model, images):
    extractor = small_model().feature_extractor()
    floats = images.astype("float32") / 127.5 - 1
    np.testing.assert_allclose(array(extractor(images)), array(extractor(floats)), atol=1e-5)


@pytest.mark.usefixtures("op_by_op")
def test_another_image_size_interpolates_the_positions(small_model):
    model = small_model()
    extractor = model.feature_extractor(image_shape=(16, 12, 1))
    assert extractor(np.zeros((2, 16, 12, 1), "uint8")).shape == (2, 16)
    assert classifier_with(extractor, (16, 12, 1)).predict(np.zeros((2, 16, 12, 1)), verbose=0).shape == (2, 3)

    # Interpolation keeps what is constant, and what is linear inside the grid.
    positions = model.encoder.position_embedding
    rows = np.repeat(np.arange(4.0), 4)[:, None] * np.ones((1, 16))
    positions.positions.assign(rows)
    resized = array(positions.interpolated((8, 8))).reshape(8, 8, 16)
    np.testing.assert_allclose(resized[:, 0], resized[:, 5], atol=1e-5)
    np.testing.assert_allclose(resized[3:5, 0, 0], [1.25, 1.75], atol=1e-4)


@pytest.mark.host
def test_config_round_trip(small_model):
    extractor = small_model(num_classes=3, patch_size=(2, 4)).feature_extractor(pooling="mean", layer=[1], timesteps=3)
    assert FeatureExtractor.from_config(extractor.get_config()).get_config() == extractor.get_config()


@pytest.mark.usefixtures("op_by_op")
def test_features_of_a_layer_are_those_of_an_encoder_that_ends_there(small_model, images):
    model = trained_like(small_model(num_layers=3))
    outputs = [array(x) for x in model.feature_extractor(layer=[3, 1], pooling="mean")(images)]
    np.testing.assert_allclose(outputs[0], array(model.feature_extractor(pooling="mean")(images)), atol=1e-5)

    shorter = small_model(num_layers=1)
    shorter.condition_embedding.set_weights(model.condition_embedding.get_weights())
    for part in ("patch_embedding", "position_embedding"):
        getattr(shorter.encoder, part).set_weights(getattr(model.encoder, part).get_weights())
    shorter.encoder.cls_tokens.assign(model.encoder.cls_tokens)
    shorter.encoder.blocks[0].set_weights(model.encoder.blocks[0].get_weights())
    tokens = model.feature_extractor(layer=1, pooling=None)(images)  # of the last layer, a LayerNorm is a part
    expected = array(shorter.feature_extractor(pooling=None)(images))
    np.testing.assert_allclose(array(shorter.encoder.norm(tokens)), expected, atol=1e-5)


@pytest.mark.usefixtures("op_by_op")
def test_noised_images_have_the_features_of_the_model_at_that_timestep(small_model, images):
    model = trained_like(small_model())
    extractor = model.feature_extractor(timesteps=300, seed=5)
    np.testing.assert_allclose(array(extractor(images)), array(model.encode(images, 300, seed=5)), atol=1e-5)
    again = array(extractor(images))
    assert np.abs(again - array(model.encode(images, 300, seed=5))).max() > 1e-3  # other noise
    copy = type(extractor).from_config(extractor.get_config())  # begins with the first noise
    copy.set_weights(extractor.get_weights())
    np.testing.assert_allclose(array(copy(images)), array(model.encode(images, 300, seed=5)), atol=1e-5)


@pytest.mark.usefixtures("op_by_op")
def test_averaged_weights_can_be_asked_for(small_model, images):
    model = small_model()
    model.track_average(0.5)
    model.compile(keras.optimizers.SGD(1e-2), **QUICK)
    model.fit(images, batch_size=8, epochs=2, verbose=0)
    averaged = model.feature_extractor()
    values = dict(zip(map(id, model.network_weights), model.weight_values(0.5), strict=True))
    for target, source in zip(averaged.encoder.weights, model.encoder.weights, strict=True):
        np.testing.assert_array_equal(array(target), array(values[id(source)]))
    raw = model.feature_extractor(weights="raw")
    assert np.any(array(averaged(images)) != array(raw(images)))
    np.testing.assert_allclose(array(model.encode(images)), array(averaged(images)), atol=1e-6)
    np.testing.assert_allclose(array(model.encode(images, weights="raw")), array(raw(images)), atol=1e-6)
    averaged.copy_weights(model, "raw")
    np.testing.assert_array_equal(array(averaged(images)), array(raw(images)))


@pytest.mark.host
@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"layer": 0}, "layer=0"), ({"layer": [1, 2]}, r"layer=\[1, 2\]"), ({"timesteps": 1001}, "timesteps=1001")],
)
def test_wrong_arguments_are_named(small_model, wrong, message):
    with pytest.raises(ValueError, match=message):
        small_model().feature_extractor(**wrong)


@keras.saving.register_keras_serializable("tests")
class OwnSchedule(schedules.Linear):
    name = "own"


@pytest.mark.host
def test_a_schedule_of_ones_own_is_kept(small_model, images, tmp_path):
    config = {
        **small_model().feature_extractor().get_config(),
        "schedule": OwnSchedule(50),
        "num_timesteps": None,
        "timesteps": 40,
    }
    config["seed"] = 0
    extractor = FeatureExtractor(**config)
    inputs = keras.Input((8, 8, 1), dtype="uint8")
    model = keras.Model(inputs, extractor(inputs))
    expected = array(extractor(images))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras").layers[-1]
    assert type(loaded.noise_schedule) is OwnSchedule and loaded.noise_schedule.num_timesteps == 50
    np.testing.assert_allclose(array(loaded(images)), expected, atol=1e-5)
    assert loaded.fingerprint() == extractor.fingerprint()
    assert FeatureExtractor(**{**config, "schedule": OwnSchedule(60)}).fingerprint() != extractor.fingerprint()
    with pytest.raises(ValueError, match="timesteps=51"):
        FeatureExtractor(**{**config, "timesteps": 51})


@pytest.mark.usefixtures("op_by_op")
def test_images_of_another_range_are_scaled_inside(small_model, images):
    model = small_model()
    expected = array(model.feature_extractor()(images))
    extractor = model.feature_extractor(value_range=(0, 255))
    floats = images.astype("float32")
    for given in (images, floats):
        np.testing.assert_allclose(array(extractor(given)), expected, atol=1e-6)
    inputs = keras.Input((8, 8, 1))  # which makes floats of uint8
    functional = keras.Model(inputs, extractor(inputs))
    np.testing.assert_allclose(functional.predict(images, verbose=0), expected, atol=1e-5)
    copy = FeatureExtractor.from_config(extractor.get_config())
    copy.set_weights(extractor.get_weights())
    np.testing.assert_allclose(array(copy(floats)), expected, atol=1e-6)
    assert copy.fingerprint() == extractor.fingerprint() != model.feature_extractor().fingerprint()
    shifted = model.feature_extractor(value_range=(1, 2))
    np.testing.assert_allclose(array(shifted(1 + floats / 255)), expected, atol=1e-4)
    with pytest.raises(ValueError, match=r"value_range=\(2, 1\)"):
        model.feature_extractor(value_range=(2, 1))
    with pytest.raises(ValueError, match="latents"):
        small_model(value_range=None).feature_extractor(value_range=(0, 255))


@pytest.mark.host
def test_arrays_out_of_range_are_refused_before_anything_is_compiled(small_model, images):
    extractor = small_model().feature_extractor()
    extractor.compile("sgd", "mse")
    floats, targets = images.astype("float32"), np.zeros((24, 16), "float32")
    uses = [
        lambda: extractor.predict(floats, verbose=0),
        lambda: extractor.predict_on_batch(floats),
        lambda: extractor.fit(floats, targets, verbose=0),
        lambda: extractor.fit(x=floats, y=targets, verbose=0),
        lambda: extractor.evaluate(floats, targets, verbose=0),
        lambda: extractor.train_on_batch(floats, targets),
        lambda: extractor.test_on_batch(floats, targets),
    ]
    for use in uses:
        with pytest.raises(ValueError, match=r"value_range=\(-1.0, 1.0\)"):
            use()


@pytest.mark.parametrize("pooling", ["cls", None])
def test_features_of_traced_images_out_of_range_are_nan(small_model, images, pooling):
    extractor = small_model().feature_extractor(pooling=pooling)
    floats = images[:3].astype("float32") / 127.5 - 1
    floats[1] = 255
    inputs = keras.Input((8, 8, 1))
    model = keras.Model(inputs, extractor(inputs))
    if keras.backend.backend() == "torch":  # which has the values whenever they are on the host
        with pytest.raises(ValueError, match="value_range"):
            model.predict(floats, verbose=0)
        return
    features = model.predict(floats, verbose=0)
    np.testing.assert_array_equal(np.isnan(features).reshape(3, -1).all(axis=1), [False, True, False])
    np.testing.assert_allclose(features[::2], array(extractor(floats[::2])), atol=1e-5)
    assert np.isfinite(features[::2]).all()


@pytest.mark.usefixtures("op_by_op")
def test_frames_of_a_video_go_through_one_by_one(small_model, images):
    extractor = small_model().feature_extractor()
    inputs = keras.Input((3, 8, 8, 1), dtype="uint8")
    model = keras.Model(inputs, keras.layers.TimeDistributed(extractor)(inputs))
    assert model.output.shape == (None, 3, 16)
    frames = images.reshape(8, 3, 8, 8, 1)
    expected = array(extractor(images)).reshape(8, 3, 16)
    np.testing.assert_allclose(model.predict(frames, verbose=0), expected, atol=1e-5)


def test_output_shapes_are_those_of_the_outputs(small_model, images):
    model = small_model(num_layers=2)
    for settings in ({}, {"pooling": None}, {"pooling": "cls+mean"}, {"layer": [1, 2], "pooling": "mean"}):
        extractor = model.feature_extractor(**settings)
        shapes = keras.tree.map_structure(lambda x: tuple(x.shape), extractor(images))
        assert extractor.compute_output_shape(images.shape) == shapes


@pytest.mark.backends("jax", "tensorflow")  # a SavedModel is made by them
def test_it_exports_without_having_been_called(small_model, images, tmp_path):
    tf = pytest.importorskip("tensorflow")
    extractor = small_model().feature_extractor()
    extractor.export(tmp_path / "exported", verbose=False)
    floats = images.astype("float32") / 127.5 - 1
    loaded = tf.saved_model.load(str(tmp_path / "exported"))  # kept, or its variables would be deleted
    served = loaded.serve(floats)
    np.testing.assert_allclose(np.asarray(served), array(extractor(images)), atol=1e-5)
