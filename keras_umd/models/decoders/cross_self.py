"""The decoder that looks at another image of the same, too."""

import keras

from keras_umd.layers.cross_attention import CrossAttention, CrossStack
from keras_umd.layers.norms import make_norm
from keras_umd.layers.transformer import TransformerBlock
from keras_umd.models.decoders.cross import block_of_cross_attention, make_stack
from keras_umd.models.decoders.decoder import Decoder
from keras_umd.models.decoders.kind import DecoderKind
from keras_umd.models.decoders.tokens import behind_cls_tokens, num_outputs_of


@keras.saving.register_keras_serializable("keras_umd")
class CrossSelf(DecoderKind):
    """Blocks that look at another image before they look at their own (SiamMAE; Gupta et al., 2023; CropMAE, 2024).

    The patches of a heavily masked image, visible ones and mask tokens, look in each block at the tokens that the same
    encoder makes of all of another image, then at each other. The view's change gives that image, as
    `changes.CropInCrop`; where there is none, as in `reconstruct`, blocks look at the image's own visible tokens. With
    an attention to the other image that adds nothing, it is the model's usual decoder.

    Of the model's `block`, rotations, registers, tokens in context and mixed values are the encoder's alone.

    Example:

    >>> view = View("clean", mask=masks.Random(0.9), change=changes.CropInCrop())
    >>> sizes = {"hidden_dim": 32, "num_layers": 2, "num_heads": 2, "decoder_layers": 1}
    >>> model = UMD((8, 8, 1), 2, **sizes, corruption=Corruption(views=[view]), decoder=decoders.CrossSelf())
    """

    takes_noise = True

    def make(self, encoder_layers, *args, **settings):
        return CrossSelfDecoder(*args, **settings)


@keras.saving.register_keras_serializable("keras_umd")
class CrossSelfBlock(TransformerBlock):
    """Transformer block whose tokens look at a context first: `x + cross-attention(norm(x), context)`.

    The condition enters the block behind it, as in `TransformerBlock`.

    Args:
        num_heads, mlp_ratio, conditioning, block: As of `TransformerBlock`.

    Call arguments:
        tokens: Float tensor of shape `(batch, n, hidden_dim)`.
        context: Float tensor of shape `(batch, m, context_dim)`.
        condition, num_outputs: As of `TransformerBlock`.
    """

    def __init__(self, num_heads, mlp_ratio=4, conditioning="adaln_zero", block=None, **kwargs):
        super().__init__(num_heads, mlp_ratio, conditioning, block, **kwargs)
        self.cross_norm = make_norm(self.block, dtype=self.dtype_policy, name="cross_norm")
        self.cross_attention = CrossAttention(num_heads, self.block, dtype=self.dtype_policy, name="cross_attention")

    def build(self, tokens_shape, context_shape=None, condition_shape=None):
        super().build(tokens_shape, condition_shape)
        self.cross_norm.build(tokens_shape)
        self.cross_attention.build(tokens_shape, context_shape)

    def call(self, tokens, context, condition=None, num_outputs=None):
        tokens = tokens + self._kept(self.cross_attention(self.cross_norm(tokens), context))
        return super().call(tokens, condition, num_outputs)


@keras.saving.register_keras_serializable("keras_umd")
class CrossSelfStack(CrossStack):
    """Blocks that look at one context and at each other, one after the other; arguments as of `CrossStack`.

    Call arguments:
        tokens: Float tensor of shape `(batch, n, hidden_dim)`.
        context: Float tensor of shape `(batch, m, context_dim)`.
        condition: As of `BlockStack`.
        num_outputs: As of `TransformerBlock`, for the last block.
    """

    block_class = CrossSelfBlock

    def call(self, tokens, context, condition=None, num_outputs=None):
        conditions = self._conditions(condition)
        for index, (block, given) in enumerate(zip(self.blocks, conditions, strict=True), start=1):
            outputs = num_outputs if index == self.num_layers else None
            tokens = self._run_block(block, tokens, context, given, num_outputs=outputs)
        return tokens


@keras.saving.register_keras_serializable("keras_umd")
class CrossSelfDecoder(Decoder):
    """The layer that `CrossSelf` makes; arguments as of `Decoder`.

    Call arguments: as of `Decoder`, and
        other: Pair of the representation, or class tokens, and the tokens of another image, as of `Encoder`; or `None`.
    """

    takes_rows = False
    takes_other = True

    def __init__(self, *args, block=None, **settings):
        super().__init__(*args, block=block_of_cross_attention(block), **settings)

    def _make_blocks(self, num_layers, scan_blocks, remat):
        return make_stack(self, CrossSelfStack, num_layers, remat, "blocks")

    def _build_blocks(self, hidden_dim, encoder_dim):
        self.blocks.build((None, None, hidden_dim), (None, None, encoder_dim), (None, encoder_dim))

    def call(
        self,
        representation,
        tokens,
        condition=None,
        visible=None,
        masked=None,
        read=None,
        other=None,
        noisy_images=None,
    ):
        read = self._checked(read)
        of_blocks, of_head = self._conditions(self._self_conditioned(condition, representation))
        num_outputs = num_outputs_of(tokens, masked, read)
        context = behind_cls_tokens(*((representation, tokens) if other is None else other))
        tokens, _ = self._placed(representation, tokens, visible, masked, noisy_images)
        tokens = self.blocks(tokens, context, condition=of_blocks, num_outputs=num_outputs)
        return self._predictions(self.norm(tokens), of_head, masked, read)
