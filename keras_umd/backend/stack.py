"""A stack of equal blocks, one after the other: unrolled or as one loop, with or without rematerialisation."""

import functools

import keras
from keras import ops


def run_blocks(blocks, tokens, condition=None, modulations=None, num_outputs=None, scan=False, remat=False):
    """Send tokens through blocks of the same kind and size.

    Args:
        blocks: List of `TransformerBlock`.
        tokens: Float tensor of shape `(batch, n, hidden_dim)`.
        condition: As of `TransformerBlock`, for all blocks.
        modulations: List of one tensor for each block, or `None`: as `modulation` of `TransformerBlock`.
        num_outputs: As of `TransformerBlock`, for the last block.
        scan: Bool. On JAX, run the blocks as one `jax.lax.scan` over their stacked weights. No effect on the other
            backends.
        remat: Bool. Keep only each block's input for the backward pass, and run the block once more there.

    Returns:
        Float tensor of shape `(batch, num_outputs or n, hidden_dim)`.
    """
    modulations = [None] * len(blocks) if modulations is None else modulations
    if scan and keras.backend.backend() == "jax":
        whole = len(blocks) - (num_outputs is not None)  # the last one isn't like the others
        tokens = _scanned(blocks[:whole], tokens, condition, modulations[:whole], remat)
        blocks, modulations = blocks[whole:], modulations[whole:]
    for i, (block, modulation) in enumerate(zip(blocks, modulations, strict=True), start=1):
        block = functools.partial(block, num_outputs=num_outputs if i == len(blocks) else None)
        tokens = _call(block, tokens, condition, modulation, remat)
    return tokens


def _call(block, tokens, condition, modulation, remat):
    if not remat:
        return block(tokens, condition=condition, modulation=modulation)
    given = {"condition": condition, "modulation": modulation}
    names = [name for name, value in given.items() if value is not None]
    # With tensors as positional arguments only: others break on some backends.
    rerun = keras.remat(lambda tokens, *values: block(tokens, **dict(zip(names, values, strict=True))))
    return rerun(tokens, *(given[name] for name in names))


def _scanned(blocks, tokens, condition, modulations, remat):
    import jax
    import jax.numpy as jnp

    if not blocks:
        return tokens
    block = blocks[0]
    if block.conditioning == "adaln_zero":
        modulations = _modulations(blocks, condition) if modulations[0] is None else jnp.stack(modulations)
        condition = None
    else:
        modulations = None
    weights = [jnp.stack([v.value for v in same]) for same in zip(*(b.variables for b in blocks), strict=True)]

    def step(tokens, inputs):
        values, modulation = inputs
        with keras.StatelessScope(state_mapping=list(zip(block.variables, values, strict=True))):
            return block(tokens, condition=condition, modulation=modulation), None

    if remat:
        step = jax.checkpoint(step, prevent_cse=False)  # a loop's body can't be merged with that of another
    return jax.lax.scan(step, tokens, (weights, modulations))[0]


def _modulations(blocks, condition):
    """The modulations of all blocks, `(blocks, batch, 6 * hidden_dim)`, by one matrix product."""
    kernel = ops.cast(ops.stack([block.modulation.kernel for block in blocks]), condition.dtype)
    bias = ops.cast(ops.stack([block.modulation.bias for block in blocks]), condition.dtype)
    return ops.einsum("bd,lde->lbe", condition, kernel) + bias[:, None]
