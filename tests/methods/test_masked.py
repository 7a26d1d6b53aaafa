"""The masked methods: their settings, their list, their pictures, and a step of each."""

import keras
import numpy as np
import pytest

import keras_umd
from keras_umd import UMD, methods, plots
from keras_umd.corruption import masks
from keras_umd.models.presets import preset_config

pytestmark = pytest.mark.host
SMALL = {"hidden_dim": 48, "num_layers": 1, "num_heads": 2, "decoder_layers": 1}
MASKED = {
    "maskfeat": (
        {"image_shape": (16, 16, 3), "patch_size": 8},
        "InPlace(mask=Block(ratio=0.4, min_patches=15, aspect=(0.3, 3.3333333333333335), attempts=40))",
    ),
    "simmim": ({"image_shape": (16, 16, 3), "patch_size": 4}, "InPlace(mask=Random(ratio=0.6))"),
    "adamae": ({"image_shape": (4, 16, 16, 3), "patch_size": (1, 4, 4)}, "Adaptive(ratio=0.95, floor=0.1)"),
    "videomae_v2": (
        {"image_shape": (4, 16, 16, 3), "patch_size": (2, 4, 4)},
        "Shared(mask=Random(ratio=0.9), axes=0)",
    ),
    "usp": ({"image_shape": (16, 16, 4), "patch_size": 4, "value_range": (-1, 1)}, "Random(ratio=0.75)"),
    "attmask": (
        {"image_shape": (16, 16, 3), "patch_size": 4},
        "Attention(ratio=0.75, mode='hint', show=0.1, probability=0.5)",
    ),
    "hpm": (
        {"image_shape": (16, 16, 3), "patch_size": 4},
        "HardPatches(ratio=0.75, share=(0.0, 0.5), steps=5000)",
    ),
    "cae": (
        {"image_shape": (16, 16, 3), "patch_size": 2},
        "Block(ratio=0.5, min_patches=16, aspect=(0.3, 3.3333333333333335), attempts=40)",
    ),
    "cropmae": ({"image_shape": (24, 24, 3), "patch_size": 2}, "Random(ratio=0.985)"),
    "localmim": ({"image_shape": (32, 32, 3), "patch_size": 16, "num_layers": 4}, "Random(ratio=0.75)"),
    "crossmae": ({"image_shape": (16, 16, 3), "patch_size": 4}, "Random(ratio=0.75)"),
    "colormae": (
        {"image_shape": (16, 16, 3), "patch_size": 4},
        "ColorNoise(color='green', ratio=0.75, std=(0.5, 2.0))",
    ),
    "pixio": ({"image_shape": (32, 32, 3), "patch_size": 4}, "Coarse(mask=Random(ratio=0.75), unit=4)"),
    "video_mae_random": ({"image_shape": (4, 8, 16, 3), "patch_size": (2, 4, 4)}, "Random(ratio=0.9)"),
    "videomae": ({"image_shape": (4, 16, 16, 3), "patch_size": (2, 4, 4)}, "Shared(mask=Random(ratio=0.9), axes=0)"),
    "fgmae": ({"image_shape": (16, 16, 13), "patch_size": 8}, "Random(ratio=0.7)"),
}


@pytest.mark.parametrize("name", MASKED)
def test_a_method_is_its_settings_and_trains(name):
    sizes, mask = MASKED[name]
    function = getattr(methods, name)
    (view,) = function()["corruption"].views
    assert repr(view.mask) == mask and view.noise is None
    keras.utils.set_random_seed(0)
    model = UMD.from_preset(function.preset, **{**SMALL, **sizes})
    model.compile("sgd", run_eagerly=True)
    images = np.random.default_rng(0).integers(0, 256, (2, *sizes["image_shape"])).astype("uint8")
    losses = model.fit(images, batch_size=2, verbose=0).history
    assert np.isfinite(losses["loss"][0])
    assert set(losses) == {"loss", *model.objective.loss_names}
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(model.objective))
    assert again.loss_names == model.objective.loss_names


def test_settings_of_a_methods_corruption_pass_through():
    config = preset_config("colormae_base_patch2_latent32", UMD.presets)
    assert config["corruption"].get_config()["schedule"] == "linear"


def test_all_methods_are_listed():
    listed = {method.name: method for method in methods.list()}
    assert set(listed) == set(UMD.presets) >= {"umd", "mae", *MASKED}
    for name, method in listed.items():
        assert method.paper and method.summary.endswith(".")
        assert preset_config(method.preset, UMD.presets)["image_shape"] and method.preset.startswith(f"{name}_")


def test_a_picture_shows_what_a_method_hides():
    picture = plots.masks(methods.umd, grid=(4, 6), num_images=3, scale=1)
    assert picture.shape == (2 * 5 + 1, 3 * 7 + 1, 3)  # two views, with lines between images
    cells = [picture[r : r + 4, c : c + 6, 0] for r in (1, 6) for c in (1, 8, 15)]
    assert [np.sum(cell == 225) for cell in cells] == [6, 6, 6, 15, 15, 15]
    tubes = plots.masks(masks.Shared(masks.Random(0.5)), grid=(3, 2, 4), num_images=2, scale=1)
    frames = [tubes[1:3, c : c + 4, 0] for c in (1, 6, 11)]
    assert np.array_equal(frames[0], frames[1]) and np.array_equal(frames[1], frames[2])
    disjoint = plots.masks(methods.dmjd, grid=(4, 4), num_images=1, scale=1)
    seen = [disjoint[r : r + 4, 1:5, 0] == 225 for r in (1, 6)]
    assert np.any(seen[0]) and not np.any(seen[0] & seen[1])  # the second look hides what the first saw
    assert plots.masks(masks.Random(0.5), grid=(8,), num_images=1, scale=1).shape == (3, 10, 3)
    filled = plots.masks(methods.a2mim, grid=(4, 4), num_images=1, scale=1)[1:5, 1:5, 0] == 225
    assert filled.sum() == 6  # of cells of 2 x 2, one in part
    for nothing in (keras_umd.Corruption.dit(), methods.mfm):
        with pytest.raises(ValueError, match="masks nothing"):
            plots.masks(nothing)
    with pytest.raises(ValueError, match="`method` must be a mask.*method='mae'"):
        plots.masks("mae")
