"""The encoder of a ViT in the file of another codebase: its sizes, its settings here, and its weights."""

import dataclasses
import math
import operator
import re

import numpy as np

from keras_umd.layers.block import Block, as_block
from keras_umd.layers.embeddings import PositionEmbedding
from keras_umd.layers.patches import patch_grid
from keras_umd.models.arguments import is_shape
from keras_umd.utils.checks import check_integers, require
from keras_umd.weights import standardized as images
from keras_umd.weights.vit_names import Names, block_arrays, block_shapes, names_of, num_blocks

# Parts of a block by the keys of `vit_names`, and ours.
LAYERS = {
    "norm1": "attention_norm",
    "query": "attention.query",
    "key": "attention.key",
    "value": "attention.value",
    "output": "attention.output_projection",
    "norm2": "mlp_norm",
    "hidden": "mlp_hidden",
    "mlp_output": "mlp_output",
}
# Of the published sizes; a file doesn't tell.
HEADS = {192: 3, 384: 6, 768: 12, 1024: 16, 1280: 16, 1408: 16, 1536: 24}
# Settings of a `Block` that are no weights: whoever loads a file may choose them.
FREE = ("mlp", "epsilon", "positions")
REASONS = {
    r"(^|\.)mlp\.(w12|w3|w1|w2|weights_in|weights_out|fc1_g|fc1_x|norm)\.": "another MLP than two matrices",
    r"\.(q_norm|k_norm)\.": "a LayerNorm of queries and keys; `Block(qk_norm=True)` is RMSNorm",
    r"relative_position|rel_pos": "relative positions",
    r"^(norm_pre|patch_embed\.norm|pre_layrnorm)\.": "a LayerNorm before the blocks",
    r"^fc_norm\.": "a LayerNorm behind the mean over the patches, which here lies before it",
    r"^attn_pool\.|^head\.(probe|attention)": "attention pooling",
    r"^decoder": "a decoder, which weights.from_mae reads",
}


