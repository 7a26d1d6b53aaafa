"""From tokens to predictions for each patch."""

from keras_umd.models.decoders.decoder import Decoder

__all__ = ["Decoder"]
