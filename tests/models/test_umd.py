"""What a user does with a model, besides fitting it."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_umd
from keras_umd import UMD, Corruption, Objective
from keras_umd.objectives import Reconstruction
from keras_umd.objectives.targets import X0, Pixels, Target
from tests.conftest import QUICK, array, trained_like

pytestmark = pytest.mark.usefixtures("op_by_op")


class Brightness(Target):
    """As wide as one number, under the name of another target."""

    name = "pixels"

    def num_values(self, patch_dim):
        return 1


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


@pytest.mark.host
def test_null_label_is_the_default(small_model, images):
    model = trained_like(small_model(num_classes=3))
    timesteps = ops.ones((1,), "int32")
    images = model.prepare_images(images)
    null = model.estimate(images, timesteps, ops.full((24,), 3, dtype="int32"))
    np.testing.assert_allclose(array(model.estimate(images, timesteps)["eps"]), array(null["eps"]), atol=1e-5)


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


@pytest.mark.host
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


def test_with_classes_freezes_what_it_is_told(small_model, images, labels, tmp_path):
    model = trained_like(small_model()).with_classes(3, freeze=["encoder"])
    model.decoder.blocks[0].attention.trainable = False
    model.compile("sgd", **QUICK)
    before = [array(v) for v in model.encoder.weights + model.decoder.blocks[0].attention.weights]
    model.fit(images[:8], labels[:8], batch_size=8, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    loaded.fit(images[:8], labels[:8], batch_size=8, verbose=0)
    for m in (model, loaded):
        after = [array(v) for v in m.encoder.weights + m.decoder.blocks[0].attention.weights]
        for old, new in zip(before, after, strict=True):
            np.testing.assert_array_equal(old, new)
    assert np.any(array(loaded.decoder.head.bias) != array(model.decoder.head.bias))
    with pytest.raises(ValueError, match="freeze=\\['head'\\]"):
        model.with_classes(3, freeze=["head"])


@pytest.mark.host
def test_with_classes_warns_of_a_head_of_another_width(small_model):
    model = small_model(objective=Objective([Reconstruction("clean", Brightness())]))
    with pytest.warns(UserWarning, match="no place for these weights.*pixels_head/bias.*pixels_head/kernel"):
        model.with_classes(3, objective=Objective([Reconstruction("clean", Pixels())]))


def test_reconstruct_reads_what_clean_images_have_trained(small_model, images):
    model = small_model(objective=Objective([Reconstruction("noisy", Pixels()), Reconstruction("clean", X0())]))
    expected = model.reconstruct(images, seed=0)["reconstruction"]
    kernel = model.decoder.heads["pixels"].kernel
    kernel.assign(array(kernel) + 1)
    np.testing.assert_array_equal(model.reconstruct(images, seed=0)["reconstruction"], expected)


@pytest.mark.host
def test_with_classes_of_none_is_fine_tuned_without_labels(small_model, images):
    model = trained_like(small_model()).with_classes(None)
    assert model.num_classes is None
    assert model.corruption.get_config()["noisy_mask_ratio"] == 0
    assert small_model(conditioning=None).with_classes(None).condition_embedding is None


@pytest.mark.host
def test_rectangular_images_patches_and_any_channels(small_model):
    model = small_model(image_shape=(8, 12, 5), patch_size=(4, 2), value_range=None)
    assert model.grid == (2, 6)
    assert model.encode(np.zeros((2, 8, 12, 5), "float32")).shape == (2, 16)
    assert model.generate(num_images=2, num_steps=2).shape == (2, 8, 12, 5)
    assert model.reconstruct(np.zeros((2, 8, 12, 5), "float32"))["mask"].shape == (2, 8, 12, 1)


@pytest.mark.host
@pytest.mark.parametrize("labels", [None, 1000])
@pytest.mark.parametrize(("name", "preset"), [("S/4", "umd_small_patch4_64"), ("B/4", "umd_base_patch4_64")])
def test_presets_have_the_authors_parameter_counts(name, preset, labels):
    import json

    from tests.conftest import GOLDEN

    counts = json.loads((GOLDEN / "param_counts.json").read_text())
    key = f"{name},channels=3,img=64,adaln=True,num_classes={labels},num_cls=4"
    model = UMD.from_preset(preset, num_classes=labels, num_cls_tokens=4)
    assert sum(int(np.prod(v.shape)) for v in model.trainable_variables) == counts[key]["total"]


@pytest.mark.host
def test_presets_of_each_method_and_of_latents(monkeypatch):
    from keras_umd.models.presets import preset_config

    assert preset_config("mae_tiny_patch8_64", UMD.presets)["conditioning"] == "token"
    assert preset_config("mae_tiny_patch8_64", UMD.presets)["corruption"].get_config() == Corruption.mae().get_config()
    assert preset_config("dit_small_patch4_32", UMD.presets)["corruption"].get_config() == Corruption.dit().get_config()
    latent = preset_config("umd_large_patch2_latent32", UMD.presets)
    assert latent["image_shape"] == (32, 32, 4)
    assert latent["value_range"] is None
    assert latent["corruption"].get_config()["schedule"] == "linear"
    assert (latent["hidden_dim"], latent["num_layers"], latent["decoder_layers"]) == (1024, 24, 8)
    model = UMD.from_preset("maskdit_tiny_patch4_16", num_layers=1)
    assert (model.hidden_dim, model.encoder.num_layers, model.decoder.num_layers) == (192, 1, 4)
    for name, prediction in (("sit", "v"), ("jit", "x0")):  # one head, and the path of the method whatever the data
        model = UMD.from_preset(f"{name}_tiny_patch4_latent8", num_layers=1, decoder_layers=1)
        assert type(model.corruption.noise_schedule).__name__ == "RectifiedFlow"
        assert model.decoder.pixel_predictions == model.prediction().names == (prediction,)


@pytest.mark.host
def test_public_names():
    for name in ("UMD", "Corruption", "samplers", "guidance", "recipes", "callbacks", "weights", "evaluation"):
        assert hasattr(keras_umd, name)
