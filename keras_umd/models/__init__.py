"""The UMD model, its parts and its named configurations."""

from keras_umd.models import decoders
from keras_umd.models.condition import ConditionEmbedding
from keras_umd.models.decoders.decoder import Decoder
from keras_umd.models.encoder import Encoder
from keras_umd.models.feature_extractor import FeatureExtractor
from keras_umd.models.teacher import Teacher
from keras_umd.models.umd import UMD

__all__ = ["ConditionEmbedding", "Decoder", "Encoder", "FeatureExtractor", "Teacher", "UMD", "decoders"]
