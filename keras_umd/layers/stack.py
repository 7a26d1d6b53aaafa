"""A stack of equal transformer blocks: unrolled or as one loop, with or without rematerialisation."""

import keras
from keras import ops

from keras_umd.backend.kernels import can_scan, scan_layers
from keras_umd.layers import segments
from keras_umd.layers.block import as_block
from keras_umd.layers.dense import Dense
from keras_umd.layers.modulations import Modulations
from keras_umd.layers.symbolic import BaseLayer
from keras_umd.layers.transformer import TransformerBlock
from keras_umd.utils.checks import check_bools, check_integers, require

MAX_LAYERS = 10_000  # each is made at once


@keras.saving.register_keras_serializable("keras_umd")
class BlockStack(BaseLayer):
    """Equal transformer blocks, one after the other. `len`, iteration and indices give the blocks.

    Example:

    >>> stack = BlockStack(num_layers=12, num_heads=3)
    >>> stack(keras.random.normal((2, 16, 192)), keras.random.normal((2, 192))).shape
    (2, 16, 192)

    Args:
        num_layers: Integer, at least 0. Number of blocks.
        num_heads, mlp_ratio, conditioning: As of `TransformerBlock`.
        scan_blocks: Bool. On JAX, run the blocks as one `jax.lax.scan` over their stacked weights. No effect on the
            other backends. As `remat`, the attribute may be changed before `compile`.
        remat: Bool. Keep only each block's input for the backward pass, and run the block once more there.
        block: `Block`, whose settings of blocks and stacks are read, the first two groups. Registers and tokens in
            context are put in front of the tokens, and are not among those that are returned. Defaults to the paper's.
        in_context_from: Integer in [0, num_layers), the number of blocks that run before the tokens in context join.
            Defaults to a third of the depth.

    Call arguments:
        tokens: Float tensor of shape `(batch, n, hidden_dim)`.
        condition: As of `TransformerBlock`, for all blocks; or `Modulations`, with one tensor for each block.
        num_outputs: As of `TransformerBlock`, for the last block.
        collect: Tuple of integers in [1, num_layers], the blocks whose outputs are wanted too: 1 is the first.
        depth: Integer in [1, num_layers], how many of the blocks to run. Defaults to all.
        lengths: As of `TransformerBlock`.
        positions: Int tensor of shape `(batch or 1, m, axes)`, the places of the last m tokens, which `rope` needs.

    Returns:
        Float tensor of shape `(batch, num_outputs or n, hidden_dim)`. With `collect`, a pair of it and a list with the
        tokens after each of these blocks.
    """

    def __init__(
        self,
        num_layers,
        num_heads,
        mlp_ratio=4,
        conditioning="adaln_zero",
        scan_blocks=False,
        remat=False,
        block=None,
        in_context_from=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_integers(0, MAX_LAYERS, num_layers=num_layers)
        check_bools(scan_blocks=scan_blocks, remat=remat)
        num_layers = self.num_layers = int(num_layers)
        self.num_heads = num_heads
        self.mlp_ratio = mlp_ratio
        self.conditioning = conditioning
        self.scan_blocks = scan_blocks
        self.remat = remat
        self.block = as_block(block)
        check_integers(0, max(num_layers - 1, 0), optional=True, in_context_from=in_context_from)
        self.in_context_from = num_layers // 3 if in_context_from is None else int(in_context_from)
        require(
            conditioning is not None or not self.block.in_context,
            "Tokens in context are copies of the condition: they need conditioning 'adaln_zero' or 'token'. Without a "
            "condition take `registers`.",
            conditioning=conditioning,
            block=self.block,
        )
        require(
            self.block.in_context_of == "condition" or conditioning == "adaln_zero",
            "Copies of the label need conditioning 'adaln_zero'.",
            conditioning=conditioning,
            block=self.block,
        )
        # The values of the first block are mixed with no others: a weight there would never have a gradient.
        firsts = self.block.replaced(value_residual=False)
        for i in range(num_layers):
            # No list of blocks: Keras would save them under the list's name, and files have `blocks/transformer_block`,
            # `blocks/transformer_block_1`, ..., as they were written when `Encoder.blocks` was a list itself.
            setattr(
                self,
                _attribute(i),
                TransformerBlock(
                    num_heads,
                    mlp_ratio,
                    conditioning,
                    self.block if i else firsts,
                    dtype=self.dtype_policy,
                    name=f"block_{i}",
                ),
            )

    def __len__(self):
        return self.num_layers

    def __getitem__(self, index):
        return [getattr(self, _attribute(i)) for i in range(self.num_layers)][index]

    def __iter__(self):
        return iter(self[:])

    def build(self, tokens_shape, condition_shape=None):
        for block in self:
            if not block.built:
                block.build(tokens_shape, condition_shape)
        hidden_dim = tokens_shape[-1]
        if self.block.registers:
            self.registers = self._vectors(self.block.registers, hidden_dim, "registers")
        if self.block.in_context:
            self.context_positions = self._vectors(self.block.in_context, hidden_dim, "context_positions")
            is_given = self.conditioning == "adaln_zero" and condition_shape is not None
            condition_dim = condition_shape[-1] if is_given else hidden_dim
            self.context_projection = None
            if condition_dim != hidden_dim:
                self.context_projection = Dense(hidden_dim, dtype=self.dtype_policy, name="context_projection")
                self.context_projection.build((None, condition_dim))

    def _vectors(self, number, hidden_dim, name):
        # An initializer takes a seed when it is made: none may be made in vain, or all later weights would be others.
        initializer = keras.initializers.RandomNormal(stddev=0.02)
        return self.add_weight(shape=(number, hidden_dim), initializer=initializer, name=name)

    def modulations(self, condition):
        """The `Modulations` `(..., 6 * hidden_dim)` of all blocks for a condition `(..., dim)`, with AdaLN."""
        condition, _ = parted(self.block, condition)
        return Modulations(tuple(block.modulation(condition) for block in self))

    def call(self, tokens, condition=None, num_outputs=None, collect=(), depth=None, positions=None, lengths=None):
        depth = self.num_layers if depth is None else depth
        require(
            min(1, self.num_layers) <= depth <= self.num_layers and all(1 <= number <= depth for number in collect),
            f"`depth` must lie in [1, {self.num_layers}], the numbers in `collect` in [1, depth].",
            depth=depth,
            collect=tuple(collect),
        )
        number, after = tokens.shape[1], {}
        condition, context = parted(self.block, condition)
        reads = {} if positions is None else {"positions": positions}
        if num_outputs is None and self.block.extra_tokens:
            num_outputs = number
        edges = sorted({0, *collect, depth, *(cut for cut in self._cuts() if cut < depth)})
        for first, last in zip(edges, edges[1:], strict=False):
            tokens = self._with_joining(first, tokens, context)
            outputs = num_outputs if last == depth else None
            if first == 0 and self.block.value_residual:
                given = {"condition": self._conditions(condition, 0, 1)[0], **reads}
                tokens, reads["first_value"] = self._run_block(self[0], tokens, given, outputs, return_value=True)
            else:
                tokens = self._run(first, last, tokens, condition, outputs, reads, lengths)
            after[last] = tokens[:, -number:] if self.block.extra_tokens and last < depth else tokens
        if not depth and num_outputs is not None:
            tokens = segments.last(tokens, num_outputs, lengths)
        return (tokens, [after[number] for number in collect]) if len(collect) else tokens

    def _cuts(self):
        """Numbers of blocks between which nothing can be equal: the first gives its values, tokens join before one."""
        return [1] * self.block.value_residual + [self.in_context_from] * (self.block.in_context > 0)

    def _with_joining(self, number, tokens, context):
        """`tokens` behind those that join before block `number`."""
        if number == 0 and self.block.registers:
            tokens = _in_front(self.registers[None], tokens)
        if number == self.in_context_from and self.block.in_context:
            require(
                not isinstance(context, Modulations),
                "Tokens in context are copies of the condition: `Modulations` alone don't do.",
                "Modulations",
            )
            vectors = context if self.context_projection is None else self.context_projection(context)
            tokens = _in_front(vectors[:, None] + self.context_positions, tokens)
        return tokens

    def _conditions(self, condition, first, last):
        """The condition of each of the blocks `first` to `last - 1`."""
        if isinstance(condition, Modulations):
            return [Modulations((modulation,)) for modulation in condition.of_layers[first:last]]
        return [condition] * (last - first)

    def _run(self, first, last, tokens, condition, num_outputs, reads, lengths=None):
        """Blocks `first` to `last - 1`, counted from 0; `reads` are the tensors that all of them read."""
        blocks, conditions = self[first:last], self._conditions(condition, first, last)
        if self.scan_blocks and can_scan():
            # The last block returns fewer tokens with `num_outputs`, so it can't be part of the scan.
            whole = len(blocks) - (num_outputs is not None)
            if _are_alike(blocks[:whole]):
                tokens = self._scanned(blocks[:whole], tokens, conditions[:whole], reads, lengths)
                blocks, conditions = blocks[whole:], conditions[whole:]
        for i, (block, given) in enumerate(zip(blocks, conditions, strict=True), start=1):
            outputs = num_outputs if i == len(blocks) else None
            tokens = self._run_block(block, tokens, {"condition": given, **reads}, outputs, lengths=lengths)
        return tokens

    def _run_block(self, block, tokens, given, num_outputs, **options):
        """One block; `given` are the tensors that it gets by name."""
        if not self.remat:
            return block(tokens, **given, num_outputs=num_outputs, **options)
        # Tensors as positional arguments only: with keywords, remat breaks on some backends.
        given = {name: value for name, value in given.items() if value is not None}

        def rerun(tokens, *values):
            named = keras.tree.pack_sequence_as(given, list(values)) if values else {}
            return block(tokens, **named, num_outputs=num_outputs, **options)

        return keras.remat(rerun)(tokens, *keras.tree.flatten(given))

    def _scanned(self, blocks, tokens, conditions, reads, lengths):
        if not blocks:
            return tokens
        condition, modulations = conditions[0], None
        if isinstance(condition, Modulations):
            modulations = ops.stack([given.of_layers[0] for given in conditions])
        elif self.conditioning == "adaln_zero":
            modulations = _all_modulations(blocks, condition)

        def call(block, tokens, modulation):
            given = condition if modulation is None else Modulations((modulation,))
            return block(tokens, condition=given, **reads, lengths=lengths)

        return scan_layers(call, blocks, tokens, modulations, self.remat)


class BlockNetwork(BaseLayer):
    """A layer around a `BlockStack`, its attribute `blocks`, which has the settings of how the blocks are run."""

    @property
    def scan_blocks(self):
        return self.blocks.scan_blocks

    @property
    def remat(self):
        return self.blocks.remat

    @property
    def needs_condition(self):
        """Whether it reads the condition itself, so that its `Modulations` aren't enough."""
        return self.blocks.block.in_context > 0


def parted(block, condition):
    """The condition that modulates, and what tokens in context are copies of; see `ConditionEmbedding`."""
    is_one = block.in_context_of == "condition" or condition is None or isinstance(condition, Modulations)
    return (condition, condition) if is_one else ops.split(condition, 2, axis=-1)


def _in_front(added, tokens):
    """`added` `(batch or 1, k, hidden_dim)` in front of `tokens` `(batch, n, hidden_dim)`."""
    added = ops.broadcast_to(added, (ops.shape(tokens)[0], *added.shape[1:]))
    return ops.concatenate([ops.cast(added, tokens.dtype), tokens], axis=1)


def _attribute(i):
    return "transformer_block" if i == 0 else f"transformer_block_{i}"


def _are_alike(blocks):
    """Whether blocks differ in the values of their weights alone; LoRA and quantisation may be of some of them."""

    def structure(block):
        weights = [(v.path.removeprefix(block.path), tuple(v.shape), v.dtype) for v in block.variables]
        return weights, [layer.lora_scale for layer in block._flatten_layers() if getattr(layer, "lora_enabled", False)]

    return all(structure(block) == structure(blocks[0]) for block in blocks[1:])


def _all_modulations(blocks, condition):
    """The modulations of all blocks, `(blocks, batch, 6 * hidden_dim)`, by one matrix product."""
    if any(block.modulation.quantization_mode is not None for block in blocks):  # kernels of integers
        return ops.stack([block.modulation(condition) for block in blocks])
    kernel = ops.cast(ops.stack([block.modulation.kernel for block in blocks]), condition.dtype)
    bias = ops.cast(ops.stack([block.modulation.bias for block in blocks]), condition.dtype)
    return ops.einsum("bd,lde->lbe", condition, kernel) + bias[:, None]