def reason_of(name):
    """Why an entry of this name is refused, or `None`."""
    return next((reason for pattern, reason in REASONS.items() if re.search(pattern, name)), None)


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What the arrays of an encoder tell of it.

    Args:
        names: `Names`.
        width, depth, channels: Integers.
        patch_size: Tuple of integers.
        cls_tokens: Tuple of the names of the tokens in front that there are.
        registers: The name of the registers, or `None`.
        num_registers, num_positions: Integers.
        has_biases, has_scales: Bools.
    """

    names: Names
    width: int
    depth: int
    channels: int
    patch_size: tuple
    cls_tokens: tuple
    registers: str | None
    num_registers: int
    num_positions: int
    has_biases: bool
    has_scales: bool


def sizes_of(arrays):
    """The `Sizes` of an encoder, from its arrays without outer names; a ValueError where it is none."""
    names = names_of(arrays)
    require(
        names is not None,
        "The file must hold the blocks of a ViT by the names of timm, facebookresearch or transformers.",
        f"arrays named {sorted(arrays)[:5]}",
    )
    patch, positions = arrays.get(f"{names.patch}.weight"), arrays.get(names.positions)
    for name, array, axes in ((f"{names.patch}.weight", patch, 4), (names.positions, positions, 3)):
        received = "none" if array is None else f"one of shape {tuple(array.shape)}"
        require(array is not None and array.ndim == axes, f"There must be an array {name} of {axes} axes.", received)
    first = f"{names.blocks}0."
    attention = names.block.get("qkv", names.block.get("query"))
    registers = next((name for name in names.registers if name in arrays), None)
    require(registers is None or arrays[registers].ndim == 3, f"{registers} must have 3 axes.", registers=registers)
    return Sizes(
        names=names,
        width=patch.shape[0],
        depth=num_blocks(arrays, names.blocks),
        channels=patch.shape[1],
        patch_size=tuple(patch.shape[2:]),
        cls_tokens=tuple(name for name in names.cls_tokens if name in arrays),
        registers=registers,
        num_registers=0 if registers is None else arrays[registers].shape[1],
        num_positions=positions.shape[1],
        has_biases=f"{first}{attention}.bias" in arrays,
        has_scales=first + names.block.get("scale1", "none") in arrays,
    )


def encoder_shapes(sizes):
    """The shapes of all arrays of an encoder, by name."""
    names, width = sizes.names, sizes.width
    shapes = {
        f"{names.patch}.weight": (width, sizes.channels, *sizes.patch_size),
        f"{names.patch}.bias": (width,),
        **dict.fromkeys(sizes.cls_tokens, (1, 1, width)),
        names.positions: (1, sizes.num_positions, width),
        **{f"{names.norm}.{kind}": (width,) for kind in ("weight", "bias")},
    }
    if sizes.registers is not None:
        shapes[sizes.registers] = (1, sizes.num_registers, width)
    for number in range(sizes.depth):
        shapes |= block_shapes(names, f"{names.blocks}{number}.", width, sizes.has_biases, sizes.has_scales)
    return shapes


def grid_of(sizes, image_shape):
    """The grid of the file's positions: that of `image_shape` where it fits, or a square one.

    Returns:
        Pair of the grid and of the number of positions before it, of class tokens and registers.
    """
    tokens = len(sizes.cls_tokens)
    require(
        image_shape is None or is_shape(image_shape),
        "`image_shape` must be (height, width, channels), positive integers, or None for the file's.",
        image_shape=image_shape,
    )
    possible = [sizes.num_positions - before for before in dict.fromkeys((tokens, 0, tokens + sizes.num_registers))]
    if image_shape is not None and len(image_shape) == 3:
        grid = patch_grid(image_shape, sizes.patch_size)
        if math.prod(grid) in possible:
            return grid, sizes.num_positions - math.prod(grid)
    squares = [number for number in possible if number > 0 and math.isqrt(number) ** 2 == number]
    require(
        squares,
        "The patches of the file aren't those of a square image; give the `image_shape` that it was trained on.",
        f"{sizes.num_positions} positions, {tokens} class tokens, {sizes.num_registers} registers",
    )
    return (math.isqrt(squares[0]),) * 2, sizes.num_positions - squares[0]


def heads_of(width, num_heads, name="num_heads"):
    """The number of heads, as given or of the published size of this width."""
    check_integers(1, optional=True, **{name: num_heads})
    require(
        num_heads is not None or width in HEADS,
        f"A file doesn't tell how many heads there are, and no published network is {width} wide: give `{name}`.",
        **{name: num_heads},
    )
    return HEADS[width] if num_heads is None else int(num_heads)


def shape_of(sizes, grid, image_shape):
    """The shape of the images, `image_shape` if given, checked."""
    own = (*(number * size for number, size in zip(grid, sizes.patch_size, strict=True)), sizes.channels)
    if image_shape is None:
        return own
    require(
        len(image_shape) == len(own) and image_shape[-1] == sizes.channels,
        f"`image_shape` must be (height, width, {sizes.channels}), as the file's {own}.",
        image_shape=image_shape,
    )
    return tuple(image_shape)


def block_of(sizes, block, **settings):
    """The `Block` of the file's network, by default exact; a given one may choose what isn't a weight."""
    own = {"mlp": "exact_gelu", "epsilon": sizes.names.epsilon, "registers": sizes.num_registers, **settings}
    own = Block(**own, layer_scale=1.0 if sizes.has_scales else None)
    if block is None:
        return own
    block = as_block(block)
    free = {name: getattr(own, name) for name in FREE}
    require(
        block.replaced(**free) == own and block.mlp != "swiglu",
        f"`block` may choose {FREE}, of two matrices, and must otherwise be that of the file, {own}.",
        block=block,
    )
    return block


def assign_encoder(encoder, arrays, sizes, grid, before, pair):
    """Give an encoder the weights of a file.

    Args:
        encoder: `Encoder`.
        arrays: Dictionary of float32 arrays.
        sizes: `Sizes`.
        grid: Tuple of integers, that of the file's positions.
        before: Integer, positions in front of those of the patches.
        pair: Means and deviations of the images, in the encoder's range, or `None`.
    """
    names = sizes.names
    kernel = arrays[f"{names.patch}.weight"].transpose(2, 3, 1, 0).reshape(-1, sizes.width)
    bias = arrays[f"{names.patch}.bias"]
    if pair is not None:
        kernel, bias = images.folded(kernel, bias, *pair)
    encoder.patch_embedding.projection.kernel.assign(kernel)
    encoder.patch_embedding.projection.bias.assign(bias)
    positions = arrays[names.positions][0]
    in_front = [arrays[name][0] for name in (*sizes.cls_tokens, sizes.registers) if name is not None]
    in_front = np.concatenate([*in_front, np.zeros((0, sizes.width), "float32")])
    in_front[:before] += positions[:before]  # such a place is the same in all images: it is a part of the token
    if sizes.cls_tokens:
        encoder.cls_tokens.assign(in_front[: len(sizes.cls_tokens)])
    if sizes.num_registers:
        encoder.blocks.registers.assign(in_front[len(sizes.cls_tokens) :])
    assign_positions(encoder.position_embedding, positions[before:], grid)
    for number, block in enumerate(encoder.blocks):
        assign_block(block, block_arrays(names, f"{names.blocks}{number}.", arrays))
    assign_norm(encoder.norm, arrays, names.norm)


def assign_positions(embedding, positions, grid):
    """Positions of a grid, interpolated bicubically where the embedding has another."""
    if embedding.grid != grid:
        positions = PositionEmbedding(grid).interpolated(embedding.grid, positions)
    embedding.positions.assign(positions)


def assign_norm(norm, arrays, name):
    norm.gamma.assign(arrays[f"{name}.weight"])
    norm.beta.assign(arrays[f"{name}.bias"])


def assign_dense(dense, arrays, name):
    """A projection from PyTorch's `(units, inputs)`; without a bias in the file, it is zero."""
    dense.kernel.assign(arrays[f"{name}.weight"].T)
    dense.bias.assign(arrays.get(f"{name}.bias", np.zeros(dense.bias.shape, "float32")))


def assign_block(block, arrays):
    """Give a block its weights, of `block_arrays`; one with AdaLN becomes the plain block, until it is trained."""
    for part, path in LAYERS.items():
        assign = assign_norm if part.startswith("norm") else assign_dense
        assign(operator.attrgetter(path)(block), arrays, part)
    if "scale1" in arrays:
        block.attention_scale.assign(arrays["scale1"])
        block.mlp_scale.assign(arrays["scale2"])
    if block.conditioning == "adaln_zero":
        width = len(arrays["norm1.weight"])
        block.modulation.kernel.assign(np.zeros(block.modulation.kernel.shape, "float32"))
        # Shift, scale and gate of attention, then of the MLP.
        block.modulation.bias.assign(np.repeat(np.array([0, 0, 1, 0, 0, 1], "float32"), width))
