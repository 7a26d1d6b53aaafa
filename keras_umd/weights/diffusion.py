"""Diffusion transformers of other codebases: DiT, SiT, MaskDiT and JiT as a `UMD`."""

import math

import numpy as np

from keras_umd import methods
from keras_umd.corruption.levels import LogNormal
from keras_umd.corruption.schedules import EDM
from keras_umd.layers.block import Block
from keras_umd.layers.sincos import sincos_table
from keras_umd.layers.timesteps import Timesteps
from keras_umd.models.umd import UMD
from keras_umd.objectives.objective import Objective
from keras_umd.objectives.targets import Eps
from keras_umd.utils.checks import check_integers, check_numbers, check_one_of, require
from keras_umd.weights.dit_names import DIFFUSERS, FACEBOOK, JIT, MASKDIT, check_repeated, network_of
from keras_umd.weights.dit_parts import (
    assign_block,
    assign_condition,
    assign_head,
    assign_linear,
    assign_patch,
    assign_positions,
)
from keras_umd.weights.dit_sizes import shapes_of, sizes_of
from keras_umd.weights.entries import arrays_of, checked
from keras_umd.weights.jit_buffers import without_rotations

VARIANCE = "variance"
# A stack of DiT's blocks, of which the last may be a decoder's.
ONE_STACK = {
    "positions": "sincos",
    "labels": "table",
    "encoder_norm": None,
    "decoder_positions": "masked",
    "head_bias": "patch",
    "cls_to_decoder": "none",
}
OVERRIDES = ("label_dropout", "value_range", "scan_blocks", "remat", "seed", "dtype", "name")
LICENCES = {
    "DiT": "The published weights of DiT are under CC BY-NC 4.0, not for commercial use (facebookresearch/DiT).",
    "SiT": "The code of SiT is under the MIT licence (willisma/SiT), which names none for its weights alone.",
    "MaskDiT": "The code of MaskDiT is under the MIT licence (Anima-Lab/MaskDiT), in part after code under CC BY-NC "
    "(DiT, MAE) and CC BY-NC-SA (EDM); none is named for its weights alone.",
    "JiT": "The licence of JiT's weights is unknown here; look at where you have them from.",
}


