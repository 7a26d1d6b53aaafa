"""Encoders as ViTs of timm and of transformers: folders that these libraries load."""

import json
import operator
import os

import numpy as np
from keras import ops

from keras_umd.backend.processes import to_numpy
from keras_umd.layers.block import Block
from keras_umd.models.adaptation import adaptations
from keras_umd.models.feature_extractor import FeatureExtractor
from keras_umd.utils.atomic import make_folder, write_whole
from keras_umd.utils.checks import check_paths, require
from keras_umd.utils.safetensors import write_safetensors
from keras_umd.weights import standardized as images
from keras_umd.weights.vit_names import HUB, TIMM, named_block
from keras_umd.weights.vit_parts import LAYERS

WEIGHTS = "model.safetensors"
# Settings of a `Block` that these networks have, too, or that are folded into others.
FITS = {"mlp": "gelu", "epsilon": 1e-6, "layer_scale": None, "positions": "learned", "bottleneck": None}
FITS |= {"registers": 0, "cls_to_decoder": "mean", "self_conditioning": False}  # the last two are the decoder's


def to_timm(model, folder, *, standardized="half", weights="average"):
    """Write the encoder of a model as a folder from which timm makes its `VisionTransformer`.

    Its features are those of the model, to the rounding of float32. That holds with AdaLN, too: for clean images
    without a label, shift and scale become a part of the LayerNorms, and gates one of the projections before them. What
    fits: LayerNorm and two matrices for an MLP, with either GELU; LayerScale, registers, a bottleneck, no class token
    or one. Refused are conditioning by a token, which enters each block anew, and what timm's network doesn't have.

    Example:

    >>> keras_umd.weights.to_timm(model, "exports/birds")  # doctest: +SKIP
    >>> timm.create_model("local-dir:exports/birds", pretrained=True)  # in a Python with timm # doctest: +SKIP

    Args:
        model: `UMD`, whose representation it will give, or `FeatureExtractor`, of the last block and of images without
            noise.
        folder: String or path, of a folder that isn't there yet or is empty.
        standardized: How the images will be standardised that it gets, as of `from_vit`: `"half"`, in the range -1 to
            1, `"imagenet"`, or a pair. `None` is for models of latents, and for them alone.
        weights: `"average"`, `"raw"` or a decay, as of `UMD.weight_values`, of a `UMD`.

    Raises:
        ValueError: for a network that doesn't fit, with the reason.
        FileExistsError: for a folder with files in it.
    """
    check_paths(folder=folder)
    plain = _Plain(model, standardized, weights, has_scales=True)
    encoder, pooling = plain.encoder, plain.pooling
    _require(encoder.block.epsilon == 1e-6, "timm's LayerNorms have an epsilon of 1e-6", encoder.block)
    _require(encoder.num_cls_tokens < 2, "timm's network has one class token or none", encoder.num_cls_tokens)
    arrays = plain.named(TIMM) | {"pos_embed": plain.positions[None]}
    if encoder.num_cls_tokens:
        arrays["cls_token"] = plain.cls_tokens[None]
    if encoder.block.registers:
        arrays["reg_token"] = to_numpy(encoder.blocks.registers)[None]
    pool = {"cls": "token" if encoder.num_cls_tokens else "avg", "mean": "avg", None: ""}[pooling]
    settings = {
        "img_size": list(plain.image_shape[:2]),
        "patch_size": list(encoder.patch_size),
        "in_chans": plain.image_shape[2],
        "num_classes": 0,
        "embed_dim": encoder.hidden_dim,
        "depth": encoder.num_layers,
        "num_heads": encoder.num_heads,
        "class_token": encoder.num_cls_tokens > 0,
        "no_embed_class": True,
        "reg_tokens": encoder.block.registers,
        "global_pool": pool,
        "fc_norm": False,
        "act_layer": "gelu" if encoder.block.mlp == "exact_gelu" else "gelu_tanh",
        "init_values": encoder.block.layer_scale,
    }
    means, deviations = plain.moments
    data = {"input_size": [plain.image_shape[2], *plain.image_shape[:2]], "fixed_input_size": True, "num_classes": 0}
    data |= {"mean": means, "std": deviations, "first_conv": "patch_embed.proj", "classifier": "head"}
    config = {"architecture": "vit_base_patch16_224", "num_classes": 0, "model_args": settings, "pretrained_cfg": data}
    _write(folder, {"config.json": config}, arrays)


