"""The decoder that first predicts what the encoder would say of masked patches."""

import keras
from keras import ops

from keras_umd.backend.kernels import project
from keras_umd.layers.cross_attention import MAX_LAYERS, CrossStack
from keras_umd.layers.norms import make_norm
from keras_umd.models.decoders.cross import block_of_cross_attention, make_stack
from keras_umd.models.decoders.decoder import Decoder
from keras_umd.models.decoders.kind import DecoderKind
from keras_umd.models.decoders.tokens import behind_cls_tokens
from keras_umd.objectives.alignment import LATENTS, Alignment
from keras_umd.utils.checks import check_integers, require


@keras.saving.register_keras_serializable("keras_umd")
class Regressor(DecoderKind):
    """A regressor of latents before the decoder (CAE; Chen et al., "Context Autoencoder", 2022, section 3.1).

    Mask tokens look at the tokens of the encoder and at each other, through blocks of cross-attention: their latents.
    The decoder's own blocks, of self-attention, get nothing but these. So telling what is where masked patches are is
    the regressor's work, and what it looks like the decoder's; the encoder is left to describe what it sees. The term
    `objectives.Alignment` holds latents to what the encoder makes of the masked patches.

    It predicts masked patches alone: all views mask, and no term reads visible ones. So it learns no noise, and
    `generate` can't work with it. Of the model's `block`, rotations, registers, tokens in context and mixed values are
    the encoder's alone.

    Example:

    >>> sizes = {"hidden_dim": 32, "num_layers": 2, "num_heads": 2, "decoder_layers": 1}
    >>> model = UMD((8, 8, 1), 2, **sizes, corruption=Corruption.mae(), decoder=decoders.Regressor(1))

    Args:
        num_layers: Integer, at least 1. Blocks of cross-attention, beside the `decoder_layers` of self-attention that
            follow. Both are 4 in the paper, as wide as the encoder.
    """

    can_denoise = False

    def __init__(self, num_layers=4):
        check_integers(1, MAX_LAYERS, num_layers=num_layers)
        self.num_layers = num_layers

    def make(self, encoder_layers, *args, **settings):
        return RegressorDecoder(*args, **settings, num_regressors=self.num_layers)


@keras.saving.register_keras_serializable("keras_umd")
class RegressorStack(CrossStack):
    """Blocks of cross-attention whose tokens look at a context and, behind a norm that both share, at each other.

    Args:
        num_layers, num_heads, mlp_ratio, conditioning, remat, block: As of `CrossStack`.

    Call arguments:
        tokens: Float tensor of shape `(batch, queries, hidden_dim)`.
        context: Float tensor of shape `(batch, n, hidden_dim)`.
        condition: As of `CrossBlock`.
    """

    def __init__(
        self, num_layers, num_heads, mlp_ratio=4, conditioning="adaln_zero", remat=False, block=None, **kwargs
    ):
        super().__init__(num_layers, num_heads, mlp_ratio, conditioning, remat, block, **kwargs)
        self.context_norms = [
            make_norm(self.block, dtype=self.dtype_policy, name=f"context_norm_{i}") for i in range(self.num_layers)
        ]

    def build(self, tokens_shape, context_shape=None, condition_shape=None):
        super().build(tokens_shape, context_shape, condition_shape)
        for norm in self.context_norms:
            norm.build(context_shape)

    def call(self, tokens, context, condition=None):
        for block, norm in zip(self.blocks, self.context_norms, strict=True):
            seen = norm(ops.concatenate([context, tokens], axis=1))  # (batch, n + queries, hidden_dim)
            tokens = self._run_block(block, tokens, seen, condition)
        return tokens


@keras.saving.register_keras_serializable("keras_umd")
class RegressorDecoder(Decoder):
    """The layer that `Regressor` makes; `num_regressors` is its `num_layers`, and others are as of `Decoder`.

    Returns:
        As of `Decoder`: predictions of masked patches, and zeros for visible ones where those are asked for, too. And
        `latents`, `(batch, masked, hidden_dim)` of the encoder, where a term of the model's objective reads them.
    """

    takes_rows = False
    needs_condition = True

    def __init__(self, *args, num_regressors=4, block=None, **settings):
        self.num_regressors = num_regressors
        self.gives_latents = True
        super().__init__(*args, block=block_of_cross_attention(block), **settings)
        self.regressor = make_stack(self, RegressorStack, num_regressors, self.remat, "regressor")
        self.latents_norm = make_norm(self.block, dtype=self.dtype_policy, name="latents_norm")

    def _build_inputs(self, encoder_dim, hidden_dim):
        super()._build_inputs(encoder_dim, hidden_dim)
        self.latents_map = None
        if hidden_dim != encoder_dim:
            self.latents_map = self._dense(hidden_dim, encoder_dim, "latents_map")

    def _build_blocks(self, hidden_dim, encoder_dim):
        super()._build_blocks(hidden_dim, encoder_dim)
        self.regressor.build((None, None, hidden_dim), (None, None, hidden_dim), (None, encoder_dim))
        self.latents_norm.build((None, None, hidden_dim))

    def settle(self, objective, corruption):
        super().settle(objective, corruption)
        for view in corruption.views:
            places = set(objective.reads(view.name).values())
            require(
                not places or (places == {"masked"} and view.num_visible(self.grid) < self.num_patches),
                "A decoder with a regressor predicts masked patches alone: its views mask some, and its terms count "
                "those, where='masked'.",
                f"the view {view.name!r}, of which {sorted(places)} patches are read",
            )
        self.gives_latents = any(isinstance(term, Alignment) for term in objective.terms)
        if self.latents_map is not None:
            self.latents_map.trainable = self.gives_latents

    def call(self, representation, tokens, condition=None, visible=None, masked=None, read=None):
        read = self._checked(read)
        require(
            masked is not None and masked.shape[1] > 0,
            "A decoder with a regressor predicts masked patches alone; with it a model can't generate.",
            "no masked patches",
        )
        of_blocks, of_head = self._conditions(self._self_conditioned(condition, representation))
        latents = self._latents(representation, tokens, of_blocks, masked)
        decoded = self.blocks(self.position_embedding(latents, indices=masked), condition=of_blocks)
        predictions = self._predictions(self.norm(decoded), of_head, None, read)
        outputs = {
            name: values if read[name] == "masked" else _behind_zeros(values, visible.shape[1])
            for name, values in predictions.items()
        }
        if self.gives_latents:
            outputs[LATENTS] = latents if self.latents_map is None else project(self.latents_map, latents)
        return outputs

    def _latents(self, representation, tokens, condition, masked):
        """`(batch, masked, hidden_dim)`."""
        context = behind_cls_tokens(representation, tokens)
        context = context if self.embedding is None else project(self.embedding, context)
        queries = self.position_embedding(self._mask_tokens(ops.shape(masked)), indices=masked)
        return self.latents_norm(self.regressor(queries, context, condition))

    def get_config(self):
        return {**super().get_config(), "num_regressors": self.num_regressors}


def _behind_zeros(values, number):
    """Predictions behind those of visible patches, of which there are none."""
    zeros = ops.zeros((ops.shape(values)[0], number, values.shape[-1]), values.dtype)
    return ops.concatenate([zeros, values], axis=1)
