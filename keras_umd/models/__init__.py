"""The UMD model, its parts and its named configurations."""

from keras_umd.models.feature_extractor import FeatureExtractor
from keras_umd.models.network import ConditionEmbedding, Decoder, Encoder
from keras_umd.models.umd import UMD
