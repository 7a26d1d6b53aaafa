"""Transformer blocks whose tokens look at others and not at each other."""

import keras
from keras import ops

from keras_umd.backend.attention import attention
from keras_umd.backend.kernels import project
from keras_umd.layers.block import as_block
from keras_umd.layers.modulations import Modulations, modulation_of
from keras_umd.layers.self_attention import SelfAttention
from keras_umd.layers.symbolic import BaseLayer
from keras_umd.layers.transformer import TransformerBlock, with_condition
from keras_umd.utils.checks import check_bools, check_integers, check_positive_integers, require

MAX_LAYERS = 10_000  # each is made at once


@keras.saving.register_keras_serializable("keras_umd")
class CrossAttention(SelfAttention):
    """Multi-head attention of some tokens to others, without mask or dropout.

    Args:
        num_heads: Integer, a divisor of the tokens' width.
        block: `Block`, whose `qk_norm` is read.

    Call arguments:
        tokens: Float tensor of shape `(batch, queries, hidden_dim)`.
        context: Float tensor of shape `(batch, n, context_dim)`, the tokens that are looked at.

    Returns:
        Float tensor of the shape of `tokens`.
    """

    def build(self, tokens_shape, context_shape):
        self._build_projections(tokens_shape, context_shape)

    # The other arguments are those with which a block calls its attention.
    def call(self, tokens, context, num_outputs=None, return_value=False, lengths=None):
        query = self._heads(project(self.query, tokens))  # (batch, queries, heads, head_dim)
        key = self._heads(project(self.key, context))  # (batch, n, heads, head_dim)
        value = self._heads(project(self.value, context))
        if self.block.qk_norm:
            query, key = self.query_norm(query), self.key_norm(key)
        mixed = ops.reshape(attention(query, key, value), (-1, query.shape[1], tokens.shape[-1]))
        return project(self.output_projection, mixed)


@keras.saving.register_keras_serializable("keras_umd")
class CrossBlock(TransformerBlock):
    """Transformer block with cross-attention in place of self-attention (CrossMAE; Fu et al., 2024, section 3.2).

    Since its tokens don't see each other, what becomes of one doesn't depend on which others there are.

    Example:

    >>> block = CrossBlock(num_heads=3, conditioning=None)
    >>> block(keras.random.normal((2, 16, 192)), keras.random.normal((2, 4, 384))).shape
    (2, 16, 192)

    Args:
        num_heads, mlp_ratio, conditioning: As of `TransformerBlock`. With `"token"`, the condition is one more token
            that is looked at, of the width of the context.
        block: `Block`, whose `norm`, `mlp` and `qk_norm` are read; its other settings must be the defaults.

    Call arguments:
        tokens: Float tensor of shape `(batch, queries, hidden_dim)`.
        context: Float tensor of shape `(batch, n, context_dim)`.
        condition: As of `TransformerBlock`.

    Returns:
        Float tensor of the shape of `tokens`.
    """

    attention_class = CrossAttention

    def build(self, tokens_shape, context_shape=None, condition_shape=None):
        self.attention.build(tokens_shape, context_shape)
        super().build(tokens_shape, condition_shape)

    def call(self, tokens, context, condition=None):
        require(
            self.conditioning is None or condition is not None,
            f"A block with conditioning={self.conditioning!r} needs a `condition`.",
            "None",
        )
        given = {"context": context, "return_value": False}
        if self.conditioning == "adaln_zero":
            return self._modulated(tokens, modulation_of(self, condition), None, given, None)
        if self.conditioning == "token":
            given["context"], _ = with_condition(context, condition, None)
        (mixed,) = self._attend(self.attention_norm(tokens), None, given, None)
        tokens = tokens + self._kept(mixed)
        return tokens + self._kept(self._mlp(self.mlp_norm(tokens)))


@keras.saving.register_keras_serializable("keras_umd")
class CrossStack(BaseLayer):
    """Blocks of cross-attention, one after the other. Iteration gives the blocks.

    Example:

    >>> stack = CrossStack(num_layers=4, num_heads=3, conditioning=None)
    >>> stack(keras.random.normal((2, 16, 192)), [keras.random.normal((2, 4, 192))]).shape
    (2, 16, 192)

    Args:
        num_layers: Integer, at least 1.
        num_heads, mlp_ratio, conditioning: As of `CrossBlock`.
        remat: Bool. Keep only each block's inputs for the backward pass, and run the block once more there.
        block: As of `CrossBlock`.

    Call arguments:
        tokens: Float tensor of shape `(batch, queries, hidden_dim)`.
        contexts: List of float tensors `(batch, n, context_dim)`, what each block looks at; or of one, for all.
        condition: As of `BlockStack`.

    Returns:
        Float tensor of the shape of `tokens`.
    """

    block_class = CrossBlock
    scan_blocks = False  # each block may look at other tokens
    in_context_from = 0

    def __init__(
        self, num_layers, num_heads, mlp_ratio=4, conditioning="adaln_zero", remat=False, block=None, **kwargs
    ):
        super().__init__(**kwargs)
        check_integers(1, MAX_LAYERS, num_layers=num_layers)
        check_positive_integers(num_heads=num_heads)
        check_bools(remat=remat)
        self.num_layers = int(num_layers)
        self.num_heads = int(num_heads)
        self.mlp_ratio = mlp_ratio
        self.conditioning = conditioning
        self.remat = remat
        self.block = as_block(block)
        self.blocks = [
            self.block_class(num_heads, mlp_ratio, conditioning, self.block, dtype=self.dtype_policy, name=f"block_{i}")
            for i in range(self.num_layers)
        ]

    def __len__(self):
        return self.num_layers

    def __iter__(self):
        return iter(self.blocks)

    def build(self, tokens_shape, contexts_shape=None, condition_shape=None):
        context_shape = contexts_shape
        if isinstance(contexts_shape, (list, tuple)) and isinstance(contexts_shape[0], (list, tuple)):
            context_shape = contexts_shape[0]
        self.context_width = context_shape[-1]
        for block in self.blocks:
            if not block.built:
                block.build(tokens_shape, context_shape, condition_shape)

    def modulations(self, condition):
        """The `Modulations` `(..., 6 * hidden_dim)` of all blocks for a condition `(..., dim)`, with AdaLN."""
        return Modulations(tuple(block.modulation(condition) for block in self.blocks))

    def call(self, tokens, contexts, condition=None):
        contexts = list(contexts) * (self.num_layers if len(contexts) == 1 else 1)
        number = len(contexts)
        require(number == self.num_layers, "`contexts` must be one, or one for each block.", f"{number} of them")
        for block, context, given in zip(self.blocks, contexts, self._conditions(condition), strict=True):
            tokens = self._run_block(block, tokens, context, given)
        return tokens

    def _conditions(self, condition):
        """The condition of each block."""
        if isinstance(condition, Modulations):
            return [Modulations((modulation,)) for modulation in condition.of_layers]
        return [condition] * self.num_layers

    def _run_block(self, block, tokens, context, condition, **options):
        """One block; `options` are no tensors."""
        if not self.remat:
            return block(tokens, context, condition=condition, **options)
        # Tensors as positional arguments only: with keywords, remat breaks on some backends.
        if condition is None:
            return keras.remat(lambda tokens, context: block(tokens, context, **options))(tokens, context)
        values = keras.tree.flatten(condition)

        def rerun(tokens, context, *values):
            given = keras.tree.pack_sequence_as(condition, list(values))
            return block(tokens, context, condition=given, **options)

        return keras.remat(rerun)(tokens, context, *values)
