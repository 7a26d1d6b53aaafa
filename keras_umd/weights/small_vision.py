"""Weights of the authors' JAX code."""

import os
import re

import numpy as np

from keras_umd.layers.block import Block
from keras_umd.models.adaptation import adaptations
from keras_umd.utils.arrays import read_arrays
from keras_umd.utils.checks import require
from keras_umd.weights.entries import is_finite

_SCANNED = re.compile(r"(Encoder|Decoder)\.ScanCheckpointEncoder1DBlock_0\.(.+)")


def load_small_vision(model, params):
    """Load the parameters of a model trained with the authors' code (small-vision) into a `UMD` of the same sizes.

    Checkpoints whose blocks are stacked (`scan=True`) work too. Nothing is assigned unless everything fits.

    Example:

    >>> params = np.load("umd_base.npz")                                                                # doctest: +SKIP
    >>> keras_umd.weights.load_small_vision(model, params)                                              # doctest: +SKIP

    Args:
        model: `UMD`, with the checkpoint's sizes, conditioning, classes and `num_cls_tokens` (the authors use 4).
        params: Path of an `.npz` file, or dictionary of arrays, with flat names such as
            `"Encoder.Encoder1DBlock_0.MlpBlock_0.Dense_0.kernel"` (`/` may stand for `.`).

    Raises:
        ValueError: naming every entry that is missing, unknown, of a wrong shape or not finite; for a file that is
            damaged; and for a model of data with other than two space axes.
    """
    require(hasattr(model, "network_layers"), "`model` must be a keras_umd.UMD.", model=model)
    require(
        isinstance(params, (str, os.PathLike, dict)) and params != "",
        "`params` must be the path of an .npz file, or a dictionary of arrays.",
        params=params,
    )
    require(
        len(model.patch_size) == 2,
        "The authors' models are of images, with two space axes.",
        f"a model with patch_size={model.patch_size}",
    )
    require(model.block == Block(), "The authors' models have the default `block`.", block=model.block)
    require(not adaptations(model.network_layers()), "Load the parameters before LoRA or quantisation.", f"{model!r}")
    if isinstance(params, (str, os.PathLike)):
        params = read_arrays(params, "Take a copy of it from elsewhere")
    params = _unstacked({name.replace("/", ".").removeprefix("params."): value for name, value in params.items()})
    targets = _targets(model)
    problems = [f"missing: {name}" for name in targets if name not in params]
    problems += [f"unknown: {name}" for name in params if name not in targets]
    problems += [
        f"shape of {name}: {np.shape(params[name])} instead of {shape}"
        for name, (_, shape, _) in targets.items()
        if name in params and np.shape(params[name]) != shape
    ]
    problems += [f"no finite numbers: {name}" for name in targets if name in params and not is_finite(params[name])]
    if problems:
        raise ValueError(
            "The parameters don't fit the model; check its sizes, conditioning, num_classes and num_cls_tokens.\n"
            + "\n".join(sorted(problems))
        )
    for name, (variable, _, convert) in targets.items():
        variable.assign(convert(np.asarray(params[name])))


def _unstacked(params):
    result = {}
    for name, value in params.items():
        match = _SCANNED.fullmatch(name)
        if match is None:
            result[name] = value
        else:
            result |= {f"{match[1]}.Encoder1DBlock_{i}.{match[2]}": x for i, x in enumerate(np.asarray(value))}
    return result


def _targets(model):
    """For each of the authors' names: our variable, the shape of theirs, and how theirs becomes ours."""
    encoder, decoder = model.encoder, model.decoder
    patch, channels, hidden = model.patch_size, model.image_shape[-1], model.hidden_dim
    positions = (1, model.num_patches, hidden)
    targets = {
        **_dense("embedding", encoder.patch_embedding.projection, (*patch, channels, hidden)),
        "cls": _target(encoder.cls_tokens, (1, *encoder.cls_tokens.shape)),
        "pos_embedding": _target(encoder.position_embedding.positions, positions),
        "dec_pos_embedding": _target(decoder.position_embedding.positions, positions),
        "image_mask_embedding": _target(decoder.mask_token, (1, 1, hidden)),
        **_condition(model),
        **_stack("Encoder", encoder, hidden),
        **_stack("Decoder", decoder, hidden),
        "final_conv.bias": _target(decoder.head.bias),
        # flax's transposed convolution runs over a patch backwards: both spatial axes are flipped.
        "final_conv.kernel": _target(
            decoder.head.projection.kernel,
            (*patch, hidden, 2 * channels),
            lambda x: np.transpose(x[::-1, ::-1], (2, 0, 1, 3)).reshape(hidden, -1),
        ),
    }
    if decoder.head.conditioning == "adaln_zero":
        targets |= _dense("final_modulation", decoder.head.modulation)
    return targets


def _target(variable, shape=None, convert=None):
    own_shape = tuple(variable.shape)
    return variable, tuple(shape or own_shape), convert or (lambda x: np.reshape(x, own_shape))


def _dense(name, dense, kernel_shape=None, bias_shape=None):
    return {f"{name}.kernel": _target(dense.kernel, kernel_shape), f"{name}.bias": _target(dense.bias, bias_shape)}


def _norm(name, norm):
    return {f"{name}.scale": _target(norm.gamma), f"{name}.bias": _target(norm.beta)}


def _condition(model):
    """The embeddings of timestep and label."""
    if model.condition_embedding is None:
        return {}
    targets, embeddings = {}, {"time_trunk": model.condition_embedding.timestep_embedding}
    if model.num_classes is not None:
        embeddings["label_trunk"] = model.condition_embedding.label_embedding
        targets["label_emb.embedding.embedding"] = _target(embeddings["label_trunk"].table)
    for name, embedding in embeddings.items():
        targets |= _dense(f"{name}.Dense_0", embedding.hidden)
        targets |= _dense(f"{name}.Dense_1", embedding.output_projection)
    return targets


def _stack(name, network, hidden):
    """The blocks of the encoder or of the decoder, and the norm behind them."""
    targets, heads = {}, (network.num_heads, hidden // network.num_heads)
    for i, block in enumerate(network.blocks):
        prefix = f"{name}.Encoder1DBlock_{i}"
        attention = f"{prefix}.MultiHeadDotProductAttention_0"
        targets |= _norm(f"{prefix}.LayerNorm_0", block.attention_norm)
        targets |= _norm(f"{prefix}.LayerNorm_1", block.mlp_norm)
        for part in ("query", "key", "value"):
            targets |= _dense(f"{attention}.{part}", getattr(block.attention, part), (hidden, *heads), heads)
        targets |= _dense(f"{attention}.out", block.attention.output_projection, (*heads, hidden))
        targets |= _dense(f"{prefix}.MlpBlock_0.Dense_0", block.mlp_hidden)
        targets |= _dense(f"{prefix}.MlpBlock_0.Dense_1", block.mlp_output)
        if block.conditioning == "adaln_zero":
            targets |= _dense(f"{prefix}.Dense_0", block.modulation)
    return targets | _norm(f"{name}.encoder_norm", network.norm)
