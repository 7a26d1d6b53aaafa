"""Autoencoders: what they compute, how they are fed, and Stable Diffusion's."""

import sys
import types

import keras
import numpy as np
import pytest
from keras import ops

from keras_umd.latents import Autoencoder, StableDiffusionAutoencoder
from keras_umd.latents.autoencoder import _import_stable_diffusion
from tests.conftest import array
from tests.latents.helpers import assert_same_images, decoded_by_hand, tiny_autoencoder

LATENTS = np.random.default_rng(1).normal(size=(10, 3, 4, 2)).astype("float32")


@pytest.fixture
def autoencoder():
    return tiny_autoencoder(latent_channels=2)


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (10, 6, 8, 3)).astype("uint8")


def test_encode_returns_scaled_mean_and_deviation(autoencoder, images):
    floats = (images / 127.5 - 1).astype("float32")
    kernel, bias = autoencoder.encoder.get_weights()  # (2, 2, 3, 4)
    moments = np.einsum("bhywxc,yxck->bhwk", floats.reshape(10, 3, 2, 4, 2, 3), kernel) + bias
    expected = 0.5 * moments[..., :2], 0.5 * np.exp(0.5 * moments[..., 2:])
    for batch in (images, floats, ops.convert_to_tensor(floats)):
        for actual, wanted in zip(autoencoder.encode(batch), expected, strict=True):
            assert keras.backend.standardize_dtype(actual.dtype) == "float32"
            np.testing.assert_allclose(array(actual), wanted, atol=1e-5)


@pytest.mark.parametrize(("log_variance", "expected"), [(100.0, np.exp(10)), (-100.0, np.exp(-15)), (2.0, np.exp(1))])
def test_the_log_variance_is_clipped_as_in_latent_diffusion(autoencoder, images, log_variance, expected):
    kernel, _ = autoencoder.encoder.get_weights()
    autoencoder.encoder.set_weights([np.zeros_like(kernel), np.array([0, 0, log_variance, log_variance])])
    np.testing.assert_allclose(array(autoencoder.encode(images)[1]), 0.5 * expected, rtol=1e-5)


def test_sample_draws_from_the_distribution(autoencoder):
    mean, std = np.full((1, 50, 50, 2), 3.0, "float32"), np.full((1, 50, 50, 2), 0.1, "float32")
    latents = array(autoencoder.sample(mean, std, seed=0))
    normal = (latents - mean) / std
    assert latents.dtype == np.float32
    assert abs(normal.mean()) < 0.06  # four standard errors of 5000 draws
    assert abs(normal.std() - 1) < 0.04
    np.testing.assert_array_equal(array(autoencoder.sample(mean, std, seed=0)), latents)
    assert np.all(array(autoencoder.sample(mean, std, seed=1)) != latents)
    np.testing.assert_array_equal(array(autoencoder.sample(mean, 0 * std)), mean)


def test_decode_undoes_the_scale_and_returns_uint8(autoencoder):
    expected = decoded_by_hand(autoencoder, LATENTS)
    assert expected.min() == 0
    assert expected.max() == 255
    for latents in (LATENTS, LATENTS.astype("float64"), ops.convert_to_tensor(LATENTS)):
        assert_same_images(autoencoder.decode(latents), expected)


def test_images_come_back_from_an_autoencoder_that_only_moves_pixels(images):
    autoencoder = tiny_autoencoder(latent_channels=12, scale=0.18215)
    pixels = np.eye(12).reshape(2, 2, 3, 12)
    autoencoder.encoder.set_weights([np.concatenate([pixels, 0 * pixels], axis=-1), np.zeros(24)])
    autoencoder.decoder.set_weights([pixels, np.zeros(3)])
    mean, std = autoencoder.encode(images)
    np.testing.assert_array_equal(autoencoder.decode(mean), images)
    np.testing.assert_allclose(array(std), 0.18215, rtol=1e-6)


def test_later_weights_are_used(autoencoder):
    before = autoencoder.decode(LATENTS)
    autoencoder.decoder.set_weights([-weight for weight in autoencoder.decoder.get_weights()])
    assert np.any(autoencoder.decode(LATENTS) != before)
    assert_same_images(autoencoder.decode(LATENTS), decoded_by_hand(autoencoder, LATENTS))


class Spy(keras.layers.Layer):
    """Notes the sizes of the batches that pass, or, where programs are compiled, those that are compiled."""

    def __init__(self):
        super().__init__()
        self.sizes = set()

    def call(self, x):
        self.sizes.add(x.shape[0])
        return x


