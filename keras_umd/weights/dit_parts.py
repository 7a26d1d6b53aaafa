"""The arrays of a diffusion transformer at their places in a `UMD`."""

import numpy as np

from keras_umd.weights.vit_names import ATTENTION


def assign_linear(dense, arrays, name, rows=None, sign=1.0):
    """A linear map of PyTorch `(units, inputs)`; `rows` are the outputs to take, in their order."""
    rows = slice(None) if rows is None else rows
    weight = sign * np.asarray(arrays[f"{name}.weight"])
    dense.kernel.assign(weight.reshape(len(weight), -1)[rows].T)
    if dense.bias is not None:
        dense.bias.assign(sign * arrays[f"{name}.bias"][rows])


def assign_patch(projection, arrays, name):
    """A convolution over patches `(units, channels, *patch_size)`: the channels are last in ours."""
    weight = np.moveaxis(arrays[f"{name}.weight"], 1, -1)
    projection.kernel.assign(weight.reshape(len(weight), -1).T)
    if projection.bias is not None:
        projection.bias.assign(arrays[f"{name}.bias"])


def assign_condition(model, arrays, parts):
    """The embeddings of timestep and label."""
    embedding = model.condition_embedding
    assign_linear(embedding.timestep_embedding.hidden, arrays, parts["time_hidden"])
    assign_linear(embedding.timestep_embedding.output_projection, arrays, parts["time_output"])
    if embedding.label_embedding is not None:
        embedding.label_embedding.table.assign(arrays[parts["labels"]])


def assign_block(block, arrays, names, path, turned=False):
    """One block.

    Args:
        block: `TransformerBlock`.
        arrays: Dictionary of arrays.
        names: `Names`.
        path: String, with the block's number and a dot behind it.
        turned: Bool. Whether heads turn pairs of neighbours by their places, and not those half a head apart.
    """
    own = {part: path + name for part, name in names.block.items()}
    attention, width = block.attention, block.mlp_output.units
    order = np.arange(width)
    head_order = _neighbours_apart(width // block.num_heads)
    if turned:
        order = order.reshape(block.num_heads, -1)[:, head_order].reshape(-1)
    for i, part in enumerate(ATTENTION):
        rows = order if part != "value" else np.arange(width)
        is_joint = "qkv" in own
        assign_linear(getattr(attention, part), arrays, own["qkv" if is_joint else part], rows + is_joint * i * width)
    assign_linear(attention.output_projection, arrays, own["output"])
    assign_linear(block.modulation, arrays, own["modulation"])
    assign_linear(block.mlp_output, arrays, own["mlp_output"])
    if "gate_and_hidden" in own:
        hidden = block.mlp_hidden.units
        assign_linear(block.mlp_gate, arrays, own["gate_and_hidden"], slice(hidden))
        assign_linear(block.mlp_hidden, arrays, own["gate_and_hidden"], slice(hidden, None))
    else:
        assign_linear(block.mlp_hidden, arrays, own["mlp_hidden"])
    norms = {"norm1": block.attention_norm, "norm2": block.mlp_norm}
    if "query_norm" in own:
        norms |= {"query_norm": attention.query_norm, "key_norm": attention.key_norm}
    for part, norm in norms.items():
        if part in own:
            values = arrays[own[part]]
            norm.scale.assign(values[head_order] if turned and part.startswith(("query", "key")) else values)


def _neighbours_apart(head_dim):
    """The order in which the first of each pair of neighbours come first, and then the second."""
    return np.arange(head_dim).reshape(-1, 2).T.reshape(-1)


def assign_head(head, arrays, parts, used, places, sign=1.0):
    """The last layer: its modulation, and of its outputs those that are used.

    Args:
        head: `PatchHead`.
        arrays: Dictionary of arrays.
        parts: Dictionary of names.
        used: Integer, channels of the file's outputs that are used, the first of each pixel.
        places: Integer, the first channel of ours that they are; the others predict zero.
        sign: Float that theirs are multiplied by, -1 for a prediction that is minus theirs.
    """
    assign_linear(head.modulation, arrays, parts["head_modulation"])
    weight, bias = (np.asarray(arrays[f"{parts['head']}.{kind}"]) for kind in ("weight", "bias"))
    pixels = head.bias.shape[0] // head.channels
    kernel = np.zeros((weight.shape[1], pixels, head.channels), "float32")
    biases = np.zeros((pixels, head.channels), "float32")
    own = slice(places, places + used)
    kernel[..., own] = sign * weight.T.reshape(weight.shape[1], pixels, -1)[..., :used]
    biases[..., own] = sign * bias.reshape(pixels, -1)[..., :used]
    head.projection.kernel.assign(kernel.reshape(len(kernel), -1))
    head.bias.assign(biases.reshape(-1))


def assign_positions(embedding, positions):
    """Fixed positions, those of the file."""
    embedding.positions.assign(np.asarray(positions).reshape(embedding.positions.shape))
