"""Building blocks, each usable alone in any Keras model."""

from keras_umd.layers.block import Block
from keras_umd.layers.embeddings import LabelEmbedding, PositionEmbedding, TimestepEmbedding
from keras_umd.layers.masking import RandomMasking, restore, split_by_score, take_tokens
from keras_umd.layers.modulations import Modulations
from keras_umd.layers.norms import LayerNorm, RMSNorm
from keras_umd.layers.patches import PatchEmbedding, PatchHead, patchify, unpatchify
from keras_umd.layers.self_attention import SelfAttention
from keras_umd.layers.stack import BlockStack
from keras_umd.layers.timesteps import Timesteps
from keras_umd.layers.transformer import TransformerBlock

__all__ = [
    "Block",
    "BlockStack",
    "LabelEmbedding",
    "LayerNorm",
    "Modulations",
    "PatchEmbedding",
    "PatchHead",
    "PositionEmbedding",
    "RMSNorm",
    "RandomMasking",
    "SelfAttention",
    "TimestepEmbedding",
    "Timesteps",
    "TransformerBlock",
    "patchify",
    "restore",
    "split_by_score",
    "take_tokens",
    "unpatchify",
]
