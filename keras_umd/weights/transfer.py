"""A network that starts from the encoder of another."""

import warnings

from keras_umd.models.adaptation import plain_values
from keras_umd.utils.checks import require


def start_from(model, source, weights="average"):
    """Start a diffusion transformer from the encoder of a masked autoencoder (USP; Chu et al., 2025, section 3.3).

    What a UMD calls encoder and decoder are the first and the last blocks of one transformer: the blocks of the source
    go to those of the encoder, then to those of the decoder, as far as they reach. Patch embedding and class tokens
    are copied (these where both have as many), positions resized to the model's grid. What the source lacks stays as it
    is, such as modulations, which start at zero: the condition has no effect before it is learned.

    Between encoder and decoder, UMD has a LayerNorm and adds positions again, which a transformer in one piece doesn't:
    with `Block(encoder_norm=None, decoder_positions="masked")` the model is exactly the source's encoder, as far as its
    gates are open, and a new head.

    Example:

    >>> pretrained = keras_umd.UMD.from_preset("usp_base_patch2_latent28", num_layers=12, decoder_layers=8)
    >>> model = keras_umd.UMD.from_preset("dit_base_patch2_latent32", num_layers=8, decoder_layers=4)
    >>> weights.start_from(model, pretrained)

    Args:
        model: `UMD`, as wide as the source, and at least as deep. It is changed.
        source: `UMD` or `FeatureExtractor`.
        weights: The weights of a UMD to take: `"average"`, `"raw"` or a decay, as of `UMD.weight_values`.

    Returns:
        List of the paths of the weights that were set.

    Raises:
        ValueError: naming weights of the source that have no partner of their shape; none is set then.

    Warns:
        UserWarning: for settings of `block` that differ, such as the activation, which shapes don't show.
    """
    require(hasattr(model, "network_weights"), "`model` must be a keras_umd.UMD.", model=model)
    require(hasattr(source, "encoder"), "`source` must be a UMD or a FeatureExtractor.", source=source)
    blocks = [*model.encoder.blocks, *model.decoder.blocks]
    require(
        len(model.encoder.blocks) <= len(source.encoder.blocks) <= len(blocks),
        "The `source` must have as many blocks as the encoder of `model`, or as encoder and decoder together, or "
        "between.",
        f"{len(source.encoder.blocks)} blocks for {len(model.encoder.blocks)} and {len(blocks)}",
    )
    plain, positions = _values(source, weights), source.encoder.position_embedding.positions.path
    resized = source.encoder.position_embedding.interpolated(model.encoder.position_embedding.grid, plain[positions])
    pairs = [(model.encoder.position_embedding.positions, resized)]
    for target, layer in _layers(model, source, blocks):
        pairs += _pairs(target, layer, plain)
    if source.encoder.num_cls_tokens == model.encoder.num_cls_tokens > 0:
        pairs.append((model.encoder.cls_tokens, plain[source.encoder.cls_tokens.path]))
    misfits = [f"{variable.path} {tuple(variable.shape)}" for variable, x in pairs if tuple(variable.shape) != x.shape]
    require(not misfits, "The `source` must be as wide as `model`, and its patches as large.", misfits)
    _warn_of_other_blocks(model, source)  # not where an error says it all
    for variable, value in pairs:
        variable.assign(value)
    return [variable.path for variable, _ in pairs]


def _warn_of_other_blocks(model, source):
    """Of settings that no shape of a weight shows, as another activation: what is copied computes something else."""
    theirs, own = _without_weights(source.encoder), _without_weights(model.encoder)
    others = [f"{name}={theirs[name]!r} and {value!r}" for name, value in own.items() if theirs[name] != value]
    if others:
        warnings.warn(f"The blocks of `source` and `model` differ: {', '.join(others)}.", stacklevel=3)


def _without_weights(encoder):
    """Settings of the blocks that weights don't show."""
    block = encoder.blocks.block
    return {
        "num_heads": encoder.num_heads,
        "mlp": block.mlp,
        "norm": block.norm,
        "epsilon": block.epsilon,
        "mlp_epsilon": block.epsilon if block.mlp_epsilon is None else block.mlp_epsilon,
        "rope_theta": block.rope_theta if block.rope else None,
    }


def _layers(model, source, blocks):
    """Pairs of layers, of the model and of the source."""
    pairs = list(zip(blocks, source.encoder.blocks, strict=False))
    pairs.append((model.encoder.blocks, source.encoder.blocks))  # registers, which belong to the stack
    pairs.append((model.encoder.patch_embedding, source.encoder.patch_embedding))
    ends_in_encoder = len(source.encoder.blocks) == len(model.encoder.blocks)  # else the norm would be in between
    if source.encoder.norm is None:
        return pairs
    if ends_in_encoder and model.encoder.norm is not None:
        pairs.append((model.encoder.norm, source.encoder.norm))
    elif len(source.encoder.blocks) == len(blocks):
        pairs.append((model.decoder.norm, source.encoder.norm))
    return pairs


def _pairs(target, layer, plain):
    """Pairs of a variable and its value, by their names in two layers alike."""
    known = {variable.path.removeprefix(target.path): variable for variable in target.weights}
    given = {path.removeprefix(layer.path): x for path, x in plain.items() if path.startswith(f"{layer.path}/")}
    lost = sorted(set(given) - set(known))
    require(not lost, "The `source` has weights that `model` has no place for; take one of the same `block`.", lost)
    return [(known[name], value) for name, value in given.items()]


def _values(source, weights):
    """The values of the source's encoder, by path."""
    own = source.encoder.weights
    if not hasattr(source, "weight_values"):
        return plain_values([source.encoder], {id(variable): variable.value for variable in own})
    values = dict(zip(map(id, source.network_weights), source.weight_values(weights), strict=True))
    return plain_values([source.encoder], values)
