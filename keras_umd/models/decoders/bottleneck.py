"""The decoder that knows an image by a few numbers."""

import keras
from keras import ops

from keras_umd.layers.modulations import Modulations
from keras_umd.layers.norms import LayerNorm
from keras_umd.layers.rotary import take_positions
from keras_umd.models.decoders.decoder import Decoder
from keras_umd.models.decoders.kind import DecoderKind
from keras_umd.models.decoders.tokens import num_outputs_of
from keras_umd.models.encoder import pooled
from keras_umd.utils.checks import check_integers, require


@keras.saving.register_keras_serializable("keras_umd")
class Bottleneck(DecoderKind):
    """The representation modulates the decoder, which gets nothing else of the image (SODA; Hudson et al., 2023).

    `dim` numbers of the representation are added to the condition; each patch is a mask token with its position. So
    what the image is must be in the representation. It needs conditioning "adaln_zero" or "token".

    SODA's decoder sees a noisy image of its own, another view; this one sees none, and can't tell noise.

    Example:

    >>> sizes = {"hidden_dim": 32, "num_layers": 2, "num_heads": 2, "decoder_layers": 1}
    >>> model = UMD((8, 8, 1), 2, **sizes, corruption=Corruption.mae(), decoder=decoders.Bottleneck(16))

    Args:
        dim: Integer, the width of the bottleneck.
    """

    def __init__(self, dim=128):
        check_integers(1, 1_000_000, dim=dim)
        self.dim = dim

    def make(self, encoder_layers, *args, **settings):
        return BottleneckDecoder(*args, **settings, dim=self.dim)


@keras.saving.register_keras_serializable("keras_umd")
class BottleneckDecoder(Decoder):
    """The layer that `Bottleneck` makes; `dim` as there, and others as of `Decoder`."""

    takes_rows = False
    hands_over_tokens = False
    needs_condition = True

    def __init__(self, *args, dim=128, **settings):
        self.dim = dim
        super().__init__(*args, **settings)
        require(
            self.conditioning is not None,
            "A bottleneck is added to the condition: it needs conditioning 'adaln_zero' or 'token'.",
            conditioning=self.conditioning,
        )

    def _build_inputs(self, encoder_dim, hidden_dim):
        if hidden_dim != encoder_dim and self.conditioning == "token":
            self.condition_projection = self._dense(encoder_dim, hidden_dim, "condition_projection")
        self.bottleneck_norm = LayerNorm(dtype=self.dtype_policy, name="bottleneck_norm")
        self.bottleneck_norm.build((None, encoder_dim))
        self.squeeze = self._dense(encoder_dim, self.dim, "squeeze")
        self.widen = self._dense(self.dim, encoder_dim, "widen")

    def settle(self, objective, corruption):
        super().settle(objective, corruption)
        self.mask_token.trainable = True

    def _self_conditioned(self, condition, representation):
        require(
            condition is not None and not isinstance(condition, Modulations),
            "A decoder with a bottleneck needs the `condition` itself.",
            type(condition).__name__,
        )
        code = self.squeeze(self.bottleneck_norm(pooled(representation)))
        return super()._self_conditioned(condition, representation) + self.widen(code)

    def _decoded(self, representation, tokens, condition, visible, masked, read):
        order = None if masked is None else ops.concatenate([visible, masked], axis=1)
        shape = (ops.shape(tokens)[0], tokens.shape[1] + (0 if masked is None else masked.shape[1]))
        positions = take_positions(self.places, order) if self.block.rope else None
        return self.blocks(
            self.position_embedding(self._mask_tokens(shape), indices=order),
            condition=condition,
            num_outputs=num_outputs_of(tokens, masked, read),
            positions=positions,
        )

    def get_config(self):
        return {**super().get_config(), "dim": self.dim}
