"""Each layer stands alone: in functional models, in any precision, saved and loaded."""

import numpy as np
import pytest

from keras_umd.layers import (
    LabelEmbedding,
    PatchEmbedding,
    PatchHead,
    PositionEmbedding,
    RandomMasking,
    TimestepEmbedding,
    TransformerBlock,
)
from tests.layers.helpers import check_layer, check_saving

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(3, 8, 12, 2)).astype("float32")
TOKENS = RNG.normal(size=(3, 6, 16)).astype("float32")
CONDITION = RNG.normal(size=(3, 16)).astype("float32")
LAYERS = {
    "patch embedding": (PatchEmbedding, {"patch_size": (4, 2), "hidden_dim": 16}, (IMAGES,), (3, 12, 16)),
    "patch head": (PatchHead, {"patch_size": (4, 2), "channels": 3}, (TOKENS,), (3, 6, 24)),
    "modulated patch head": (
        PatchHead,
        {"patch_size": 2, "channels": 1, "conditioning": "adaln_zero"},
        (TOKENS, CONDITION),
        (3, 6, 4),
    ),
    "position embedding": (PositionEmbedding, {"grid": (2, 3)}, (TOKENS,), (3, 6, 16)),
    "timestep embedding": (TimestepEmbedding, {"hidden_dim": 16}, (np.array([0, 1, 1000]),), (3, 16)),
    "label embedding": (LabelEmbedding, {"num_classes": 5, "hidden_dim": 16}, (np.array([0, 4, 5]),), (3, 16)),
    "adaln block": (TransformerBlock, {"num_heads": 4}, (TOKENS, CONDITION), (3, 6, 16)),
    "token block": (TransformerBlock, {"num_heads": 4, "conditioning": "token"}, (TOKENS, CONDITION), (3, 6, 16)),
    "plain block": (TransformerBlock, {"num_heads": 4, "conditioning": None}, (TOKENS,), (3, 6, 16)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layer_works_alone(name, tmp_path):
    cls, config, inputs, output_shape = LAYERS[name]
    layer, outputs = check_layer(lambda **kwargs: cls(**config, **kwargs), *inputs)
    assert tuple(outputs.shape) == output_shape
    check_saving(layer, inputs, tmp_path / "layer.keras")


def test_random_masking_works_alone():
    layer, (tokens, visible, masked) = check_layer(
        lambda **kwargs: RandomMasking(0.5, seed=0, **kwargs), TOKENS, outputs_deterministic=False
    )
    assert (tuple(tokens.shape), tuple(visible.shape), tuple(masked.shape)) == ((3, 3, 16), (3, 3), (3, 3))
