"""What the codebases of diffusion transformers call their parts, and the shapes that these must have."""

import dataclasses
import math
import re

import numpy as np

from keras_umd.utils.checks import require
from keras_umd.weights.vit_names import ATTENTION

_PARTS = {
    "patch": "x_embedder.proj",
    "time_hidden": "t_embedder.mlp.0",
    "time_output": "t_embedder.mlp.2",
    "labels": "y_embedder.embedding_table.weight",
    "positions": "pos_embed",
    "head_modulation": "final_layer.adaLN_modulation.1",
    "head": "final_layer.linear",
}
_BLOCK = {
    "modulation": "adaLN_modulation.1",
    "qkv": "attn.qkv",
    "output": "attn.proj",
    "mlp_hidden": "mlp.fc1",
    "mlp_output": "mlp.fc2",
}
_MASKDIT = {
    "between": "decoder_layer.linear",
    "between_modulation": "decoder_layer.adaLN_modulation.1",
    "decoder_positions": "decoder_pos_embed",
    "mask_token": "mask_token",
}
_EMBEDDER = "norm1.emb."


@dataclasses.dataclass(frozen=True)
class Names:
    """How a codebase calls the parts of a diffusion transformer.

    Args:
        blocks: String, the path of the blocks before their number.
        parts: Dictionary from the parts of this module to names.
        block: Dictionary of the parts of a block.
        repeated: Dictionary from names in each block, after the first, to the names that they must be equal to.
    """

    blocks: str
    parts: dict
    block: dict
    repeated: dict = dataclasses.field(default_factory=dict)


FACEBOOK = Names("blocks.", _PARTS, _BLOCK)
MASKDIT = Names("blocks.", {**_PARTS, **_MASKDIT}, _BLOCK)
JIT = Names(
    "blocks.",
    {
        **{part: name for part, name in _PARTS.items() if part != "patch"},
        "reduction": "x_embedder.proj1",
        "projection": "x_embedder.proj2",
        "context_positions": "in_context_posemb",
        "head_norm": "final_layer.norm_final.weight",
    },
    {
        **{part: name for part, name in _BLOCK.items() if not part.startswith("mlp")},
        "gate_and_hidden": "mlp.w12",
        "mlp_output": "mlp.w3",
        "norm1": "norm1.weight",
        "norm2": "norm2.weight",
        "query_norm": "attn.q_norm.weight",
        "key_norm": "attn.k_norm.weight",
    },
)
_FIRST = "transformer_blocks.0."
DIFFUSERS = Names(
    "transformer_blocks.",
    {
        "patch": "pos_embed.proj",
        "time_hidden": f"{_FIRST}{_EMBEDDER}timestep_embedder.linear_1",
        "time_output": f"{_FIRST}{_EMBEDDER}timestep_embedder.linear_2",
        "labels": f"{_FIRST}{_EMBEDDER}class_embedder.embedding_table.weight",
        "positions": "pos_embed.pos_embed",  # in files of its older versions
        "head_modulation": "proj_out_1",
        "head": "proj_out_2",
    },
    {
        "modulation": "norm1.linear",
        **{part: f"attn1.to_{part[0]}" for part in ATTENTION},
        "output": "attn1.to_out.0",
        "mlp_hidden": "ff.net.0.proj",
        "mlp_output": "ff.net.2",
    },
    repeated={
        f"{_EMBEDDER}{name}": f"{_FIRST}{_EMBEDDER}{name}"
        for name in (
            *(f"timestep_embedder.linear_{i}.{kind}" for i in (1, 2) for kind in ("weight", "bias")),
            "class_embedder.embedding_table.weight",
        )
    },
)


def network_of(arrays):
    """The arrays of one network in a checkpoint, by the names that they have in the network alone.

    Of several networks in a file the one of moving averages is taken; what lies beside it, as an optimizer's state, is
    left out.
    """
    pattern = re.compile(r"((?:[\w-]+\.)*?)(?:transformer_)?blocks\.0\.")
    found = {match[1] for match in map(pattern.match, arrays) if match}
    require(found, "There must be blocks of a transformer, `blocks.0...` or `transformer_blocks.0...`.", [*arrays][:3])
    prefix = min(found, key=lambda name: ("ema" not in name, len(name), name))
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}


def array_of(arrays, name, rank, what):
    """An array from which sizes are read.

    Raises:
        ValueError: if it isn't there, or has another number of axes.
    """
    require(name in arrays, f"The weights aren't those of {what}.\nmissing: {name}", f"{len(arrays)} other entries")
    shape = np.shape(arrays[name])
    is_right = len(shape) == rank and 0 not in shape
    require(is_right, f"The weights aren't those of {what}.\nshape of {name}: it must have {rank} axes.", shape)
    return arrays[name]


def linear_shapes(name, units, inputs):
    """The shapes of the two arrays of a linear map of PyTorch."""
    return {f"{name}.weight": (units, inputs), f"{name}.bias": (units,)}


def block_shapes(names, path, width, condition_dim, hidden, head_dim=None):
    """The shapes of the arrays of one block, by name.

    Args:
        names: `Names`.
        path: String, with the block's number and a dot behind it.
        width, condition_dim, hidden: Integers, of tokens, of the condition and of the MLP.
        head_dim: Integer, the width of a head, where its queries are normalised.
    """
    linear = {
        "modulation": (6 * width, condition_dim),
        "qkv": (3 * width, width),
        **dict.fromkeys((*ATTENTION, "output"), (width, width)),
        "mlp_hidden": (hidden, width),
        "gate_and_hidden": (2 * hidden, width),
        "mlp_output": (width, hidden),
    }
    vectors = {"norm1": width, "norm2": width, "query_norm": head_dim, "key_norm": head_dim}
    shapes = {}
    for part, name in names.block.items():
        if part in linear:
            shapes |= linear_shapes(path + name, *linear[part])
        else:
            shapes[path + name] = (vectors[part],)
    return shapes


def repeated_shapes(names, arrays, depth):
    """The shapes of what each block after the first repeats, by name."""
    return {
        f"{names.blocks}{i}.{name}": np.shape(arrays[first])
        for i in range(1, depth)
        for name, first in names.repeated.items()
        if first in arrays
    }


def check_repeated(names, arrays, depth):
    """Raise a ValueError where blocks embed the timestep or the label otherwise than the first one."""
    others = [
        f"{names.blocks}{i}.{name}"
        for i in range(1, depth)
        for name, first in names.repeated.items()
        if not np.array_equal(arrays[f"{names.blocks}{i}.{name}"], arrays[first])
    ]
    require(
        not others,
        "The blocks of a DiT share their embeddings of timestep and label; diffusers writes them into each block, and "
        "they must be equal, as in its conversions of DiT. Others are those of a model that diffusers trained, or made "
        "at random.",
        others[:3],
    )


def square_grid(number, name):
    """`(n, n)` for a number of patches."""
    side = math.isqrt(number)
    require(side * side == number, f"`{name}` must be positions of a square grid.", f"{number} positions")
    return side, side
