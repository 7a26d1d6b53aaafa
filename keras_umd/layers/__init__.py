"""Building blocks, each usable alone in any Keras model."""

from keras_umd.layers.embeddings import LabelEmbedding, PositionEmbedding, TimestepEmbedding
from keras_umd.layers.masking import RandomMasking, random_split, restore, take_tokens
from keras_umd.layers.patches import PatchEmbedding, PatchHead, patchify, unpatchify
from keras_umd.layers.transformer import TransformerBlock
