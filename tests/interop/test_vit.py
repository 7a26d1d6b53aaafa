"""Encoders and masked autoencoders give what the networks give whose weights they have, and go back to them."""

import keras
import numpy as np
import pytest

import keras_umd
from keras_umd import Corruption
from keras_umd.layers import Block
from keras_umd.weights import from_mae, from_vit, to_timm, to_transformers
from tests.conftest import array, assert_close, trained_like
from tests.interop import oracles

pytestmark = pytest.mark.interop
transformers = pytest.importorskip("transformers")
IMAGES = oracles.uint8_images()
NOISE = np.random.default_rng(3).uniform(size=(3, 16)).astype("float32")
TOLERANCE = 1e-5


@pytest.fixture(scope="module", params=[True, False], ids=["normalised", "plain"])
def mae(request):
    config = transformers.ViTMAEConfig(**oracles.MAE, norm_pix_loss=request.param)
    return oracles.randomized(transformers.ViTMAEForPreTraining(config))


def outputs_of_mae(network):
    import torch

    with torch.no_grad():
        return network(oracles.pixel_values(IMAGES), noise=torch.from_numpy(NOISE))


def outputs(model, images, noise):
    """The views, targets and outputs of a model, with the given uniform numbers for masks."""
    draws = model.corruption.draw(images.shape, model.patch_size, 0)
    x, y = model.make_views(images, draws={**draws, "mask_noise": keras.ops.convert_to_tensor(noise)})
    return x, y, model(x)


def test_the_loss_and_the_predictions_are_those_of_transformers(mae):
    model = from_mae(oracles.arrays_of(mae), num_heads=3, decoder_heads=4, normalize=mae.config.norm_pix_loss)
    expected = outputs_of_mae(mae)
    x, y, predicted = outputs(model, IMAGES, NOISE)
    assert_close(model.compute_loss(x, y, predicted), expected.loss.numpy(), TOLERANCE)
    ((name, view),) = x["views"].items()
    logits = np.take_along_axis(expected.logits.numpy(), array(view["masked"])[..., None].astype("int64"), axis=1)
    assert_close(predicted[name]["pixels"], logits, TOLERANCE)
    assert_close(predicted[name]["representation"], class_tokens(mae), TOLERANCE)


def class_tokens(network):
    """The class tokens behind the last norm."""
    import torch

    with torch.no_grad():
        return network.vit(oracles.pixel_values(IMAGES), noise=torch.from_numpy(NOISE)).last_hidden_state[:, 0].numpy()


def test_mae_goes_on_as_umd_from_the_same_loss(mae):
    """Its AdaLN begins as nothing; of the first half of the batch, which stays clean, the loss is MAE's."""
    settings = {"num_heads": 3, "decoder_heads": 4, "normalize": mae.config.norm_pix_loss}
    model = from_mae(oracles.arrays_of(mae), corruption=Corruption.umd(), num_classes=10, **settings)
    images, noise = np.repeat(IMAGES, 2, axis=0), np.repeat(NOISE, 2, axis=0)
    x, y, predicted = outputs(model, images, noise)
    losses = model.objective.image_losses(predicted, y)
    assert list(losses) == ["clean_pixels_loss", "noisy_x0_loss", "noisy_eps_loss"]
    expected = float(outputs_of_mae(mae).loss)
    assert abs(float(np.mean(array(losses["clean_pixels_loss"]))) - expected) <= 1e-6 * expected
    plain = from_mae(oracles.arrays_of(mae), **settings)
    assert_close(model.encode(IMAGES), array(plain.encode(IMAGES)), 1e-6)
    floats = IMAGES.astype("float32") / 127.5 - 1
    restored = [m.reconstruct(floats, mask_ratio=0.75, seed=0)["reconstruction"] for m in (model, plain)]
    assert_close(*restored, 1e-5)


def test_files_of_the_hub_have_other_names_than_the_models(mae, tmp_path):
    mae.save_pretrained(tmp_path)
    names = keras_umd.weights.read_weights(tmp_path / "model.safetensors")
    assert any("attention.attention.query" in name for name in names)
    settings = {"num_heads": 3, "decoder_heads": 4}
    models = []
    for source in (tmp_path / "model.safetensors", oracles.arrays_of(mae)):
        keras.utils.set_random_seed(0)  # for the head that MAE doesn't have
        models.append(from_mae(source, **settings))
    for own, other in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_array_equal(own, other)