def from_dit(
    source, *, method="dit", variance="drop", num_heads=None, image_size=None, decoder_layers=None, **settings
):
    """A DiT as a `UMD` that computes the same: to generate with, to look into, or to train on as DiT or as UMD.

    With `method="umd"` it goes on as UMD. Where nothing is masked, the noise that it predicts is still that of the DiT,
    at every timestep and label, and so are the samples. The clean part is at its start: x_0 is predicted as zero, so
    that the first loss of a clean image is the mean square of its masked patches; mask tokens are random, at DiT's
    positions. The last `decoder_layers` blocks are the decoder, the representation is the mean of the tokens before.

    Timestep t of the library is DiT's t - 1. Guidance acts on all channels; DiT's own script guides the first three.

    Example:

    >>> model = keras_umd.weights.from_dit("DiT-XL-2-256x256.pt")  # doctest: +SKIP
    >>> latents = model.generate([207, 360], num_steps=250, guidance=4.0)  # (2, 32, 32, 4) # doctest: +SKIP

    Args:
        source: String or path, as of `read_weights`, or dictionary of arrays, by the names of facebookresearch/DiT or
            of `diffusers.DiTTransformer2DModel`. Of a checkpoint the moving averages are taken.
        method: `"dit"` or `"umd"`, how it is trained on.
        variance: What becomes of the outputs that say how large the noise of a step is, in networks that have them:
            `"drop"`, or `"keep"` for a prediction `"variance"` that `estimate` returns. No sampler here reads it.
        num_heads: Integer, or `None` for that of the published model of the same width. The file doesn't tell.
        image_size: Integer, the height and width of the latents, where the file doesn't tell. Defaults to 32, those of
            images of 256.
        decoder_layers: Integer, how many of the last blocks are the decoder. Defaults to none of them, and to a quarter
            with `method="umd"`; the network is the same.
        **settings: `label_dropout`, `value_range`, `scan_blocks`, `remat`, `seed`, `dtype` or `name`, as of `UMD`.

    Returns:
        `UMD`, of latents (`value_range=None`). Its positions are fixed.

    Raises:
        ValueError: naming every entry that is missing, unknown, of another shape or not finite; and for blocks in
            diffusers' format that don't share their embeddings.
        DamagedFileError: a ValueError, for a file that isn't what its name says.
    """
    check_one_of(("dit", "umd"), method=method)
    check_one_of(("drop", "keep"), variance=variance)
    arrays, is_umd = network_of(arrays_of(source)), method == "umd"
    names = FACEBOOK if any(name.startswith(FACEBOOK.blocks) for name in arrays) else DIFFUSERS
    arrays, sizes = _checked(arrays, names, "a DiT", num_heads, image_size)
    check_repeated(names, arrays, sizes.depth)
    timesteps = Timesteps(sizes.frequencies, reaches_end=names is DIFFUSERS, offset=-1, least=0)
    epsilon = {"mlp_epsilon": 1e-5} if names is DIFFUSERS else {}
    block = Block(affine=False, timesteps=timesteps, **epsilon, **ONE_STACK)
    if is_umd:
        corruption = methods.umd(schedule="linear")["corruption"]
    else:
        corruption = methods.dit(schedule="linear", noisy_patches="all", noisy_losses=[Eps.name])["corruption"]
    objective, used = Objective.denoising(corruption), sizes.channels
    if variance == "keep":
        require(sizes.outputs > used, "The network must have outputs for the variance.", variance=variance)
        objective, used = Objective(objective.terms, (*objective.pixel_predictions, VARIANCE)), sizes.outputs
    number = _num_decoder_layers(decoder_layers, sizes.depth, max(1, sizes.depth // 4) if is_umd else 0)
    model = _model(sizes, block, corruption, objective, settings, decoder_layers=number)
    place = objective.pixel_predictions.index(Eps.name) * sizes.channels
    _assign(model, arrays, names)
    assign_head(model.decoder.head, arrays, names.parts, used, place)
    print(LICENCES["DiT"])
    return model


def from_sit(source, *, num_heads=None, decoder_layers=None, **settings):
    """A SiT as a `UMD` that computes the same: the network of the velocity on the linear path.

    SiT's time is 1 for the image and its velocity is image minus noise, both the other way round than here. Files don't
    tell the path and the prediction: other ones than SiT's default load, too, and give noise.

    Example:

    >>> model = keras_umd.weights.from_sit("SiT-XL-2-256x256.pt")  # doctest: +SKIP
    >>> latents = model.generate([207, 360], sampler="heun", num_steps=50, guidance=4.0)  # doctest: +SKIP

    Args:
        source: As of `from_dit`, by the names of willisma/SiT. Outputs for the variance, which SiT never reads, are
            dropped.
        num_heads, decoder_layers: As of `from_dit`.
        **settings: As of `from_dit`.

    Returns:
        `UMD`, of latents.

    Raises:
        ValueError, DamagedFileError: As of `from_dit`.
    """
    arrays, sizes = _checked(network_of(arrays_of(source)), FACEBOOK, "a SiT", num_heads)
    timesteps = Timesteps(sizes.frequencies, scale=-1e-3, offset=1)
    block = Block(affine=False, timesteps=timesteps, **ONE_STACK)
    number = _num_decoder_layers(decoder_layers, sizes.depth, 0)
    corruption = methods.sit()["corruption"]
    model = _model(sizes, block, corruption, Objective.denoising(corruption), settings, decoder_layers=number)
    _assign(model, arrays, FACEBOOK)
    assign_head(model.decoder.head, arrays, FACEBOOK.parts, sizes.channels, 0, sign=-1)
    print(LICENCES["SiT"])
    return model


def from_maskdit(source, *, num_heads=None, decoder_heads=16, sigma_data=0.5, **settings):
    """A MaskDiT as a `UMD` that computes the same, on EDM's path.

    EDM's network F is minus the velocity here. Trained on, it gets the velocity's loss of the visible patches, as EDM
    weighs it; MaskDiT's second loss, of masked patches, is no part of it.

    Example:

    >>> model = keras_umd.weights.from_maskdit("imagenet256-guidance.pt")  # doctest: +SKIP
    >>> latents = model.generate([207, 360], sampler="heun", num_steps=40)  # doctest: +SKIP

    Args:
        source: As of `from_dit`, by the names of Anima-Lab/MaskDiT, with a decoder or without. Networks with a class
            token or with features as a condition are refused.
        num_heads: As of `from_dit`.
        decoder_heads: Integer, heads of the decoder.
        sigma_data: Float, the deviation of the latents that it was trained on.
        **settings: As of `from_dit`.

    Returns:
        `UMD`, of latents.

    Raises:
        ValueError, DamagedFileError: As of `from_dit`.
    """
    arrays = network_of(arrays_of(source))
    labels = MASKDIT.parts["labels"]
    if labels in arrays and np.ndim(arrays[labels]) == 2:  # a linear map of one-hot labels, zeros without one
        rows = np.asarray(arrays[labels]).T
        arrays = {**arrays, labels: np.concatenate([rows, np.zeros_like(rows[:1])])}
    arrays, sizes = _checked(arrays, MASKDIT, "a MaskDiT", num_heads)
    path = EDM(sigma_data)
    rate = math.log(path.sigma_max / path.sigma_min) / (path.num_timesteps - 1) / 4
    least = math.log(path.sigma_min) / 4  # EDM's c_noise
    timesteps = Timesteps(sizes.frequencies, scale=rate, offset=least - rate, least=least)
    has_decoder = sizes.decoder_width is not None
    parts = {"encoder_norm": "adaln", "decoder_positions": "all"} if has_decoder else {}
    block = Block(affine=False, timesteps=timesteps, **{**ONE_STACK, **parts})
    options = {"schedule": path, "levels": LogNormal(), "noisy_losses": ["v"]}
    corruption = (methods.maskdit if has_decoder else methods.dit)(**options)["corruption"]
    decoder = {"decoder_layers": 0}
    if has_decoder:
        decoder = {
            "decoder_layers": sizes.decoder_depth,
            "decoder_hidden_dim": sizes.decoder_width,
            "decoder_heads": decoder_heads,
        }
    model = _model(sizes, block, corruption, Objective.denoising(corruption), settings, **decoder)
    _assign(model, arrays, MASKDIT)
    assign_head(model.decoder.head, arrays, MASKDIT.parts, sizes.channels, 0, sign=-1)
    if has_decoder:
        _assign_maskdit_decoder(model, arrays)
    print(LICENCES["MaskDiT"])
    return model


def from_jit(source, *, noise_scale=1.0, **settings):
    """A JiT as a `UMD` that computes the same: x_0 of all patches on a rectified flow.

    All blocks are the encoder's, since its tokens in context go through to the end. They join after a third of the
    depth, as in the published sizes.

    Example:

    >>> model = keras_umd.weights.from_jit("jit-b-16.pth")  # doctest: +SKIP
    >>> images = model.generate([207, 360], sampler="heun", num_steps=50, guidance=3.0)  # doctest: +SKIP

    Args:
        source: As of `from_dit`, by the names of LTH14/JiT.
        noise_scale: Float, the deviation of the noise that it was trained with, which the file doesn't tell: 1 at 256
            pixels, 2 at 512. The model then has images of a range that is smaller by it, and noise of deviation 1.
        **settings: As of `from_dit`.

    Returns:
        `UMD`, of images.

    Raises:
        ValueError, DamagedFileError: As of `from_dit`.
    """
    check_numbers("[0.01, 100]", noise_scale=noise_scale)
    arrays, sizes = _checked(without_rotations(network_of(arrays_of(source))), JIT, "a JiT")
    block = Block.modern(
        in_context=sizes.in_context,
        in_context_of="label" if sizes.in_context else "condition",
        bottleneck=sizes.bottleneck,
        timesteps=Timesteps(sizes.frequencies, scale=-1e-3, offset=1),
        **ONE_STACK,
    )
    corruption, own = methods.jit()["corruption"], {"value_range": (-1 / noise_scale, 1 / noise_scale), **settings}
    model = _model(sizes, block, corruption, Objective.denoising(corruption), own, decoder_layers=0)
    _assign(model, arrays, JIT, turned=True)
    model.decoder.norm.scale.assign(arrays[JIT.parts["head_norm"]])
    if sizes.in_context:
        model.encoder.blocks.context_positions.assign(arrays[JIT.parts["context_positions"]][0])
    assign_head(model.decoder.head, arrays, JIT.parts, sizes.channels, 0, 1 / noise_scale)
    kernel = model.encoder.patch_embedding.reduction.kernel
    kernel.assign(noise_scale * kernel)
    print(LICENCES["JiT"])
    return model


def _checked(arrays, names, what, num_heads=None, image_size=None):
    """The arrays, all of them as they must be, and the network's sizes."""
    sizes = sizes_of(arrays, names, what, num_heads, image_size)
    return checked(arrays, shapes_of(sizes, names, arrays), what), sizes


def _num_decoder_layers(number, depth, default):
    number = default if number is None else number
    check_integers(0, depth - 1, decoder_layers=number)
    return int(number)


def _model(sizes, block, corruption, objective, settings, *, decoder_layers, **decoder):
    unknown = sorted(set(settings) - set(OVERRIDES))
    require(not unknown, f"The file decides all settings but {', '.join(OVERRIDES)}.", unknown)
    of_stack = 0 if decoder else decoder_layers
    return UMD(
        image_shape=sizes.image_shape,
        patch_size=sizes.patch_size,
        hidden_dim=sizes.width,
        num_layers=sizes.depth - of_stack,
        num_heads=sizes.num_heads,
        decoder_layers=decoder_layers,
        num_classes=sizes.table - 1 if sizes.table else None,
        num_cls_tokens=0,
        corruption=corruption,
        objective=objective,
        block=block,
        **decoder,
        **{"value_range": None, **settings},
    )


def _assign(model, arrays, names, turned=False):
    """Everything but the last layer."""
    parts, encoder, decoder = names.parts, model.encoder, model.decoder
    if "reduction" in parts:
        assign_patch(encoder.patch_embedding.reduction, arrays, parts["reduction"])
        assign_linear(encoder.patch_embedding.projection, arrays, parts["projection"])
    else:
        assign_patch(encoder.patch_embedding.projection, arrays, parts["patch"])
    positions = arrays.get(parts["positions"], sincos_table(model.grid, model.hidden_dim))
    assign_positions(encoder.position_embedding, positions)
    if decoder.block.decoder_positions == "masked":
        assign_positions(decoder.position_embedding, positions)
    assign_condition(model, arrays, parts)
    blocks = [*encoder.blocks, *(decoder.blocks if "decoder_positions" not in parts else ())]
    for i, block in enumerate(blocks):
        assign_block(block, arrays, names, f"{names.blocks}{i}.", turned)


def _assign_maskdit_decoder(model, arrays):
    parts, decoder = MASKDIT.parts, model.decoder
    assign_linear(model.encoder.modulation, arrays, parts["between_modulation"])
    assign_linear(decoder.embedding, arrays, parts["between"])
    assign_positions(decoder.position_embedding, arrays[parts["decoder_positions"]])
    # Trained without the second loss it has no mask token, and fills in zeros.
    decoder.mask_token.assign(np.reshape(arrays.get(parts["mask_token"], np.zeros(decoder.hidden_dim)), (-1,)))
    for i, block in enumerate(decoder.blocks):
        assign_block(block, arrays, MASKDIT, f"decoder_blocks.{i}.")
