"""The setting that says which decoder a model has."""

from keras_umd.utils.configurable import Configurable


class DecoderKind(Configurable):
    """Which decoder a model has, with the settings that this one alone knows: `UMD(decoder=...)`.

    Sizes, conditioning and block are the model's. A subclass makes a layer, a `Decoder` or one that is called as it is.

    Example:

    >>> @keras.saving.register_keras_serializable("mine")
    ... class Mine(decoders.DecoderKind):
    ...     def make(self, encoder_layers, *args, **settings):
    ...         return keras_umd.models.Decoder(*args, **settings)
    >>> model = UMD((8, 8, 1), 2, hidden_dim=32, num_layers=1, num_heads=2, decoder=Mine())
    """

    can_denoise = True  # whether it predicts all patches of noisy images, as fine-tuning for generation wants
    takes_noise = False  # whether what it makes takes `noisy_images`, as a `Decoder` with `has_noise_embedding` does

    def make(self, encoder_layers, *args, **settings):
        """The decoder of a model.

        Args:
            encoder_layers: Integer, the blocks of the encoder.
            *args, **settings: Those of `Decoder`.
        """
        raise NotImplementedError
