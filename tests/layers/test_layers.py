"""Each layer stands alone: in functional models, in any precision, saved and loaded."""

import keras
import numpy as np
import pytest

from keras_umd.layers import (
    BlockStack,
    LabelEmbedding,
    LayerNorm,
    PatchEmbedding,
    PatchHead,
    PositionEmbedding,
    RandomMasking,
    SelfAttention,
    TimestepEmbedding,
    TransformerBlock,
)
from keras_umd.models.decoders import Decoder
from keras_umd.models.encoder import Encoder
from tests.conftest import array
from tests.layers.helpers import check_layer, check_saving

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(3, 8, 12, 2)).astype("float32")
TOKENS = RNG.normal(size=(3, 6, 16)).astype("float32")
CONDITION = RNG.normal(size=(3, 16)).astype("float32")
SIZES = {"num_layers": 2, "num_heads": 2}
DECODER = {"patch_size": (4, 2), "grid": (2, 3), "channels": 2, "pixel_predictions": ("first", "second"), **SIZES}
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
    "norm": (LayerNorm, {}, (TOKENS,), (3, 6, 16)),
    "attention": (SelfAttention, {"num_heads": 4}, (TOKENS,), (3, 6, 16)),
    "stack": (BlockStack, SIZES, (TOKENS, CONDITION), (3, 6, 16)),
    "encoder": (
        Encoder,
        {"patch_size": (4, 2), "hidden_dim": 16, **SIZES},
        (IMAGES, CONDITION),
        ((3, 16), (3, 12, 16)),
    ),
    "decoder": (
        Decoder,
        DECODER,
        (CONDITION, TOKENS, CONDITION),
        {"first": (3, 6, 16), "second": (3, 6, 16)},
    ),
}


# Where programs are compiled, what is a part of the encoder and of an "adaln block" isn't compiled again.
PARTS = ("token block", "plain block", "stack")


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.host] * (name in PARTS)) for name in LAYERS])
def test_layer_works_alone(name, tmp_path):
    cls, config, inputs, output_shape = LAYERS[name]
    layer, outputs = check_layer(lambda **kwargs: cls(**config, **kwargs), *inputs)
    assert keras.tree.map_structure(lambda x: tuple(x.shape), outputs) == output_shape
    check_saving(layer, inputs, tmp_path / "layer.keras")


def test_random_masking_works_alone():
    layer, (tokens, visible, masked) = check_layer(
        lambda **kwargs: RandomMasking(0.5, seed=0, **kwargs), TOKENS, outputs_deterministic=False
    )
    assert (tuple(tokens.shape), tuple(visible.shape), tuple(masked.shape)) == ((3, 3, 16), (3, 3), (3, 3))


def test_what_is_asked_for_counts_in_functional_models_too():
    """Arguments that are no tensors, of which Keras tells `compute_output_shape` nothing."""
    tokens, condition = keras.Input((6, 16)), keras.Input((16,))
    block, stack = TransformerBlock(4), BlockStack(2, 4)
    head = PatchHead((4, 2), 3)
    assert block(tokens, condition, num_outputs=2).shape == (None, 2, 16)
    last, (first,) = stack(tokens, condition, num_outputs=2, collect=(1,))
    assert (last.shape, first.shape) == ((None, 2, 16), (None, 6, 16))
    assert head(tokens, channel_range=(0, 1)).shape == (None, 6, 8)
    masked = RandomMasking(0.5)(tokens)
    assert [keras.backend.standardize_dtype(x.dtype) for x in masked] == ["float32", "int32", "int32"]
    model = keras.Model([tokens, condition], stack(tokens, condition, num_outputs=2, collect=(1,)))
    last, (first,) = model.predict([TOKENS, CONDITION], verbose=0)
    np.testing.assert_allclose(first, array(stack[0](TOKENS, CONDITION)), atol=1e-5)
    assert last.shape == (3, 2, 16)