ENCODERS = {
    "vit": ("ViT", {"intermediate_size": 96}, {}),
    "vit without biases": ("ViT", {"intermediate_size": 96, "qkv_bias": False}, {}),
    "vit with tanh": (
        "ViT",
        {"intermediate_size": 96, "hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-3},
        {"block": Block(mlp="gelu", epsilon=1e-3)},
    ),
    "deit": ("DeiT", {"intermediate_size": 96}, {}),
    "dinov2": ("Dinov2", {"mlp_ratio": 4}, {}),
    "dinov2 with registers": ("Dinov2WithRegisters", {"mlp_ratio": 4, "num_register_tokens": 2}, {}),
}


@pytest.mark.parametrize("kind", ENCODERS)
def test_encoders_of_transformers_have_their_tokens(kind, tmp_path):
    name, settings, arguments = ENCODERS[kind]
    config = getattr(transformers, f"{name}Config")(**oracles.VIT, **settings)
    network = oracles.randomized(getattr(transformers, f"{name}Model")(config))
    import torch

    with torch.no_grad():
        expected = network(oracles.pixel_values(IMAGES)).last_hidden_state.numpy()
    network.save_pretrained(tmp_path)
    for source in (tmp_path / "model.safetensors", oracles.arrays_of(network)):
        extractor = from_vit(source, standardized="imagenet", num_heads=3, pooling=None, **arguments)
        assert_close(extractor(IMAGES), expected[:, -16:], TOLERANCE)
        extractor = from_vit(source, standardized="imagenet", num_heads=3, **arguments)
        in_front = 2 if kind == "deit" else 1
        assert_close(extractor(IMAGES), expected[:, :in_front].mean(axis=1), TOLERANCE)
        floats = IMAGES.astype("float32") / 127.5 - 1
        assert_close(extractor(floats), expected[:, :in_front].mean(axis=1), TOLERANCE)


TIMM = {
    "vit": {},
    "LayerScale": {"init_values": 1e-5},
    "registers with places": {"reg_tokens": 3},
    "registers without places": {"reg_tokens": 3, "no_embed_class": True, "init_values": 1.0},
    "no class token": {"class_token": False, "global_pool": "avg", "fc_norm": False},
    "no biases": {"qkv_bias": False},
    "not square": {"img_size": (16, 24), "patch_size": (4, 8)},
}


@pytest.mark.parametrize("kind", TIMM)
def test_encoders_of_timm_have_its_features(kind):
    import torch

    network = oracles.vision_transformer(**TIMM[kind])
    height, width = TIMM[kind].get("img_size", (16, 16))
    images = oracles.uint8_images(size=width)[:, :height]
    with torch.no_grad():
        tokens = network.forward_features(oracles.pixel_values(images, 0.5, 0.5))
        expected = network.forward_head(tokens, pre_logits=True).numpy()
    shape = (height, width, 3) if height != width else None
    extractor = from_vit(oracles.arrays_of(network), standardized="half", num_heads=3, image_shape=shape)
    assert_close(extractor(images), expected, TOLERANCE)
    settings = {"num_heads": 3, "image_shape": shape, "pooling": None}
    as_it_comes = from_vit(oracles.arrays_of(network), standardized=None, **settings)
    floats = oracles.pixel_values(images, 0.5, 0.5).numpy().transpose(0, 2, 3, 1)
    assert_close(as_it_comes(floats), tokens.numpy()[:, network.num_prefix_tokens :], TOLERANCE)


OUT = {
    "the paper's": {},
    "labels": {"num_classes": 3},
    "no condition": {"conditioning": None, "block": Block(mlp="exact_gelu", layer_scale=0.1)},
    "registers, a bottleneck": {"block": Block(registers=2, bottleneck=5, layer_scale=0.1)},
    "no class token": {"num_cls_tokens": 0},
}


@pytest.mark.parametrize("kind", OUT)
def test_timm_has_the_features_of_what_it_gets(kind, tmp_path):
    import torch

    with oracles.without_torchvision():
        import timm
    model = trained_like(small_model(**OUT[kind]))
    known = {"half": (0.5, 0.5), "imagenet": (oracles.MEANS, oracles.DEVIATIONS)}
    for standardized, (means, deviations) in known.items():
        to_timm(model, tmp_path / standardized, standardized=standardized)
        network = timm.create_model(f"local-dir:{tmp_path / standardized}", pretrained=True).eval()
        np.testing.assert_allclose(network.pretrained_cfg["mean"], np.broadcast_to(means, 3))
        with torch.no_grad():
            features = network(oracles.pixel_values(IMAGES, means, deviations)).numpy()
        assert_close(model.encode(IMAGES), features, TOLERANCE)


@pytest.mark.parametrize("kind", ["the paper's", "labels", "no condition"])
def test_transformers_has_the_features_of_what_it_gets(kind, tmp_path):
    import torch

    model = trained_like(small_model(**OUT[kind]))
    to_transformers(model, tmp_path / "vit", standardized="imagenet")
    network = transformers.ViTModel.from_pretrained(tmp_path / "vit", add_pooling_layer=False).eval()
    with torch.no_grad():
        tokens = network(oracles.pixel_values(IMAGES)).last_hidden_state.numpy()
    assert_close(model.encode(IMAGES), tokens[:, 0], TOLERANCE)
    patches = model.feature_extractor(pooling=None)
    assert_close(patches(IMAGES), tokens[:, 1:], TOLERANCE)


def small_model(**settings):
    keras.utils.set_random_seed(0)
    sizes = {"patch_size": 4, "hidden_dim": 24, "num_layers": 2, "num_heads": 3, "decoder_layers": 1}
    return keras_umd.UMD((16, 16, 3), **sizes, **settings)
