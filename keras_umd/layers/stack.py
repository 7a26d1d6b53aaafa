"""A stack of equal transformer blocks: unrolled or as one loop, with or without rematerialisation."""

import keras
from keras import ops

from keras_umd.backend.kernels import can_scan, scan_layers
from keras_umd.layers.symbolic import BaseLayer
from keras_umd.layers.transformer import Modulations, TransformerBlock
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
        num_layers: Integer, at least 1. Number of blocks.
        num_heads, mlp_ratio, conditioning: As of `TransformerBlock`.
        scan_blocks: Bool. On JAX, run the blocks as one `jax.lax.scan` over their stacked weights. No effect on the
            other backends. As `remat`, the attribute may be changed before `compile`.
        remat: Bool. Keep only each block's input for the backward pass, and run the block once more there.

    Call arguments:
        tokens: Float tensor of shape `(batch, n, hidden_dim)`.
        condition: As of `TransformerBlock`, for all blocks; or `Modulations`, with one tensor for each block.
        num_outputs: As of `TransformerBlock`, for the last block.
        collect: Tuple of integers in [1, num_layers], the blocks whose outputs are wanted too: 1 is the first.
        depth: Integer in [1, num_layers], how many of the blocks to run. Defaults to all.
        lengths: As of `TransformerBlock`.

    Returns:
        Float tensor of shape `(batch, num_outputs or n, hidden_dim)`. With `collect`, a pair of it and a list with the
        tokens after each of these blocks.
    """

    def __init__(
        self, num_layers, num_heads, mlp_ratio=4, conditioning="adaln_zero", scan_blocks=False, remat=False, **kwargs
    ):
        super().__init__(**kwargs)
        check_integers(1, MAX_LAYERS, num_layers=num_layers)
        check_bools(scan_blocks=scan_blocks, remat=remat)
        num_layers = self.num_layers = int(num_layers)
        self.num_heads = num_heads
        self.mlp_ratio = mlp_ratio
        self.conditioning = conditioning
        self.scan_blocks = scan_blocks
        self.remat = remat
        for i in range(num_layers):
            # No list of blocks: Keras would save them under the list's name, and files have `blocks/transformer_block`,
            # `blocks/transformer_block_1`, ..., as they were written when `Encoder.blocks` was a list itself.
            setattr(
                self,
                _attribute(i),
                TransformerBlock(num_heads, mlp_ratio, conditioning, dtype=self.dtype_policy, name=f"block_{i}"),
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

    def modulations(self, condition):
        """The `Modulations` `(..., 6 * hidden_dim)` of all blocks for a condition `(..., dim)`, with AdaLN."""
        return Modulations(tuple(block.modulation(condition) for block in self))

    def call(self, tokens, condition=None, num_outputs=None, collect=(), depth=None, lengths=None):
        depth = self.num_layers if depth is None else depth
        require(
            1 <= depth <= self.num_layers and all(1 <= number <= depth for number in collect),
            f"`depth` must lie in [1, {self.num_layers}], the numbers in `collect` in [1, depth].",
            depth=depth,
            collect=tuple(collect),
        )
        after = {}
        edges = sorted({0, *collect, depth})
        for first, last in zip(edges, edges[1:], strict=False):
            tokens = self._run(first, last, tokens, condition, num_outputs if last == depth else None, lengths)
            after[last] = tokens
        return (tokens, [after[number] for number in collect]) if len(collect) else tokens

    def _run(self, first, last, tokens, condition, num_outputs, lengths):
        """Blocks `first` to `last - 1`, counted from 0."""
        blocks, conditions = self[first:last], [condition] * (last - first)
        if isinstance(condition, Modulations):
            conditions = [Modulations((modulation,)) for modulation in condition.of_layers[first:last]]
        if self.scan_blocks and can_scan():
            # The last block returns fewer tokens with `num_outputs`, so it can't be part of the scan.
            whole = len(blocks) - (num_outputs is not None)
            if _are_alike(blocks[:whole]):
                tokens = self._scanned(blocks[:whole], tokens, conditions[:whole], lengths)
                blocks, conditions = blocks[whole:], conditions[whole:]
        for i, (block, given) in enumerate(zip(blocks, conditions, strict=True), start=1):
            tokens = self._run_block(block, tokens, given, num_outputs if i == len(blocks) else None, lengths)
        return tokens

    def _run_block(self, block, tokens, condition, num_outputs, lengths):
        if not self.remat:
            return block(tokens, condition=condition, num_outputs=num_outputs, lengths=lengths)
        # Tensors as positional arguments only: with keywords, remat breaks on some backends.
        values = [] if condition is None else keras.tree.flatten(condition)

        def rerun(tokens, *values):
            given = keras.tree.pack_sequence_as(condition, list(values)) if values else None
            return block(tokens, condition=given, num_outputs=num_outputs, lengths=lengths)

        return keras.remat(rerun)(tokens, *values)

    def _scanned(self, blocks, tokens, conditions, lengths):
        if not blocks:
            return tokens
        condition, modulations = conditions[0], None
        if isinstance(condition, Modulations):
            modulations = ops.stack([given.of_layers[0] for given in conditions])
        elif self.conditioning == "adaln_zero":
            modulations = _all_modulations(blocks, condition)

        def call(block, tokens, modulation):
            given = condition if modulation is None else Modulations((modulation,))
            return block(tokens, condition=given, lengths=lengths)

        return scan_layers(call, blocks, tokens, modulations, self.remat)


class BlockNetwork(BaseLayer):
    """A layer around a `BlockStack`, its attribute `blocks`, which has the settings of how the blocks are run."""

    @property
    def scan_blocks(self):
        return self.blocks.scan_blocks

    @property
    def remat(self):
        return self.blocks.remat


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
