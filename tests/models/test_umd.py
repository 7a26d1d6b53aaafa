"""What a user does with a model, besides fitting it."""

import numpy as np
import pytest
from keras import ops

import keras_umd
from keras_umd import UMD, Corruption
from tests.conftest import array


def trained_like(model):
    """Random weights in the places that start at zero, so that inputs reach the outputs."""
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign(array(variable) + 0.1 * rng.normal(size=variable.shape))
    return model


def test_encode_depends_on_timestep_label_and_noise(small_model, images):
    model = trained_like(small_model(num_classes=3))
    clean = array(model.encode(images))
    assert clean.shape == (24, 16)
    np.testing.assert_array_equal(clean, array(model.encode(images)))
    labelled = array(model.encode(images, labels=np.ones(24, "int32")))
    assert np.abs(clean - labelled).max() > 1e-3
    noised = array(model.encode(images, timesteps=50, seed=0))
    assert np.abs(clean - noised).max() > 1e-3
    np.testing.assert_array_equal(noised, array(model.encode(images, timesteps=50, seed=0)))
    assert np.any(noised != array(model.encode(images, timesteps=50, seed=1)))


def test_null_label_is_the_default(small_model, images):
    model = trained_like(small_model(num_classes=3))
    timesteps = ops.ones((1,), "int32")
    images = model.prepare_images(images)
    null = model.estimate(images, timesteps, ops.full((24,), 3, dtype="int32"))
    np.testing.assert_allclose(array(model.estimate(images, timesteps)["noise"]), array(null["noise"]), atol=1e-5)


def test_reconstruct_keeps_visible_patches_and_fills_the_others(small_model, images):
    model = trained_like(small_model())
    result = model.reconstruct(images, mask_ratio=0.75, seed=0)
    mask = np.broadcast_to(result["mask"], images.shape)
    assert mask.reshape(24, 4, 2, 4, 2).all(axis=(2, 4)).sum(axis=(1, 2)).tolist() == [12] * 24
    assert result["reconstruction"].dtype == images.dtype
    np.testing.assert_array_equal(result["reconstruction"][~mask], images[~mask])
    np.testing.assert_array_equal(result["masked"][~mask], images[~mask])
    assert np.all(result["masked"][mask] == 128)
    assert np.any(result["reconstruction"][mask] != 128)
    # The masked pixels are not seen: changing them changes nothing that is predicted.
    changed = np.where(mask, 255 - images, images)
    np.testing.assert_array_equal(
        model.reconstruct(changed, seed=0)["reconstruction"][mask], result["reconstruction"][mask]
    )
    floats = model.reconstruct(images / np.float32(127.5) - 1, mask_ratio=0.75, seed=0)
    assert floats["reconstruction"].dtype == np.float32
    np.testing.assert_allclose((floats["reconstruction"] + 1) * 127.5, result["reconstruction"], atol=0.51)


def test_generate_returns_uint8_images_that_follow_the_seed(small_model):
    model = trained_like(small_model(num_classes=3))
    arguments = {"labels": [0, 1, 2], "num_steps": 4}
    first = model.generate(**arguments, seed=0)
    assert first.shape == (3, 8, 8, 1)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, model.generate(**arguments, seed=0))
    assert np.any(first != model.generate(**arguments, seed=1))
    assert np.any(first != model.generate(**arguments, seed=0, eta=0.0))
    assert np.any(first != model.generate(**arguments, seed=0, guidance_scale=3.0))
    assert np.any(first != model.generate(labels=[1, 1, 1], num_steps=4, seed=0))
    assert model.generate(num_images=2, num_steps=1).shape == (2, 8, 8, 1)


def test_one_step_of_generation_is_the_x0_prediction(small_model):
    """At num_steps=1 the sample is the x_0 that the predicted noise implies at T."""
    model = trained_like(small_model(value_range=None))
    noise = np.random.default_rng(0).normal(size=(2, 8, 8, 1)).astype("float32")
    sample = model.generate(initial_noise=noise, num_steps=1, eta=0.0)
    schedule = model.corruption.noise_schedule
    predicted = array(model.estimate(ops.convert_to_tensor(noise), ops.full((1,), 1000, dtype="int32"))["noise"])
    alpha_bar = schedule.alpha_bar[1000]
    expected = (noise - np.sqrt(1 - alpha_bar) * predicted) / np.sqrt(alpha_bar)
    np.testing.assert_allclose(sample, expected, rtol=1e-3)