def test_batches_of_one_size_cover_all_images(images):
    whole, spies = tiny_autoencoder(latent_channels=2), [Spy(), Spy()]
    encoder = keras.Sequential([keras.Input((6, 8, 3)), spies[0], whole.encoder])
    decoder = keras.Sequential([keras.Input((3, 4, 2)), spies[1], whole.decoder])
    autoencoder = Autoencoder(encoder, decoder, name="spied", scale=0.5, downsampling=2, latent_channels=2)
    for spy in spies:
        spy.sizes.clear()
    for batch_size in (4, 4):
        for actual, expected in zip(autoencoder.encode(images, batch_size), whole.encode(images), strict=True):
            np.testing.assert_allclose(array(actual), array(expected), atol=1e-5)
        assert_same_images(autoencoder.decode(LATENTS, batch_size), whole.decode(LATENTS))
    assert [spy.sizes for spy in spies] == [{4}, {4}]
    assert_same_images(autoencoder.decode(LATENTS[:3], batch_size=4), whole.decode(LATENTS)[:3])


@pytest.mark.host
def test_shapes_of_latents_and_images(autoencoder):
    assert autoencoder.latent_shape(8) == (4, 4, 2)
    assert autoencoder.latent_shape((6, 8)) == (3, 4, 2)
    assert autoencoder.image_shape((3, 4, 2)) == (6, 8, 3)


@pytest.mark.host
def test_the_fingerprint_tells_autoencoders_apart():
    changes = ({}, {"name": "other"}, {"scale": 0.6}, {"seed": 1})
    fingerprints = [tiny_autoencoder(**change).fingerprint() for change in changes]
    assert len(set(fingerprints)) == 4
    assert tiny_autoencoder().fingerprint() == fingerprints[0]


@pytest.mark.host
@pytest.mark.parametrize(
    ("method", "arguments", "message"),
    [
        ("encode", {"images": np.zeros((6, 8, 3), "uint8")}, r"batch axis.*Received.*\(6, 8, 3\)"),
        ("encode", {"images": np.zeros((1, 6, 8, 4), "uint8")}, r"3 channels.*Received.*\(1, 6, 8, 4\)"),
        ("encode", {"images": np.zeros((1, 6, 7, 3), "uint8")}, r"multiples of 2.*Received: image_size=\(6, 7\)"),
        ("encode", {"images": np.full((1, 6, 8, 3), 200.0)}, r"\(-1.0, 1.0\).*from 200 to 200"),
        ("encode", {"images": np.zeros((1, 6, 8, 3), "int32")}, "uint8 or float.*int32"),
        ("encode", {"images": np.zeros((0, 6, 8, 3), "uint8")}, r"at least one.*Received.*\(0, 6, 8, 3\)"),
        ("encode", {"images": np.zeros((1, 6, 8, 3), "uint8"), "batch_size": 0}, "batch_size=0"),
        ("decode", {"latents": np.zeros((1, 6, 8, 3), "float32")}, r"height, width, 2\).*Received.*\(1, 6, 8, 3\)"),
        ("decode", {"latents": np.zeros((1, 6, 8, 2), "uint8")}, "floats.*Received.*uint8"),
        ("decode", {"latents": np.full((1, 6, 8, 2), np.nan)}, "finite.*Received.*NaN"),
        ("latent_shape", {"image_size": 7}, "multiples of 2.*Received: image_size=7"),
        ("latent_shape", {"image_size": (8, 8, 3)}, r"Received: image_size=\(8, 8, 3\)"),
        ("latent_shape", {"image_size": 0}, "Received: image_size=0"),
    ],
)
def test_wrong_inputs_are_refused(autoencoder, method, arguments, message):
    with pytest.raises(ValueError, match=message):
        getattr(autoencoder, method)(**arguments)


@pytest.mark.host
def test_mean_and_deviation_of_other_shapes_are_refused(autoencoder):
    with pytest.raises(ValueError, match=r"mean of shape \(1, 2, 2, 1\), std of shape \(2, 2, 1\)"):
        autoencoder.sample(np.zeros((1, 2, 2, 1)), np.ones((2, 2, 1)))


@pytest.mark.host
@pytest.mark.parametrize("arguments", [{"scale": 0}, {"scale": np.inf}, {"downsampling": 0}, {"latent_channels": 1.5}])
def test_wrong_settings_are_refused(arguments):
    (name, value) = next(iter(arguments.items()))
    networks = tiny_autoencoder()
    with pytest.raises(ValueError, match=f"Received: {name}={value}"):
        Autoencoder(networks.encoder, networks.decoder, name="wrong", **arguments)


@pytest.mark.host
def test_an_encoder_of_another_size_is_refused(images):
    networks = tiny_autoencoder(latent_channels=2)
    wrong = Autoencoder(networks.encoder, networks.decoder, name="wrong", downsampling=1, latent_channels=2)
    with pytest.raises(ValueError, match=r"`downsampling`.*Received: latents of shape \(3, 4, 2\)"):
        wrong.encode(images)


# Stable Diffusion. The whole network is built and runs once, on an image of 32x32 pixels to bound the time.


