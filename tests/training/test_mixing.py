import numpy as np
import pytest

from keras_umd import data, recipes

pytestmark = pytest.mark.host
LABELS = np.arange(12) % 3
IMAGES = np.broadcast_to(np.array([0, 100, 250], "uint8")[LABELS][:, None, None, None], (12, 20, 20, 1))


@pytest.mark.parametrize("alphas", [(0.8, 0.0), (0.0, 1.0), (0.8, 1.0)])
def test_labels_say_what_an_image_is_made_of(alphas):
    """Each class has a brightness of its own, so that the mean of a mixed image tells the shares."""
    batches = recipes.MixedBatches((IMAGES, LABELS), 3, batch_size=6, mixup=alphas[0], cutmix=alphas[1], seed=1)
    assert len(batches) == 2
    for images, labels in (batches[i % 2] for i in range(6)):
        assert images.dtype == labels.dtype == np.float32 and labels.shape == (6, 3)
        np.testing.assert_allclose(labels.sum(axis=1), 1, atol=1e-5)
        # CutMix weighs the area of the box before it is rounded to pixels.
        slack = 0.1 if alphas[1] else 1e-3
        assert np.abs(images.mean(axis=(1, 2, 3)) - labels @ [0, 100, 250]).max() < slack * 250
        kinds = [len(np.unique(image)) for image in images]
        if not alphas[1]:
            assert set(kinds) == {1}
        elif not alphas[0]:
            assert set(images.ravel()) <= {0, 100, 250}


def test_without_mixing_batches_are_those_of_the_data_set():
    dataset = data.from_arrays(np.array(IMAGES), LABELS, batch_size=4, training=False)
    mixed = recipes.MixedBatches(dataset, 3, mixup=0.0, cutmix=0.0)
    assert len(mixed) == 3
    for i in range(3):
        np.testing.assert_array_equal(mixed[i][0], dataset[i][0])
        np.testing.assert_array_equal(mixed[i][1].argmax(axis=1), dataset[i][1])


def test_what_cannot_be_mixed_is_refused():
    with pytest.raises(ValueError, match="batch_size"):
        recipes.MixedBatches((IMAGES, LABELS), 3)
    with pytest.raises(ValueError, match=r"\[0, 2\), the model's classes"):
        recipes.MixedBatches((IMAGES, LABELS), 2, batch_size=12)[0]
    with pytest.raises(ValueError, match="shape"):
        recipes.MixedBatches((IMAGES[..., 0], LABELS), 3, batch_size=12)[0]
