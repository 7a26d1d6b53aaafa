"""Weights of the authors' JAX code."""

import os
import re

import numpy as np

from keras_umd.layers.block import Block
from keras_umd.models.adaptation import adaptations
from keras_umd.utils.arrays import read_arrays
from keras_umd.utils.checks import require

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
    problems += [f"no finite numbers: {name}" for name in targets if name in params and not _is_finite(params[name])]
    if problems:
        raise ValueError(
            "The parameters don't fit the model; check its sizes, conditioning, num_classes and num_cls_tokens.\n"
            + "\n".join(sorted(problems))
        )
    for name, (variable, _, convert) in targets.items():
        variable.assign(convert(np.asarray(params[name])))


def _is_finite(values):
    try:
        return bool(np.isfinite(np.asarray(values).astype("float32")).all())
    except (TypeError, ValueError):  # texts
        return False


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
    patch, hidden = model.patch_size, model.hidden_dim
    channels = model.image_shape[-1]
    targets = {}

    def add(name, variable, shape=None, convert=None):
        own_shape = tuple(variable.shape)
        targets[name] = (variable, tuple(shape or own_shape), convert or (lambda x: np.reshape(x, own_shape)))

    def add_dense(name, dense, kernel_shape=None, bias_shape=None):
        add(f"{name}.kernel", dense.kernel, kernel_shape)
        add(f"{name}.bias", dense.bias, bias_shape)

    def add_norm(name, norm):
        add(f"{name}.scale", norm.gamma)
        add(f"{name}.bias", norm.beta)

    add_dense("embedding", encoder.patch_embedding.projection, (*patch, channels, hidden))
    add("cls", encoder.cls_tokens, (1, *encoder.cls_tokens.shape))
    add("pos_embedding", encoder.position_embedding.positions, (1, model.num_patches, hidden))
    add("dec_pos_embedding", decoder.position_embedding.positions, (1, model.num_patches, hidden))
    add("image_mask_embedding", decoder.mask_token, (1, 1, hidden))
    if model.condition_embedding is not None:
        embeddings = {"time_trunk": model.condition_embedding.timestep_embedding}
        if model.num_classes is not None:
            embeddings["label_trunk"] = model.condition_embedding.label_embedding
            add("label_emb.embedding.embedding", embeddings["label_trunk"].table)
        for name, embedding in embeddings.items():
            add_dense(f"{name}.Dense_0", embedding.hidden)
            add_dense(f"{name}.Dense_1", embedding.output_projection)
    for stack_name, stack in (("Encoder", encoder), ("Decoder", decoder)):
        heads = (stack.num_heads, hidden // stack.num_heads)
        for i, block in enumerate(stack.blocks):
            prefix = f"{stack_name}.Encoder1DBlock_{i}"
            add_norm(f"{prefix}.LayerNorm_0", block.attention_norm)
            add_norm(f"{prefix}.LayerNorm_1", block.mlp_norm)
            attention = f"{prefix}.MultiHeadDotProductAttention_0"
            for name in ("query", "key", "value"):
                add_dense(f"{attention}.{name}", getattr(block.attention, name), (hidden, *heads), heads)
            add_dense(f"{attention}.out", block.attention.output_projection, (*heads, hidden))
            add_dense(f"{prefix}.MlpBlock_0.Dense_0", block.mlp_hidden)
            add_dense(f"{prefix}.MlpBlock_0.Dense_1", block.mlp_output)
            if block.conditioning == "adaln_zero":
                add_dense(f"{prefix}.Dense_0", block.modulation)
        add_norm(f"{stack_name}.encoder_norm", stack.norm)
    if decoder.head.conditioning == "adaln_zero":
        add_dense("final_modulation", decoder.head.modulation)
    add("final_conv.bias", decoder.head.bias)
    # flax's transposed convolution runs over a patch backwards: both spatial axes are flipped.
    add(
        "final_conv.kernel",
        decoder.head.projection.kernel,
        (*patch, hidden, 2 * channels),
        lambda x: np.transpose(x[::-1, ::-1], (2, 0, 1, 3)).reshape(hidden, -1),
    )
    return targets
