"""Building blocks, each usable alone in any Keras model."""

from keras_umd.layers.embeddings import LabelEmbedding, PositionEmbedding, TimestepEmbedding
from keras_umd.layers.masking import RandomMasking, restore, split_by_score, take_tokens
from keras_umd.layers.patches import PatchEmbedding, PatchHead, patchify, unpatchify
from keras_umd.layers.stack import BlockStack
from keras_umd.layers.transformer import LayerNorm, Modulations, SelfAttention, TransformerBlock

__all__ = [
    "BlockStack",
    "LabelEmbedding",
    "LayerNorm",
    "Modulations",
    "PatchEmbedding",
    "PatchHead",
    "PositionEmbedding",
    "RandomMasking",
    "SelfAttention",
    "TimestepEmbedding",
    "TransformerBlock",
    "patchify",
    "restore",
    "split_by_score",
    "take_tokens",
    "unpatchify",
]
