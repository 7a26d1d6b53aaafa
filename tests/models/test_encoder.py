"""The encoder shows the tokens of its inner blocks."""

import numpy as np
import pytest

from keras_umd.models.encoder import Encoder
from tests.conftest import array, trained_like

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(2, 4, 6, 1)).astype("float32")
CONDITION = RNG.normal(size=(2, 8)).astype("float32")
VISIBLE = np.array([[5, 0, 3], [1, 4, 0]])


def encoder(num_layers, **how):
    layer = Encoder(2, 8, num_layers, 2, num_cls_tokens=2, **how)
    layer.build((None, 4, 6, 1))
    return layer


def test_without_class_tokens_the_representation_is_the_mean_of_the_patches():
    layer = Encoder(2, 8, 2, 2, num_cls_tokens=0)
    layer.build((None, 4, 6, 1))
    representation, tokens = trained_like(layer)(IMAGES, condition=CONDITION, visible=VISIBLE, for_decoder=True)
    assert tokens.shape == (2, 3, 8)
    np.testing.assert_allclose(array(representation), array(tokens).mean(axis=1), atol=1e-6)
    assert not [v for v in layer.weights if "cls" in v.path]


@pytest.mark.parametrize("scan_blocks", [False, True])
@pytest.mark.parametrize("visible", [None, VISIBLE])
def test_collected_outputs_are_those_of_encoders_that_end_there(visible, scan_blocks):
    whole = trained_like(encoder(3, scan_blocks=scan_blocks))
    representation, tokens, collected = whole(IMAGES, condition=CONDITION, visible=visible, collect=(3, 1))
    expected = whole(IMAGES, condition=CONDITION, visible=visible)
    for pair in ((representation, tokens), collected[0]):
        for actual, value in zip(pair, expected, strict=True):
            np.testing.assert_allclose(array(actual), array(value), atol=1e-5)
    shorter = whole(IMAGES, condition=CONDITION, visible=visible, depth=1)
    for actual, value in zip(collected[1], shorter, strict=True):
        np.testing.assert_allclose(array(actual), array(value), atol=1e-6)
    assert tuple(collected[1][1].shape) == (2, 6 if visible is None else 3, 8)

    ends = encoder(1)
    for part in ("patch_embedding", "position_embedding", "norm"):
        getattr(ends, part).set_weights(getattr(whole, part).get_weights())
    ends.cls_tokens.assign(whole.cls_tokens)
    ends.blocks[0].set_weights(whole.blocks[0].get_weights())
    _, tokens = ends(IMAGES, condition=CONDITION, visible=visible)
    np.testing.assert_allclose(array(whole.norm(collected[1][1])), array(tokens), atol=1e-5)


def test_how_the_blocks_run_is_set_at_the_stack():
    layer = encoder(2)
    layer.blocks.remat = layer.blocks.scan_blocks = True
    assert layer.remat and layer.scan_blocks
    assert Encoder.from_config(layer.get_config()).blocks.remat
    with pytest.raises(AttributeError):
        layer.remat = False