def test_guidance_is_the_authors_combination(small_model):
    """With one step and no clipping a guided sample is linear in the scale."""
    model = trained_like(small_model(num_classes=3, value_range=None, corruption=Corruption(schedule="linear")))
    noise = np.random.default_rng(0).normal(size=(2, 8, 8, 1)).astype("float32")
    arguments = {"labels": [0, 2], "initial_noise": noise, "num_steps": 1, "eta": 0.0}
    null, label, guided = (model.generate(**arguments, guidance_scale=scale) for scale in (0.0, 1.0, 3.0))
    np.testing.assert_allclose(guided, null + 3.0 * (label - null), rtol=1e-3, atol=1e-3)


def test_generate_uses_the_averaged_weights_once_there_are_some(small_model):
    model = trained_like(small_model())
    arguments = {"num_images": 2, "num_steps": 2, "seed": 0}
    raw = model.generate(**arguments)
    model.track_average(0.5)
    np.testing.assert_array_equal(model.generate(**arguments), raw)  # no update yet
    model.averages[0].update()
    for variable in model.trainable_variables:
        variable.assign(array(variable) * 0.5)
    np.testing.assert_array_equal(model.generate(**arguments), raw)
    assert np.any(array(model.encode(np.zeros((1, 8, 8, 1), "uint8"))) != 0)


def test_with_classes_copies_the_weights_and_leaves_the_model(small_model, images):
    model = trained_like(small_model())
    model.track_average(0.9)
    before = model.get_weights()
    conditional = model.with_classes(5)
    assert (conditional.num_classes, conditional.label_dropout) == (5, 0.1)
    assert conditional.corruption.get_config() == {
        **model.corruption.get_config(),
        "clean_ratio": 0.05,
        "noisy_mask_ratio": 0.0,
    }
    assert conditional.averages == []
    for name in ("encoder", "decoder"):
        for own, copy in zip(getattr(model, name).weights, getattr(conditional, name).weights, strict=True):
            np.testing.assert_array_equal(array(own), array(copy))
            assert own is not copy
    for variable in conditional.trainable_variables:
        variable.assign(array(variable) + 1)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    again = conditional.with_classes(2)
    assert again.condition_embedding.label_embedding.table.shape == (3, 16)


def test_rectangular_images_patches_and_any_channels(small_model):
    model = small_model(image_shape=(8, 12, 5), patch_size=(4, 2), value_range=None)
    assert model.grid == (2, 6)
    assert model.encode(np.zeros((2, 8, 12, 5), "float32")).shape == (2, 16)
    assert model.generate(num_images=2, num_steps=2).shape == (2, 8, 12, 5)
    assert model.reconstruct(np.zeros((2, 8, 12, 5), "float32"))["mask"].shape == (2, 8, 12, 1)


@pytest.mark.parametrize("labels", [None, 1000])
@pytest.mark.parametrize(("name", "preset"), [("S/4", "umd_small_patch4_64"), ("B/4", "umd_base_patch4_64")])
def test_presets_have_the_authors_parameter_counts(name, preset, labels):
    import json

    from tests.conftest import GOLDEN

    counts = json.loads((GOLDEN / "param_counts.json").read_text())
    key = f"{name},channels=3,img=64,adaln=True,num_classes={labels},num_cls=4"
    model = UMD.from_preset(preset, num_classes=labels, num_cls_tokens=4)
    assert sum(int(np.prod(v.shape)) for v in model.trainable_variables) == counts[key]["total"]


def test_presets_of_each_method_and_of_latents(monkeypatch):
    from keras_umd.models.presets import preset_config

    assert preset_config("mae_tiny_patch8_64")["conditioning"] == "token"
    assert preset_config("mae_tiny_patch8_64")["corruption"].get_config() == Corruption.mae().get_config()
    assert preset_config("dit_small_patch4_32")["corruption"].get_config() == Corruption.dit().get_config()
    latent = preset_config("umd_large_patch2_latent32")
    assert latent["image_shape"] == (32, 32, 4)
    assert latent["value_range"] is None
    assert latent["corruption"].get_config()["schedule"] == "linear"
    assert (latent["hidden_dim"], latent["num_layers"], latent["decoder_layers"]) == (1024, 24, 8)
    model = UMD.from_preset("maskdit_tiny_patch4_16", num_layers=1)
    assert (model.hidden_dim, model.encoder.num_layers, model.decoder.num_layers) == (192, 1, 4)


def test_public_names():
    for name in ("UMD", "Corruption", "samplers", "guidance", "recipes", "callbacks", "checkpoints", "evaluation"):
        assert hasattr(keras_umd, name)
