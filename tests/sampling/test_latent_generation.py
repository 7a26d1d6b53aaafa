"""A latent model with an autoencoder: all that it generates are images."""

import json
import pathlib
import types

import keras
import numpy as np
import pytest

import keras_umd
from keras_umd import Corruption
from tests.conftest import array, trained_like
from tests.latents.helpers import assert_same_images, decoded_by_hand, tiny_autoencoder

ARGUMENTS = {"num_steps": 3, "seed": 0}
# Sampling is tested on every backend, and so are autoencoders; here they only meet.
pytestmark = pytest.mark.host


@pytest.fixture
def autoencoder():
    return tiny_autoencoder()


@pytest.fixture
def model(small_model):
    """Of latents of 8x8x1, without autoencoder."""
    return trained_like(small_model(num_classes=3, value_range=None, corruption=Corruption.dit(schedule="linear")))


@pytest.mark.parametrize("method", ["generate", "trajectory", "denoise", "inpaint"])
def test_latents_are_decoded_where_an_autoencoder_is_attached(model, autoencoder, method):
    noise = np.random.default_rng(0).normal(size=(2, 8, 8, 1)).astype("float32")
    arguments = {
        "generate": {"labels": [0, 1]},
        "trajectory": {"labels": [0, 1], "num_frames": 3},
        "denoise": {"images": noise, "timestep": 500},
        "inpaint": {"images": noise, "mask": noise[:1] > 0},
    }[method]
    latents = getattr(model, method)(**arguments, **ARGUMENTS)
    assert latents.dtype == np.float32
    model.autoencoder = autoencoder
    images = getattr(model, method)(**arguments, **ARGUMENTS)
    assert images.shape == (*latents.shape[:-3], 16, 16, 3)
    expected = decoded_by_hand(autoencoder, latents.reshape(-1, 8, 8, 1)).reshape(images.shape)
    assert_same_images(images, expected)
    model.autoencoder = None
    np.testing.assert_array_equal(getattr(model, method)(**arguments, **ARGUMENTS), latents)


def test_with_classes_passes_the_autoencoder_on(model, autoencoder):
    model.autoencoder = autoencoder
    assert model.with_classes(5).autoencoder is autoencoder


def test_the_autoencoder_is_neither_trained_nor_saved(model, autoencoder, tmp_path):
    weights = len(model.weights)
    model.autoencoder = autoencoder
    assert len(model.weights) == weights
    model.compile("adamw")
    model.fit(np.zeros((4, 8, 8, 1), "float32"), np.zeros(4, "int32"), verbose=0)
    before = autoencoder.fingerprint()
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.autoencoder is None
    assert autoencoder.fingerprint() == before
    for actual, expected in zip(loaded.weights, model.weights, strict=True):
        np.testing.assert_array_equal(array(actual), array(expected))


def test_an_autoencoder_that_does_not_fit_is_refused(model, small_model, autoencoder):
    with pytest.raises(ValueError, match=r"value_range=None.*Received.*\(-1.0, 1.0\)"):
        small_model().autoencoder = autoencoder
    with pytest.raises(ValueError, match="1 channels.*Received.*4 channels"):
        model.autoencoder = tiny_autoencoder(latent_channels=4)
    for wrong in ("stable_diffusion", types.SimpleNamespace(decode=None, latent_channels=1)):
        with pytest.raises(
            ValueError, match=r"keras_umd.latents.*Received: autoencoder=('stable_diffusion'|namespace)"
        ):
            model.autoencoder = wrong
    assert model.autoencoder is None
    small_model().autoencoder = None


@pytest.mark.parametrize("format", ["npz", "png"])
def test_generate_to_writes_decoded_images(model, autoencoder, tmp_path, format):
    if format == "png":
        image = pytest.importorskip("PIL.Image")
    model.autoencoder = autoencoder
    expected = model.generate([0, 1, 2], **ARGUMENTS)
    arguments = {"num_images": 3, "batch_size": 2, "format": format, "verbose": False, **ARGUMENTS}
    path = pathlib.Path(keras_umd.generate_to(model, tmp_path / "samples", **arguments))
    if format == "npz":
        assert path.name == "samples_3x16x16x3.npz"
        with np.load(path) as arrays:
            assert_same_images(arrays["arr_0"], expected)
    else:
        assert_same_images(np.stack([np.asarray(image.open(path / f"{i:06}.png")) for i in range(3)]), expected)
    manifest = json.loads((tmp_path / "samples" / "manifest.json").read_text())
    assert manifest["autoencoder"] == autoencoder.fingerprint()
    model.autoencoder = tiny_autoencoder(seed=1)
    with pytest.raises(ValueError, match="made otherwise.*'autoencoder'"):
        keras_umd.generate_to(model, tmp_path / "samples", **arguments)


def test_latents_are_no_png_files(model, tmp_path):
    with pytest.raises(ValueError, match="model.autoencoder.*Received: format='png'"):
        keras_umd.generate_to(model, tmp_path / "samples", num_images=1, format="png")
