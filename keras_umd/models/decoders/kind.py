"""The setting that says which decoder a model has."""

from keras_umd.utils.configurable import Configurable


class DecoderKind(Configurable):
    """Which decoder a model has, with the settings that this one alone knows: `UMD(decoder=...)`.

    Sizes, conditioning and block are the model's. A subclass makes a layer, a `Decoder` or one that is called as it is.
    """

    def make(self, encoder_layers, *args, **settings):
        """The decoder of a model.

        Args:
            encoder_layers: Integer, the blocks of the encoder.
            *args, **settings: Those of `Decoder`.
        """
        raise NotImplementedError
