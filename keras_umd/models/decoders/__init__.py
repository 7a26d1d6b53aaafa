"""From tokens to predictions for each patch."""

from keras_umd.models.decoders.bottleneck import Bottleneck, BottleneckDecoder
from keras_umd.models.decoders.convolution import Convolution, ConvolutionDecoder
from keras_umd.models.decoders.cross import Cross, CrossDecoder
from keras_umd.models.decoders.decoder import Decoder
from keras_umd.models.decoders.kind import DecoderKind
from keras_umd.models.decoders.linear import Linear, LinearDecoder

__all__ = [
    "Bottleneck",
    "BottleneckDecoder",
    "Convolution",
    "ConvolutionDecoder",
    "Cross",
    "CrossDecoder",
    "Decoder",
    "DecoderKind",
    "Linear",
    "LinearDecoder",
]