@pytest.mark.host  # the networks of another package; how ours run is tested on every backend above
def test_stable_diffusions_autoencoder_is_that_of_keras_cv(monkeypatch):
    pytest.importorskip("keras_cv")
    stable_diffusion = _import_stable_diffusion()
    encoder = stable_diffusion.ImageEncoder(download_weights=False)
    decoder = stable_diffusion.Decoder(32, 32, download_weights=False)
    originals = types.SimpleNamespace(ImageEncoder=lambda **_: encoder, Decoder=lambda *_, **__: decoder)
    monkeypatch.setattr("keras_umd.latents.autoencoder._import_stable_diffusion", lambda: originals)
    autoencoder = StableDiffusionAutoencoder(weights=None)
    # The published size of AutoencoderKL.
    assert autoencoder.encoder.count_params() + autoencoder.decoder.count_params() == 83_653_863
    images = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3)).astype("uint8")
    mean, std = autoencoder.encode(images)
    assert array(mean).shape == array(std).shape == (1, *autoencoder.latent_shape(32))
    assert array(std).min() > 0
    # keras-cv's own encoder returns the scaled mean, its own decoder takes it.
    expected = encoder.predict_on_batch((images / 127.5 - 1).astype("float32"))
    np.testing.assert_allclose(array(mean), expected, atol=1e-4 * np.abs(expected).max())
    expected = decoder.predict_on_batch(expected)
    assert_same_images(autoencoder.decode(mean), np.clip(np.round((expected + 1) * 127.5), 0, 255).astype("uint8"))


class FewWeights:
    """In the place of keras-cv's module: networks of the same layout with few weights."""

    downloads = []

    @classmethod
    def ImageEncoder(cls, download_weights):
        cls.downloads.append(download_weights)
        layers = [keras.layers.Conv2D(8, 8, strides=8, name="convolution"), keras.layers.Lambda(lambda x: x[..., :4])]
        return keras.Sequential([keras.Input((None, None, 3)), *layers])

    @classmethod
    def Decoder(cls, height, width, download_weights):
        cls.downloads.append(download_weights)
        layers = [keras.layers.Rescaling(9.0), keras.layers.Conv2DTranspose(3, 8, strides=8, name="convolution")]
        return keras.Sequential([keras.Input((None, None, 4)), *layers])


@pytest.fixture
def few_weights(monkeypatch):
    monkeypatch.setattr("keras_umd.latents.autoencoder._import_stable_diffusion", lambda: FewWeights)
    monkeypatch.setattr(FewWeights, "downloads", [])
    return FewWeights


@pytest.mark.host
def test_stable_diffusions_weights_come_from_files(few_weights, tmp_path):
    networks = few_weights.ImageEncoder(False), few_weights.Decoder(256, 256, False)
    paths = tmp_path / "encoder.weights.h5", tmp_path / "decoder.weights.h5"
    for network, path in zip(networks, paths, strict=True):
        network.save_weights(path)
    autoencoder = StableDiffusionAutoencoder(paths)
    for network, loaded in zip(networks, (autoencoder.encoder, autoencoder.decoder), strict=True):
        for weight, expected in zip(loaded.get_weights(), network.get_weights(), strict=True):
            np.testing.assert_array_equal(weight, expected)
    assert StableDiffusionAutoencoder(None).fingerprint() != autoencoder.fingerprint()


def test_stable_diffusions_autoencoder_computes_in_float32(few_weights):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        autoencoder = StableDiffusionAutoencoder(None)
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
    finally:
        keras.config.set_dtype_policy("float32")
    networks = autoencoder.encoder, autoencoder.decoder
    assert {layer.compute_dtype for network in networks for layer in (network, *network.layers)} == {"float32"}


@pytest.mark.host
def test_stable_diffusions_weights_are_downloaded_by_keras_cv(few_weights):
    StableDiffusionAutoencoder()
    assert few_weights.downloads == [True, True]


@pytest.mark.host
@pytest.mark.parametrize("weights", ["imagenet", ("a.h5",), ("a.h5", "b.h5"), "encoder.h5", ("a.txt", "b.txt")])
def test_wrong_weights_are_refused(weights):
    with pytest.raises(ValueError, match="pair of paths.*Received: weights="):
        StableDiffusionAutoencoder(weights)


@pytest.mark.host
def test_without_keras_cv_the_extra_is_named(monkeypatch):
    for name in ("keras_cv", "keras_cv.models"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"keras_umd\[latents\]"):
        StableDiffusionAutoencoder(None)


@pytest.mark.host
def test_an_autoencoder_says_what_it_is():
    shown = repr(tiny_autoencoder(name="tiny", scale=0.5))
    assert shown.startswith("<Autoencoder: name='tiny', scale=0.5, downsampling=") and "latent_channels=" in shown
