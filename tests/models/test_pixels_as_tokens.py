"""Patches of one pixel: the presets of Nguyen et al., "An Image is Worth More Than 16x16 Patches", 2024."""

import math

import numpy as np
import pytest

import keras_umd
from keras_umd import UMD, Corruption, Objective
from keras_umd.objectives import Reconstruction, targets
from tests.conftest import array

SMALL = {"hidden_dim": 16, "num_layers": 1, "num_heads": 2, "decoder_layers": 1}


@pytest.mark.parametrize(
    ("preset", "shape"), [("mae_tiny_patch1_6", (6, 6, 3)), ("dit_tiny_patch1_latent6", (6, 6, 4))]
)
def test_a_model_of_pixels_trains(preset, shape):
    model = UMD.from_preset(preset, seed=0, **SMALL)
    model.compile("sgd")
    images = np.random.default_rng(0).uniform(-1, 1, (2, *shape)).astype("float32")
    before = [array(variable) for variable in model.trainable_variables]
    losses = model.train_on_batch(images, return_dict=True)
    assert math.isfinite(losses["loss"])
    changed = [(array(variable) != old).any() for variable, old in zip(model.trainable_variables, before, strict=True)]
    assert any(changed)
    assert model.feature_extractor(pooling=None)(images).shape == (2, 36, 16)  # a token for each pixel


@pytest.mark.host
def test_the_plan_counts_attention_among_pixels():
    """12 blocks see a quarter of the pixels, 4 all of them; beside them a class token, and keys of a condition's."""
    memory = keras_umd.plan(UMD.from_preset("mae_tiny_patch1_28"), batch_size=64).memory
    visible, pixels = 196, 28 * 28
    scores = 12 * (visible + 1) * (visible + 2) + 3 * (pixels + 1) * (pixels + 2)
    scores += (pixels - visible) * (pixels + 2)  # the last block computes what is masked
    assert memory.attention == 4 * 64 * 3 * scores  # bytes, images, heads
    assert memory.total > memory.attention + memory.activations


def model_of(target, image_shape, patch_size):
    objective = Objective([Reconstruction("clean", target)])
    return UMD(image_shape, patch_size, **SMALL, corruption=Corruption.mae(), objective=objective)


@pytest.mark.host
@pytest.mark.parametrize(
    ("target", "image_shape", "patch_size"),
    [
        (targets.Pixels(), (8, 8, 1), 1),  # always 0
        (targets.Pixels(), (8, 8, 3), 1),  # no brightness, and noise where a pixel is grey
        (targets.Pixels(), (16, 3), (1,)),
        (targets.Pixels(channels=13), (8, 8, 13), 1),  # always 0
        (targets.Cells(targets.Pixels(), "cell"), (8, 8, 3), 1),
    ],
)
def test_pixels_alone_cant_be_normalized(target, image_shape, patch_size):
    size = patch_size if isinstance(patch_size, tuple) else (patch_size,) * 2
    with pytest.raises(ValueError, match="one pixel can't be normalised.*normalize=True, patch_size") as error:
        model_of(target, image_shape, patch_size)
    assert f"patch_size={size}, channels={image_shape[-1]}" in str(error.value)


@pytest.mark.host
@pytest.mark.parametrize(
    ("target", "image_shape", "patch_size"),
    [
        (targets.Pixels(normalize=False), (8, 8, 3), 1),
        (targets.Pixels(), (8, 8, 13), 1),  # a spectrum
        (targets.Pixels(), (16, 64), (1,)),  # an embedding
        (targets.Pixels(), (8, 8, 3), (1, 2)),
        (targets.Pixels(channels=3), (8, 8, 3), (2, 1)),
        (targets.Cells(targets.Pixels(), "cell", unit=2), (8, 8, 3), 1),  # the cell is normalised
    ],
)
@pytest.mark.filterwarnings("ignore:`image_shape` is that of a sequence")
def test_patches_with_something_to_normalize_are_taken(target, image_shape, patch_size):
    assert target.name in model_of(target, image_shape, patch_size).objective.heads()