def to_transformers(model, folder, *, standardized="half", weights="average"):
    """Write the encoder of a model as a folder from which transformers makes its `ViTModel`.

    As `to_timm`, with one class token and without registers; LayerScale becomes a part of the projections before it.
    The features are `last_hidden_state`, whose first token is the representation.

    Example:

    >>> keras_umd.weights.to_transformers(model, "exports/birds")  # doctest: +SKIP
    >>> ViTModel.from_pretrained("exports/birds", add_pooling_layer=False)  # of transformers # doctest: +SKIP

    Args:
        model, folder, standardized, weights: As of `to_timm`.

    Raises:
        ValueError: for a network that doesn't fit, with the reason.
        FileExistsError: for a folder with files in it.
    """
    check_paths(folder=folder)
    plain = _Plain(model, standardized, weights, has_scales=False)
    encoder = plain.encoder
    _require(encoder.num_cls_tokens == 1, "ViTModel has one class token", encoder.num_cls_tokens)
    _require(not encoder.block.registers, "ViTModel has no registers", encoder.block)
    in_front = np.zeros((1, encoder.hidden_dim), "float32")  # the class token's place
    arrays = plain.named(HUB) | {
        "embeddings.cls_token": plain.cls_tokens[None],
        "embeddings.position_embeddings": np.concatenate([in_front, plain.positions])[None],
    }
    size, patch = (
        both[0] if both[0] == both[1] else list(both) for both in (plain.image_shape[:2], encoder.patch_size)
    )
    settings = {
        "architectures": ["ViTModel"],
        "model_type": "vit",
        "image_size": size,
        "patch_size": patch,
        "num_channels": plain.image_shape[2],
        "hidden_size": encoder.hidden_dim,
        "intermediate_size": 4 * encoder.hidden_dim,
        "num_hidden_layers": encoder.num_layers,
        "num_attention_heads": encoder.num_heads,
        "hidden_act": "gelu" if encoder.block.mlp == "exact_gelu" else "gelu_pytorch_tanh",
        "layer_norm_eps": encoder.block.epsilon,
        "qkv_bias": True,
    }
    means, deviations = plain.moments
    height, width = plain.image_shape[:2]
    processor = {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": {"height": height, "width": width},
    }
    processor |= {"do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True}
    processor |= {"image_mean": means, "image_std": deviations}
    _write(folder, {"config.json": settings, "preprocessor_config.json": processor}, arrays)


class _Plain:
    """The weights of an encoder as those of a ViT without a condition, in PyTorch's shapes."""

    def __init__(self, model, standardized, weights, has_scales):
        is_extractor = isinstance(model, FeatureExtractor)
        require(
            is_extractor or hasattr(model, "feature_extractor"),
            "`model` must be a keras_umd.UMD or a FeatureExtractor.",
            model=type(model).__name__,
        )
        extractor = model if is_extractor else model.feature_extractor(weights=weights)
        encoder = self.encoder = extractor.encoder
        self.image_shape, self.pooling = extractor.image_shape, extractor.pooling
        _check_fits(extractor)
        self.cls_tokens = to_numpy(encoder.cls_tokens) if encoder.num_cls_tokens else None
        self.positions = to_numpy(encoder.position_embedding.positions)
        self.has_scales = has_scales
        channels = self.image_shape[-1]
        pair = images.moments(standardized, channels)
        require(
            (pair is None) == (extractor.model_range is None),
            "`standardized` must be None for a model of latents, which takes what it gets, and for no other.",
            standardized=standardized,
            value_range=extractor.model_range,
        )
        self.pair = None if pair is None else images.in_range(pair, extractor.model_range)
        self.moments = [list(map(float, x)) for x in pair or (np.zeros(channels), np.ones(channels))]
        self.modulations = [None] * encoder.num_layers
        if encoder.conditioning == "adaln_zero":
            condition = extractor.condition_embedding(ops.zeros((1,), "int32"))
            self.modulations = [to_numpy(x)[0] for x in encoder.modulations(condition).of_layers]

    def named(self, names):
        """All arrays but tokens and positions, by the `Names` of a codebase."""
        kernel, bias = self._patch_embedding()
        kernel = kernel.reshape(*self.encoder.patch_size, self.image_shape[-1], -1).transpose(3, 2, 0, 1)
        norm = self.encoder.norm
        arrays = {f"{names.patch}.weight": kernel, f"{names.patch}.bias": bias}
        arrays |= {f"{names.norm}.weight": to_numpy(norm.gamma), f"{names.norm}.bias": to_numpy(norm.beta)}
        for number, block in enumerate(self.encoder.blocks):
            found = self._block(block, self.modulations[number])
            arrays |= named_block(names, f"{names.blocks}{number}.", found)
        return {name: np.ascontiguousarray(array, "float32") for name, array in arrays.items()}

    def _patch_embedding(self):
        embedding = self.encoder.patch_embedding
        kernel, bias = to_numpy(embedding.projection.kernel), to_numpy(embedding.projection.bias)
        if embedding.bottleneck is not None:
            kernel = to_numpy(embedding.reduction.kernel).astype("float64") @ kernel
        return (kernel, bias) if self.pair is None else images.unfolded(kernel, bias, *self.pair)

    def _block(self, block, modulation):
        """The arrays of a block by part and kind, with modulation and, unless it is kept, LayerScale folded in."""
        shifts, scales, gates = ({"norm1": 0.0, "norm2": 0.0}, {"norm1": 0.0, "norm2": 0.0}, [1.0, 1.0])
        if modulation is not None:
            parts = np.split(modulation.astype("float64"), 6)
            shifts, scales = ({"norm1": parts[k], "norm2": parts[3 + k]} for k in (0, 1))
            gates = [parts[2], parts[5]]
        found = {}
        if block.block.layer_scale is not None:
            of_layers = [to_numpy(block.attention_scale), to_numpy(block.mlp_scale)]
            if self.has_scales:
                found |= {"scale1": of_layers[0], "scale2": of_layers[1]}
            else:
                gates = [gate * scale.astype("float64") for gate, scale in zip(gates, of_layers, strict=True)]
        factors = {"output": gates[0], "mlp_output": gates[1]}
        for part, path in LAYERS.items():
            layer = operator.attrgetter(path)(block)
            if part in shifts:
                gamma, beta = (to_numpy(x).astype("float64") for x in (layer.gamma, layer.beta))
                found[f"{part}.weight"] = gamma * (1 + scales[part])
                found[f"{part}.bias"] = beta * (1 + scales[part]) + shifts[part]
            else:
                kernel, bias = to_numpy(layer.kernel) * factors.get(part, 1.0), to_numpy(layer.bias)
                found[f"{part}.weight"], found[f"{part}.bias"] = kernel.T, bias * factors.get(part, 1.0)
        return found


def _check_fits(extractor):
    encoder, block = extractor.encoder, extractor.encoder.block
    _require(
        len(extractor.image_shape) == 3, "these networks are of images, with two space axes", extractor.image_shape
    )
    _require(
        extractor.layer in (None, encoder.num_layers) and extractor.pooling != "cls+mean",
        "features must be those of the last block, by a pooling other than 'cls+mean'",
        (extractor.layer, extractor.pooling),
    )
    _require(extractor.timesteps == 0, "images are noised before", extractor.timesteps)
    _require(
        encoder.conditioning in ("adaln_zero", None),
        "the token of a condition enters each block anew, and is no part of a ViT",
        encoder.conditioning,
    )
    _require(
        block.mlp != "swiglu" and block.replaced(**FITS) == Block(),
        f"settings of its block other than {sorted(FITS)} must be the defaults",
        block,
    )
    _require(
        not adaptations([encoder]), "LoRA factors and quantised kernels must be undone before", "an adapted encoder"
    )


def _require(condition, rule, received):
    require(condition, f"The encoder doesn't fit: {rule}.", str(received))


def _write(folder, files, arrays):
    folder = os.fspath(folder)
    if os.path.exists(folder) and (not os.path.isdir(folder) or os.listdir(folder)):
        raise FileExistsError(f"{folder} exists, and isn't an empty folder; choose another, or remove it")
    make_folder(folder)
    size = sum(array.nbytes for array in arrays.values())
    write_whole(
        os.path.join(folder, WEIGHTS), lambda path: write_safetensors(path, arrays, {"format": "pt"}), needed_bytes=size
    )
    for name, values in files.items():
        write_whole(os.path.join(folder, name), lambda path, values=values: _write_text(path, values))


def _write_text(path, values):
    with open(path, "w", encoding="utf-8") as file:
        json.dump(values, file, indent=2)
