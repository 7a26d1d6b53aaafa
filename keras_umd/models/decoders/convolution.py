"""The decoder of convolutions."""

import keras
from keras import ops

from keras_umd.backend.kernels import project
from keras_umd.layers.grid_convolution import GridConvolution
from keras_umd.layers.masking import take_tokens
from keras_umd.models.decoders.decoder import Decoder
from keras_umd.models.decoders.kind import DecoderKind
from keras_umd.models.decoders.linear import NoBlocks
from keras_umd.models.decoders.tokens import reads_only_masked
from keras_umd.utils.checks import check_integers, require


@keras.saving.register_keras_serializable("keras_umd")
class Convolution(DecoderKind):
    """Grouped convolutions over the grid of patches (data2vec 2.0; Baevski et al., 2022, section 3.3).

    Visible patches stand at their places, a mask token at all others, each with its position; the paper has noise for
    the mask token. Much cheaper than attention, and each patch knows of its neighbourhood alone, `decoder_layers` times
    half the kernel far. Class tokens and the condition end with the encoder, but for the head.

    Example:

    >>> sizes = {"hidden_dim": 32, "num_layers": 2, "num_heads": 2, "decoder_layers": 2}
    >>> model = UMD((8, 8, 1), 2, **sizes, corruption=Corruption.mae(), decoder=decoders.Convolution(groups=4))

    Args:
        kernel: Odd integer, the patches along each axis of a kernel: 3, and 5 in the paper's larger networks.
        groups: Integer, a divisor of the decoder's width.
    """

    def __init__(self, kernel=3, groups=16):
        check_integers(1, kernel=kernel, groups=groups)
        require(kernel % 2 == 1, "`kernel` must be odd.", kernel=kernel)
        self.kernel = kernel
        self.groups = groups

    def make(self, encoder_layers, *args, **settings):
        return ConvolutionDecoder(*args, **settings, kernel=self.kernel, groups=self.groups)


class _Convolutions(NoBlocks):
    """Convolutions one after the other."""

    def __init__(self, layers, block, **kwargs):
        super().__init__(block, **kwargs)
        self.convolutions = layers

    def build(self, tokens_shape, condition_shape=None):
        for layer in self.convolutions:
            layer.build(tokens_shape)
        self.hidden_dim = tokens_shape[-1]

    def call(self, tokens):
        for layer in self.convolutions:
            tokens = layer(tokens)
        return tokens

    def products(self):
        """FLOPs of the matrix products for an image."""
        return sum(layer.products(self.hidden_dim) for layer in self.convolutions)


@keras.saving.register_keras_serializable("keras_umd")
class ConvolutionDecoder(Decoder):
    """The layer that `Convolution` makes; `kernel` and `groups` as there, and others as of `Decoder`."""

    takes_rows = False

    def __init__(self, *args, kernel=3, groups=16, **settings):
        self.kernel = kernel
        self.groups = groups
        super().__init__(*args, **settings)

    def _make_blocks(self, num_layers, **how):
        check_integers(1, 10_000, num_layers=num_layers)
        layers = [
            GridConvolution(self.grid, self.kernel, self.groups, dtype=self.dtype_policy, name=f"convolution_{i}")
            for i in range(int(num_layers))
        ]
        return _Convolutions(layers, self.block, dtype=self.dtype_policy, name="blocks")

    def _build_inputs(self, encoder_dim, hidden_dim):
        if hidden_dim != encoder_dim:
            self.embedding = self._dense(encoder_dim, hidden_dim, "embedding")

    def _build_blocks(self, hidden_dim, encoder_dim):
        self.blocks.build((None, None, hidden_dim))

    def _decoded(self, representation, tokens, condition, visible, masked, read):
        tokens = tokens if self.embedding is None else project(self.embedding, tokens)
        if masked is None:
            return self.blocks(self.position_embedding(tokens))
        # Of each place the number of its visible token, 0 for the mask token.
        is_at = ops.equal(visible[:, None, :], ops.arange(self.num_patches, dtype="int32")[None, :, None])
        numbers = ops.arange(1, visible.shape[1] + 1, dtype="int32")
        slots = ops.max(ops.where(is_at, numbers, 0), axis=-1)  # (batch, num_patches)
        mask_token = self._mask_tokens((ops.shape(tokens)[0], 1))
        tokens = take_tokens(ops.concatenate([mask_token, tokens], axis=1), slots)
        tokens = self.blocks(self.position_embedding(tokens))
        return take_tokens(tokens, masked if reads_only_masked(read) else ops.concatenate([visible, masked], axis=1))

    def get_config(self):
        return {**super().get_config(), "kernel": self.kernel, "groups": self.groups}
