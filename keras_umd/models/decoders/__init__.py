"""From tokens to predictions for each patch: which decoder a model has."""

from keras_umd.models.decoders.bottleneck import Bottleneck
from keras_umd.models.decoders.convolution import Convolution
from keras_umd.models.decoders.cross import Cross
from keras_umd.models.decoders.cross_self import CrossSelf
from keras_umd.models.decoders.decoder import Decoder
from keras_umd.models.decoders.kind import DecoderKind
from keras_umd.models.decoders.linear import Linear
from keras_umd.models.decoders.local_scale import LocalScale
from keras_umd.models.decoders.regressor import Regressor

__all__ = [
    "Bottleneck",
    "Convolution",
    "Cross",
    "CrossSelf",
    "Decoder",
    "DecoderKind",
    "Linear",
    "LocalScale",
    "Regressor",
]
