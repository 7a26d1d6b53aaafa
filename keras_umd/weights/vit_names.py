"""What the codebases of ViTs call its parts: timm, facebookresearch and transformers."""

import dataclasses
import re

import numpy as np

from keras_umd.utils.checks import require

ATTENTION = ("query", "key", "value")
_TIMM = {
    "norm1": "norm1",
    "qkv": "attn.qkv",
    "output": "attn.proj",
    "norm2": "norm2",
    "hidden": "mlp.fc1",
    "mlp_output": "mlp.fc2",
    "scale1": "ls1.gamma",
    "scale2": "ls2.gamma",
}
_DINO_MLP = {
    "norm1": "norm1",
    "norm2": "norm2",
    "hidden": "mlp.fc1",
    "mlp_output": "mlp.fc2",
    "scale1": "layer_scale1.lambda1",
    "scale2": "layer_scale2.lambda1",
}
# Of files on the hub, and of the models of version 5, whose names are others.
_HUB_ATTENTION = {
    **{name: f"attention.attention.{name}" for name in ATTENTION},
    "output": "attention.output.dense",
}
_ATTENTION_5 = {**{name: f"attention.{name[0]}_proj" for name in ATTENTION}, "output": "attention.o_proj"}
_NORMS = {"norm1": "layernorm_before", "norm2": "layernorm_after"}
_HUB = {**_HUB_ATTENTION, **_NORMS, "hidden": "intermediate.dense", "mlp_output": "output.dense"}
_VERSION_5 = {**_ATTENTION_5, **_NORMS, "hidden": "mlp.fc1", "mlp_output": "mlp.fc2"}


@dataclasses.dataclass(frozen=True)
class Names:
    """How one codebase calls the parts of a ViT; parts of a block by `_TIMM`'s keys, or with `ATTENTION` for `qkv`.

    Args:
        codebase: String.
        blocks: String, the path of the blocks, before their number.
        block: Dictionary of the parts of a block.
        patch, positions, norm: Strings.
        cls_tokens, registers: Tuples of strings, in the order of the tokens; `registers` are alternatives.
        epsilon: Float, that of its LayerNorms.
        decoder: String, the path of a decoder's parts.
        decoder_blocks: String, as `blocks`.
    """

    codebase: str
    blocks: str
    block: dict
    patch: str
    positions: str
    norm: str
    cls_tokens: tuple
    registers: tuple
    epsilon: float
    decoder: str = "decoder."
    decoder_blocks: str = "decoder.decoder_layers."


def _of_transformers(blocks, block, epsilon):
    return Names(
        "transformers",
        blocks,
        block,
        patch="embeddings.patch_embeddings.projection",
        cls_tokens=("embeddings.cls_token", "embeddings.distillation_token"),
        registers=("embeddings.register_tokens",),
        positions="embeddings.position_embeddings",
        norm="layernorm",
        epsilon=epsilon,
    )


NAMES = (
    Names(
        "timm",
        "blocks.",
        _TIMM,
        patch="patch_embed.proj",
        cls_tokens=("cls_token", "dist_token"),
        registers=("reg_token", "register_tokens"),
        positions="pos_embed",
        norm="norm",
        epsilon=1e-6,
        decoder="",
        decoder_blocks="decoder_blocks.",
    ),
    _of_transformers("encoder.layer.", _HUB, 1e-12),
    _of_transformers("layers.", _VERSION_5, 1e-12),
    _of_transformers("encoder.layer.", {**_HUB_ATTENTION, **_DINO_MLP}, 1e-6),
    _of_transformers("encoder.layer.", {**_ATTENTION_5, **_DINO_MLP}, 1e-6),
)
TIMM, HUB = NAMES[0], NAMES[1]
# What holds the encoder, in checkpoints of trainings and in models with a head.
OUTER = ("module.", "model.", "vit.", "deit.", "dinov2.", "dinov2_with_registers.")


def without_outer(arrays):
    """The arrays with the names that they have in the encoder alone."""
    inner = {}
    for name, value in arrays.items():
        # So transformers 5 writes what it calls `decoder_layers`, as the files of before do.
        short = name.replace("decoder.decoder_encoder.layer.", "decoder.decoder_layers.")
        for prefix in OUTER:
            short = short.removeprefix(prefix)
        require(short not in inner, f"There must be one array {short}, in a model or in a part of it.", name=name)
        inner[short] = value
    return inner


def names_of(arrays):
    """The `Names` whose first block is there; `None` where there is none of them."""

    def number(names):
        parts = [f"{names.blocks}0.{part}" for part in names.block.values()]
        return sum(part in arrays or f"{part}.weight" in arrays for part in parts)

    best = max(NAMES, key=number)
    return best if number(best) else None


def num_blocks(arrays, path):
    """The number of blocks, counted from 0 without a gap."""
    pattern = re.compile(re.escape(path) + r"(\d{1,5})\.")
    found = {int(match[1]) for match in map(pattern.match, arrays) if match}
    return next(number for number in range(len(found) + 1) if number not in found)


def block_shapes(names, path, width, has_biases, has_scales):
    """The shapes of the arrays of one block, by name.

    Args:
        names: `Names`.
        path: String, with the block's number and a dot behind it.
        width: Integer.
        has_biases: Bool. Whether queries, keys and values have biases.
        has_scales: Bool. Whether there is a LayerScale.
    """
    outputs = {"qkv": 3 * width, "hidden": 4 * width}
    shapes = {}
    for part, name in names.block.items():
        if part.startswith("scale"):
            shapes |= {path + name: (width,)} if has_scales else {}
        elif part.startswith("norm"):
            shapes |= {f"{path}{name}.{kind}": (width,) for kind in ("weight", "bias")}
        else:
            units = outputs.get(part, width)
            shapes[f"{path}{name}.weight"] = (units, 4 * width if part == "mlp_output" else width)
            if has_biases or part not in (*ATTENTION, "qkv"):
                shapes[f"{path}{name}.bias"] = (units,)
    return shapes


def block_arrays(names, path, arrays):
    """The arrays of one block by part and kind, `"query.weight"`: queries, keys and values apart."""
    found = {}
    for part, name in names.block.items():
        for kind in ("", ".weight", ".bias"):
            if path + name + kind not in arrays:
                continue
            array = arrays[path + name + kind]
            if part == "qkv":
                found |= {f"{own}{kind}": x for own, x in zip(ATTENTION, np.split(array, 3), strict=True)}
            else:
                found[part + kind] = array
    return found


def named_block(names, path, found):
    """The arrays of one block by the codebase's names, of those that `block_arrays` gives."""
    arrays = {}
    for part, name in names.block.items():
        for kind in ("", ".weight", ".bias"):
            if part == "qkv" and kind:
                arrays[path + name + kind] = np.concatenate([found[own + kind] for own in ATTENTION])
            elif part + kind in found:
                arrays[path + name + kind] = found[part + kind]
    return arrays
