"""A classifier of small images as a judge, and the share of images that it takes for their label."""

import keras
import numpy as np
import pytest

from keras_umd.evaluation import Reference, evaluate_generator, evaluate_images, label_agreement, train_classifier
from tests.conftest import array

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def stripes():
    """Images of noise with a bright row or a bright column."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 100, (96, 8, 8, 1)), np.arange(96) % 2
    for image, label in zip(images, labels, strict=True):
        image[(slice(None), 4) if label else 4] = 255
    return images.astype("uint8"), labels


@pytest.fixture(scope="module")
def network(stripes):
    images, labels = stripes
    return train_classifier(images[:64], labels[:64], width=8, epochs=8, batch_size=16, verbose=False)


def test_it_learns_and_names_no_other_seed(stripes, network):
    images, labels = stripes
    outputs = network.predict(images[64:], verbose=0)
    assert label_agreement(outputs["logits"], labels[64:]) > 0.9
    assert outputs["features"].shape == (32, 16)
    keras.utils.set_random_seed(5)
    expected = np.random.random()
    keras.utils.set_random_seed(5)
    first, second = (train_classifier(*stripes, width=2, epochs=1, seed=3, verbose=False) for _ in range(2))
    assert np.random.random() == expected
    for one, other in zip(first.weights, second.weights, strict=True):
        np.testing.assert_allclose(array(one), array(other), rtol=1e-4, atol=1e-5)


def test_agreement_is_the_share_of_most_probable_labels():
    logits = np.array([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0], [0.5, 0.1, 0.2], [0.0, 0.0, 1.0]])
    assert label_agreement(logits, np.array([0, 1, 2, 2])) == 0.75
    for wrong in (np.array([0, 1]), np.array([0, 1, 2, 3]), np.array([0.0, 1, 2, 2])):
        with pytest.raises(ValueError, match="labels"):
            label_agreement(logits, wrong)


def test_it_judges_images_and_generators(stripes, network, small_model):
    images, labels = stripes
    reference = Reference.of(network, images, verbose=False)
    judged = evaluate_images((images[64:], labels[64:]), reference, network, ["frechet", "labels"], verbose=False)
    assert list(judged) == ["frechet_distance", "label_agreement"] and judged["label_agreement"].value > 0.9
    wrong = evaluate_images((images[64:], 1 - labels[64:]), reference, network, ["labels"], verbose=False)
    assert wrong["label_agreement"].value == pytest.approx(1 - judged["label_agreement"].value)
    assert "label_agreement" not in evaluate_images((images, labels), reference, network, verbose=False)

    model = small_model(num_classes=2)
    options = {"num_steps": 2, "seed": 1}
    made = evaluate_generator(model, reference, network, 6, metrics=["labels"], verbose=False, batch_size=4, **options)
    samples = model.generate(np.arange(6) % 2, **options)
    expected = label_agreement(network.predict(samples, verbose=0)["logits"], np.arange(6) % 2)
    assert made["label_agreement"].value == pytest.approx(expected)
    with pytest.raises(ValueError, match="no labels"):
        evaluate_images(images, reference, network, ["labels"], verbose=False)


def test_what_it_cannot_learn_from_is_refused(stripes):
    images, labels = stripes
    for wrong in ((images[:, :, :, 0], labels), (images / 255.0, labels), (images, labels[:5]), (images, labels - 1)):
        with pytest.raises(ValueError, match="images|labels"):
            train_classifier(*wrong)
