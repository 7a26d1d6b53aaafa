"""The decoder of cross-attention: patches look at what the encoder saw, not at each other."""

import keras
from keras import ops

from keras_umd.backend.kernels import project
from keras_umd.layers.block import as_block
from keras_umd.layers.cross_attention import CrossStack
from keras_umd.layers.norms import make_norm
from keras_umd.models.decoders.decoder import Decoder
from keras_umd.models.decoders.kind import DecoderKind
from keras_umd.models.decoders.tokens import behind_cls_tokens, reads_only_masked
from keras_umd.utils.checks import as_integers, check_one_of, is_list, require

VISIBLE = ("token", "mask")


@keras.saving.register_keras_serializable("keras_umd")
class Cross(DecoderKind):
    """Decoder of cross-attention alone (CrossMAE; Fu et al., "Rethinking Patch Dependence for MAE", 2024).

    Each masked patch is a query that looks at the tokens of the encoder. No patch sees another masked one, so that
    decoding a part of them (`decoded_ratio`) gives these the same predictions, for that part of the cost.

    Of the model's `block`, rotations, registers, tokens in context and mixed values are the encoder's alone.

    Example:

    >>> keras_umd.UMD(decoder=decoders.Cross(taps=(4, 8, 12)), decoder_hidden_dim=512, decoder_layers=12, num_heads=12)

    Args:
        taps: Blocks of the encoder to whose outputs the decoder looks: a tuple of integers in [1, num_layers], with the
            last block among them, which has the encoder's norm behind it; or `"all"` of them. Each block of the decoder
            learns its own weighted sum of them, and has a norm behind that. `None` for the encoder's last tokens.
        visible: What the query of a visible patch starts from, where such patches are predicted: `"token"`, its token
            from the encoder, as noise needs it, or `"mask"`, the mask token, as for masked patches.
    """

    takes_noise = True

    def __init__(self, taps=None, visible="token"):
        check_one_of(VISIBLE, visible=visible)
        if taps is not None and not (isinstance(taps, str) and taps == "all"):
            require(is_list(taps) and len(taps), "`taps` must be 'all', None or a tuple of integers.", taps=taps)
            taps = tuple(as_integers(1, taps=taps).tolist())
            require(len(set(taps)) == len(taps), "`taps` must be different.", taps=taps)
        self.taps = taps
        self.visible = visible

    def make(self, encoder_layers, *args, **settings):
        taps = range(1, encoder_layers + 1) if self.taps == "all" else self.taps or ()
        require(
            not taps or max(taps) == encoder_layers,
            f"`taps` must end with the encoder's last block, {encoder_layers}: those behind them would learn nothing.",
            taps=self.taps,
        )
        return CrossDecoder(*args, **settings, taps=tuple(taps), visible=self.visible)


@keras.saving.register_keras_serializable("keras_umd")
class CrossDecoder(Decoder):
    """The layer that `Cross` makes.

    Args:
        *args: As of `Decoder`.
        taps: Tuple of integers, the blocks of the encoder that are given as `features`; `()` for none.
        visible: As of `Cross`.
        block, **settings: As of `Decoder`.

    Call arguments: as of `Decoder`, and
        features: List of pairs, the representation and the tokens behind each of the `taps`, as of `Encoder`.
    """

    takes_rows = False

    def __init__(self, *args, taps=(), visible="token", block=None, **settings):
        check_one_of(VISIBLE, visible=visible)
        self.taps = tuple(taps)
        self.visible = visible
        super().__init__(*args, block=block_of_cross_attention(block), **settings)

    def _make_blocks(self, num_layers, scan_blocks, remat):
        return make_stack(self, CrossStack, num_layers, remat, "blocks")

    def _build_inputs(self, encoder_dim, hidden_dim):
        if self.visible == "token" and hidden_dim != encoder_dim:
            self.embedding = self._dense(encoder_dim, hidden_dim, "embedding")

    def _build_blocks(self, hidden_dim, encoder_dim):
        if self.taps:
            self.tap_weights = self.add_weight(
                shape=(self.num_layers, len(self.taps)),
                initializer=keras.initializers.RandomNormal(stddev=len(self.taps) ** -0.5),
                name="tap_weights",
            )
            self.tap_norms = [
                make_norm(self.block, dtype=self.dtype_policy, name=f"tap_norm_{i}") for i in range(self.num_layers)
            ]
            for norm in self.tap_norms:
                norm.build((None, None, encoder_dim))
        self.blocks.build((None, None, hidden_dim), (None, None, encoder_dim), (None, encoder_dim))

    def settle(self, objective, corruption):
        super().settle(objective, corruption)
        views = [(view.mask is None, set(objective.reads(view.name).values())) for view in corruption.views]
        reads_visible = any(is_whole or places - {"masked"} for is_whole, places in views if places)
        if self.embedding is not None:
            self.embedding.trainable = reads_visible
        self.mask_token.trainable = self.visible == "mask" or not all(is_whole for is_whole, _ in views)

    def call(
        self,
        representation,
        tokens,
        condition=None,
        visible=None,
        masked=None,
        read=None,
        features=(),
        noisy_images=None,
    ):
        read = self._checked(read)
        of_blocks, of_head = self._conditions(self._self_conditioned(condition, representation))
        queries = self._queries(tokens, visible, masked, read, noisy_images)
        contexts = self._contexts(representation, tokens, features)
        return self._predictions(self.norm(self.blocks(queries, contexts, of_blocks)), of_head, masked, read)

    def _queries(self, tokens, visible, masked, read, noisy_images=None):
        """A token for each patch that is read, the masked ones last, `(batch, n, hidden_dim)`."""
        if masked is not None and reads_only_masked(read):
            return self.position_embedding(self._tokens_of_masked(masked, noisy_images), indices=masked)
        if self.visible == "token":
            queries = tokens if self.embedding is None else project(self.embedding, tokens)
        else:
            queries = self._mask_tokens(ops.shape(tokens)[:2])
        if masked is None:
            return self.position_embedding(queries)
        queries = ops.concatenate([queries, self._tokens_of_masked(masked, noisy_images)], axis=1)
        return self.position_embedding(queries, indices=ops.concatenate([visible, masked], axis=1))

    def _contexts(self, representation, tokens, features):
        """What the blocks look at: a list of one for all of them, or of one for each."""
        if not self.taps:
            return [behind_cls_tokens(representation, tokens)]
        require(len(features) == len(self.taps), "The decoder needs `features` of all its taps.", f"{len(features)}")
        rows = ops.stack([behind_cls_tokens(*pair) for pair in features], axis=-2)  # (batch, n, taps, hidden_dim)
        weights = ops.cast(ops.convert_to_tensor(self.tap_weights), rows.dtype)
        sums = ops.unstack(ops.einsum("bntd,jt->jbnd", rows, weights), axis=0)
        return [norm(mixed) for norm, mixed in zip(self.tap_norms, sums, strict=True)]

    def get_config(self):
        return {**super().get_config(), "taps": self.taps, "visible": self.visible}


def block_of_cross_attention(block):
    """A `Block` without rotations and added tokens, which are of tokens of one image; the encoder keeps them."""
    return as_block(block).replaced(rope=False, value_residual=False, registers=0, in_context=0)


def make_stack(decoder, stack_class, num_layers, remat, name):
    """A stack of blocks of cross-attention, a `CrossStack` or a class derived from it, as a decoder's settings say."""
    return stack_class(
        num_layers,
        decoder.num_heads,
        conditioning=decoder.conditioning,
        remat=remat,
        block=decoder.block,
        dtype=decoder.dtype_policy,
        name=name,
    )
