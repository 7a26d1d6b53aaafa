"""Missing parts are filled in from what is known alone; what a model doesn't expect stands out."""

import numpy as np
import pytest

from keras_umd import Corruption, Objective
from keras_umd.objectives import Reconstruction
from keras_umd.objectives.targets import Pixels
from tests.conftest import trained_like

pytestmark = pytest.mark.usefixtures("op_by_op")


def missing_of(images):
    """Two patches of the first image, parts of three of the second, nothing of the others."""
    missing = np.zeros((*images.shape[:-1], 1), bool)
    missing[0, :2, :4] = True
    missing[1, 1:3, 3:6] = True
    return missing


def test_what_is_missing_is_never_seen_and_what_is_known_stays(small_model, images):
    model, images = trained_like(small_model()), images[:4]
    missing = missing_of(images)
    filled = model.impute(images, missing, seed=0)
    assert filled.dtype == images.dtype and filled.shape == images.shape
    wide = np.broadcast_to(missing, images.shape)
    np.testing.assert_array_equal(filled[~wide], images[~wide])
    assert np.any(filled[wide] != 128)
    other = np.where(wide, 255 - images, images)
    np.testing.assert_array_equal(model.impute(other, missing, seed=0), filled)


@pytest.mark.host
def test_nan_says_what_is_missing(small_model, images):
    model = trained_like(small_model())
    scaled = (images[:4] / 127.5 - 1).astype("float32")
    missing = missing_of(scaled)
    filled = model.impute(np.where(missing, np.nan, scaled), seed=0)
    np.testing.assert_array_equal(filled, model.impute(scaled, missing, seed=0))
    assert np.all(np.isfinite(filled)) and np.abs(filled).max() <= 1


@pytest.mark.host
def test_what_cannot_be_filled_in_is_said(small_model, images):
    model = small_model()
    with pytest.raises(ValueError, match="a patch each of which nothing is `missing`"):
        model.impute(images[:1], np.ones((1, 8, 8, 1), bool))
    with pytest.raises(ValueError, match="only floats can be NaN"):
        model.impute(images[:1])
    with pytest.raises(ValueError, match=r"missing of shape \(1, 8, 8\)"):
        model.impute(images[:1], np.ones((1, 8, 8), bool))
    corruption = Corruption.mae()
    normalised = small_model(corruption=corruption, objective=Objective([Reconstruction("clean", Pixels())]))
    with pytest.raises(ValueError, match="no brightness.*clean_pixels_loss"):
        normalised.impute(images[:4], missing_of(images[:4]))


@pytest.mark.host
def test_an_anomaly_map_is_the_error_of_parts_that_were_hidden(small_model, images, monkeypatch):
    """With predictions of zero in place of the network's, the error is the square of the image."""
    from keras_umd.models import filling

    model = trained_like(small_model())
    scaled = (images[:3] / 127.5 - 1).astype("float32")
    asked = []

    def of_zeros(model, target, x0, scores, visible, weights):
        shown = np.argsort(scores, axis=1)[:, :visible]
        asked.append(shown)
        hidden = np.ones((len(x0), 16), "float32")
        np.put_along_axis(hidden, shown, 0.0, axis=1)
        blocks = hidden.reshape(-1, 4, 4, 1).repeat(2, axis=1).repeat(2, axis=2)
        return np.zeros_like(x0), np.broadcast_to(blocks, x0.shape)

    monkeypatch.setattr(filling, "_predicted", of_zeros)
    found = model.anomaly_map(scaled, timestep=0, seed=0)
    np.testing.assert_allclose(found, np.mean(scaled**2, axis=-1), rtol=1e-5)
    assert len(asked) == 4 and all(shown.shape == (3, 4) for shown in asked)
    np.testing.assert_array_equal(np.sort(np.concatenate(asked, axis=1)), np.tile(np.arange(16), (3, 1)))  # once each


@pytest.mark.host
def test_an_anomaly_map_adds_the_error_of_removing_noise(small_model, images):
    model, images = trained_like(small_model()), images[:2]
    masked = model.anomaly_map(images, timestep=0, seed=0)
    both = model.anomaly_map(images, timestep=20, seed=0)
    assert masked.shape == both.shape == images.shape[:-1]
    assert masked.dtype == "float32" and np.all(both > masked)
    np.testing.assert_array_equal(model.anomaly_map(images, timestep=20, seed=0), both)


@pytest.mark.host
def test_a_model_of_clean_images_knows_nothing_of_noise(small_model, images):
    model = trained_like(small_model(corruption=Corruption.mae()))
    found = model.anomaly_map(images[:2], seed=0)
    np.testing.assert_array_equal(found, model.anomaly_map(images[:2], timestep=0, seed=0))
    with pytest.raises(ValueError, match="timestep=5"):
        model.anomaly_map(images[:2], timestep=5)
