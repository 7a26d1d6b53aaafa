import keras
import numpy as np
import pytest

from keras_umd import data
from keras_umd.evaluation import extract


def mean_model(images_shape=(8, 8, 1)):
    """A Keras model of no UMD: the mean and the deviation of each image, in units of 255."""
    inputs = keras.Input(images_shape, dtype="uint8")
    x = keras.ops.cast(keras.layers.Flatten()(inputs), "float32") / 255.0
    return keras.Model(inputs, keras.ops.stack([keras.ops.mean(x, axis=1), keras.ops.std(x, axis=1)], axis=1))


def expected(images):
    x = images.reshape(len(images), -1) / 255.0
    return np.stack([x.mean(1), x.std(1)], axis=1)


def test_every_image_once_and_in_order_whatever_the_batches(images, labels):
    encoder = mean_model()
    sets = [extract(encoder, (images, labels), batch_size) for batch_size in (5, 24, 100)]
    for features in sets:
        np.testing.assert_allclose(features.features, expected(images), atol=1e-6)
        np.testing.assert_array_equal(features.labels, labels)
        assert features.digest == sets[0].digest
    assert extract(encoder, images).labels is None


def test_all_kinds_of_data_give_the_same(images, labels):
    encoder = mean_model()
    whole = extract(encoder, (images, labels))
    dataset = data.from_arrays(images, labels, batch_size=7, training=False)
    batches = [(images[:10], labels[:10, None]), (images[10:], labels[10:, None])]
    for _, _ in zip(range(2), dataset, strict=False):
        pass  # it is read from its beginning all the same

    class WithoutEnd(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return batches[index % 2]

    for other in (dataset, batches, WithoutEnd()):
        features = extract(encoder, other)
        np.testing.assert_allclose(features.features, whole.features, atol=1e-6)
        np.testing.assert_array_equal(features.labels, whole.labels)
        assert features.digest == whole.digest


def test_the_digest_tells_images_and_labels_apart(images, labels):
    encoder = mean_model()
    digest = extract(encoder, (images, labels)).digest
    other_labels, other_images = labels.copy(), images.copy()
    other_labels[3] += 1
    other_images[3, 0, 0] ^= 1
    assert len({digest, extract(encoder, (images, other_labels)).digest, extract(encoder, other_images).digest}) == 3


def test_a_umd_and_its_layers_are_encoders(small_model, images):
    model = small_model(num_layers=2)
    np.testing.assert_allclose(extract(model, images, 10).features, model.predict(images, verbose=0), atol=1e-5)
    first, last = extract(model.feature_extractor(layer=[1, 2]), images, 10)
    np.testing.assert_allclose(last.features, model.predict(images, verbose=0), atol=1e-5)
    assert np.abs(first.features - last.features).max() > 1e-2


def test_what_is_no_set_of_features_is_refused(small_model, images, labels):
    encoder = mean_model()
    for features_of, dataset, message in (
        (small_model().feature_extractor(pooling=None), images, r"shape \(24, 16, 16\)"),
        (encoder, (images, labels[:5]), "24 images, 5 labels"),
        (encoder, images[:0], "no images"),
        (encoder, (images, np.eye(3)[labels]), r"class indices.*shape \(24, 3\)"),
        (encoder, (images, labels - 1), "class indices"),
        (keras.Model(encoder.inputs, {"features": encoder.output}), images, "dictionary"),
        (encoder, data.on_device(images, labels, batch_size=4), "training=False"),
        (encoder, data.from_arrays(images, labels, batch_size=4), "training=False"),
        (encoder, data.from_arrays(images, labels, batch_size=4, training=False).repeat(), "never end"),
    ):
        with pytest.raises(ValueError, match=message):
            extract(features_of, dataset)
    inputs = keras.Input((8, 8, 1))
    with pytest.raises(ValueError, match="finite"):
        extract(keras.Model(inputs, keras.ops.log(keras.layers.Flatten()(inputs) * 0.0)), images.astype("float32"))


def test_images_of_a_wrong_range_are_refused_by_a_compiled_encoder(small_model, images):
    for encoder in (small_model(), small_model().feature_extractor()):
        with pytest.raises(ValueError, match="value_range.*from 0 to 255"):
            extract(encoder, images.astype("float32") - images.min())


def test_parts_of_a_data_set_are_refused(images):
    encoder = mean_model()
    for how, message in (
        ({"shard_index": 0, "num_shards": 2}, "one of 2 shards"),
        ({"drop_remainder": True}, "2 batch"),
    ):
        part = data.from_arrays(images, batch_size=10, training=False, **how)
        with pytest.raises(ValueError, match=f"must be whole.*{message}"):
            extract(encoder, part)
    assert len(extract(encoder, data.from_arrays(images, batch_size=8, training=False, drop_remainder=True))) == 24
