"""Rows of several images: one of each view, one behind the other, run through the network as one.

Dense layers and norms don't ask whose tokens they see: they run once over the row, with half as many matrix products of
twice the size where there are two views. Tokens attend to those of their own image. So the outputs are those of views
that run one after the other, and weights and files know nothing of it.
"""

import functools

from keras import ops

from keras_umd.backend.kernels import jax_platform
from keras_umd.layers.block import Block
from keras_umd.utils.checks import check_bools, require

ALONE = {"hidden", "levels", "unplaced", "noisy_images"}  # what a view can't have in a row
TPU_TILE = 128  # the attention kernel of TPUs pads the tokens of a row to a multiple of it


def checked(pack, block, decoder=None):
    """The setting `pack`, checked: `True`, `False` or `None`, and `True` only where the `Block` can be of rows."""
    check_bools(optional=True, pack=pack)
    require(not pack or decoder is None, "Rows of several images need the paper's decoder.", pack=pack, decoder=decoder)
    require(
        not pack or _is_for_rows(block),
        "Rows of several images need the paper's `block`, without added tokens, rotations or another norm.",
        pack=pack,
        block=block,
    )
    return None if pack is None else bool(pack)


def _is_for_rows(block):
    """Whether nothing in the blocks but attention asks whose a token is."""
    other = {"qk_norm": False, "mlp": "gelu", "bottleneck": None}
    other |= {"epsilon": Block().epsilon, "layer_scale": None, "positions": "learned"}
    return block.replaced(**other) == Block()


def predict_views(model, views):
    """The network's outputs for each view, a dictionary, as of `UMD.predict_view`.

    Args:
        model: `UMD`.
        views: Dictionary of dictionaries of tensors, as of `UMD.make_views`.
    """
    read, outputs = model.objective.reads, {}
    for names in _rows(model, views):
        if len(names) == 1:
            outputs[names[0]] = model.predict_view(views[names[0]], read(names[0]))
        else:
            of_row = _predict_row(model, [views[name] for name in names], [read(name) for name in names])
            outputs.update(zip(names, of_row, strict=True))
    return {name: outputs[name] for name in views}


def _rows(model, views):
    """The names of the views that share rows, a list of lists; a view that runs alone is in a list of its own.

    Views share rows if their shares of the batch are equal and something of each is decoded.
    """
    shares, groups = {view.name: view.share for view in model.corruption.views}, {}
    for name in views:
        is_decoded = model.objective.reads(name) != {} and ALONE.isdisjoint(views[name])
        groups.setdefault(shares.get(name, name) if is_decoded else name, []).append(name)
    rows = []
    for names in groups.values():
        is_row = len(names) > 1 and _is_packed(model, [views[name] for name in names])
        rows += [names] if is_row else [[name] for name in names]
    return rows


def _is_packed(model, views):
    """Whether views whose shares are equal run as rows: as `pack` says, or where the device has less to compute."""
    if model.pack is not None or not _is_for_rows(model.block) or not model.decoder.takes_rows:
        return bool(model.pack)
    beside = model.encoder.num_cls_tokens + (model.conditioning == "token")
    lengths = [beside + (view["visible"].shape[1] if "visible" in view else model.num_patches) for view in views]
    return jax_platform() == "tpu" and padded(sum(lengths)) < sum(map(padded, lengths))


def padded(length):
    """The tokens that a TPU computes attention of, for an integer `length`."""
    return -(-length // TPU_TILE) * TPU_TILE


def _predict_row(model, views, read):
    counts = [ops.shape(view["images"])[0] for view in views]
    is_known = all(isinstance(count, int) for count in counts)
    if is_uneven := not is_known or len(set(counts)) > 1:
        largest = max(counts) if is_known else functools.reduce(ops.maximum, counts)
        views = [_filled_up(view, largest - count) for view, count in zip(views, counts, strict=True)]
    visible, masked = ([view.get(name) for view in views] for name in ("visible", "masked"))
    condition = _condition(model, views)
    images = [view["images"] for view in views]
    pairs = model.encoder(images, condition=condition, visible=visible)
    representation, tokens = map(list, zip(*pairs, strict=True))
    predictions = model.decoder(representation, tokens, condition=condition, visible=visible, masked=masked, read=read)
    outputs = [
        {**predicted, "representation": pair[0], "tokens": pair[1]}
        for predicted, pair in zip(predictions, pairs, strict=True)
    ]
    if not is_uneven:
        return outputs
    return [{name: x[:count] for name, x in output.items()} for output, count in zip(outputs, counts, strict=True)]


def _filled_up(view, number):
    """A view with so many black images more, whose outputs nobody reads.

    Of an odd batch one view has an image less, and TensorFlow traces batches of unknown size.
    """
    return {name: ops.concatenate([x, ops.zeros((number, *x.shape[1:]), x.dtype)]) for name, x in view.items()}


def _condition(model, views):
    """The conditions of all images, `(batch * views, hidden_dim)`, those of a row one after the other."""
    conditions = [model.condition(view["timesteps"], view.get("labels"), view.get("label_drop")) for view in views]
    if conditions[0] is None:
        return None
    return ops.reshape(ops.stack(conditions, axis=1), (-1, conditions[0].shape[-1]))
