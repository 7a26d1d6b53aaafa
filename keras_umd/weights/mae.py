"""Masked autoencoders of other codebases, as themselves or as UMD."""

import numpy as np

from keras_umd.corruption.corruption import Corruption
from keras_umd.models.umd import UMD
from keras_umd.objectives import Objective, Reconstruction, targets
from keras_umd.utils.checks import check_bools, check_instances, require
from keras_umd.weights import standardized as images
from keras_umd.weights.entries import arrays_of, check_not_taken, checked
from keras_umd.weights.vit_names import block_arrays, block_shapes, num_blocks, without_outer
from keras_umd.weights.vit_parts import (
    assign_block,
    assign_dense,
    assign_encoder,
    assign_norm,
    assign_positions,
    block_of,
    encoder_shapes,
    grid_of,
    heads_of,
    reason_of,
    shape_of,
    sizes_of,
)

LICENSE = "The weights of facebookresearch/mae are licensed CC BY-NC 4.0; those of others, as who trained them says."
DECODER_HEADS = {512: 16}  # of all published decoders
OWN = ("patch_size", "hidden_dim", "num_layers", "num_cls_tokens", "decoder_layers", "decoder_hidden_dim", "objective")


def from_mae(
    source,
    *,
    standardized="imagenet",
    image_shape=None,
    num_heads=None,
    decoder_heads=None,
    normalize=True,
    block=None,
    corruption=None,
    **overrides,
):
    """A masked autoencoder with its decoder, of facebookresearch or of transformers, as a `UMD`.

    By default it is MAE, with the loss of the other codebase on the same images and masks, to the rounding of float32:
    no condition, exact GELU, positions that aren't trained, a decoder of another width and number of heads behind a
    linear map of all tokens, and a head for the pixels of the masked patches alone. The position of a class token is
    added to it, in the decoder to the bias of the map.

    With a `corruption` that has noisy images, such as `Corruption.umd()`, it goes on as UMD: timestep and label enter
    by AdaLN, whose gates begin at one and whose shifts and scales at zero, so that features, reconstructions and the
    loss of clean images are MAE's in the first step. The head for noisy images begins anew.

    Files without a decoder are for `from_vit`. A decoder as wide as the encoder is refused: UMD has no map before it.

    Example:

    >>> model = keras_umd.weights.from_mae("mae_visualize_vit_base.pth", normalize=False)  # doctest: +SKIP
    >>> model.reconstruct(images, mask_ratio=0.75)  # uint8 (batch, 224, 224, 3) # doctest: +SKIP
    >>> goes_on = {"corruption": keras_umd.Corruption.umd(), "num_classes": 10}
    >>> umd = keras_umd.weights.from_mae("mae_full_vit_base.pth", **goes_on)  # doctest: +SKIP

    Args:
        source, standardized, image_shape: As of `from_vit`. The loss, too, is of the standardised images.
        num_heads, decoder_heads: Integers. Default to those of the published sizes, by width.
        normalize: Bool. Whether the patches are normalised that it has learned to predict (`norm_pix_loss`).
        block: `Block`, to replace `mlp`, `epsilon` and `positions`: `"learned"` trains MAE's positions, too.
        corruption: `Corruption`. Defaults to `Corruption.mae()`.
        **overrides: Arguments of `UMD`, such as `num_classes`, `value_range`, `seed` and `dtype`.

    Returns:
        `UMD`.

    Raises:
        ValueError: naming every entry that is missing, unknown, of another shape or not finite.
        DamagedFileError: a ValueError, for a file that isn't what its name says.

    Reference:
        He et al., "Masked Autoencoders Are Scalable Vision Learners", 2022.
    """
    check_not_taken(overrides, OWN)
    check_bools(normalize=normalize)
    check_instances(Corruption, "a keras_umd.Corruption", optional=True, corruption=corruption)
    corruption = Corruption.mae() if corruption is None else corruption
    arrays = without_outer(arrays_of(source))
    sizes = _sizes(arrays)
    grid, before = grid_of(sizes, image_shape)
    image_shape = shape_of(sizes, grid, image_shape)
    block = block_of(sizes, block, positions="sincos")
    pair = images.moments(standardized, sizes.channels)
    value_range = images.value_range_of(pair, overrides)
    pair = pair and images.in_range(pair, value_range)
    decoder = _DecoderOfFile(arrays, sizes)
    decoder_heads = DECODER_HEADS.get(decoder.width) if decoder_heads is None else decoder_heads
    settings = {
        "num_heads": heads_of(sizes.width, num_heads),
        "decoder_heads": heads_of(decoder.width, decoder_heads, "decoder_heads"),
        "conditioning": _conditioning(corruption, overrides),
    }
    shapes = {**encoder_shapes(sizes), **decoder.shapes()}
    arrays = checked(arrays, shapes, "a masked autoencoder that UMD has", reason_of)
    target = _target(normalize, pair)
    model = UMD(
        image_shape,
        sizes.patch_size,
        hidden_dim=sizes.width,
        num_layers=sizes.depth,
        num_cls_tokens=len(sizes.cls_tokens),
        decoder_layers=decoder.depth,
        decoder_hidden_dim=decoder.width,
        corruption=corruption,
        objective=_objective(corruption, target),
        value_range=value_range,
        block=block,
        **settings,
        **overrides,
    )
    assign_encoder(model.encoder, arrays, sizes, grid, before, pair)
    decoder.assign(model.decoder, arrays, grid, model.decoder.heads[target.name])
    print(LICENSE)
    return model


def _sizes(arrays):
    """The sizes of MAE's encoder."""
    sizes = sizes_of(arrays)
    require(
        len(sizes.cls_tokens) == 1 and not sizes.num_registers and not sizes.has_scales,
        "A masked autoencoder has one class token, and neither registers nor LayerScale.",
        f"{sizes.cls_tokens}, {sizes.num_registers} registers, LayerScale: {sizes.has_scales}",
    )
    return sizes


def _conditioning(corruption, overrides):
    """Whether timesteps enter, by AdaLN: where there are noisy images, or as asked for."""
    has_noise = any(view.noise is not None for view in corruption.views)
    conditioning = overrides.pop("conditioning", "adaln_zero" if has_noise else None)
    require(
        conditioning == "adaln_zero" or (conditioning is None and not has_noise),
        "`conditioning` must be 'adaln_zero', which begins as the network of the file, or None for clean images alone.",
        conditioning=conditioning,
    )
    return conditioning


def _target(normalize, pair):
    """MAE's target, of standardised images."""
    is_own = pair is None or (np.all(pair[0] == 0) and np.all(pair[1] == 1))  # the model's images are the network's
    standardized = None if is_own else [list(map(float, x)) for x in pair]
    return targets.Pixels(normalize, unbiased=normalize, standardized=standardized)


def _objective(corruption, target):
    """The pixels of masked patches in clean images, and in noisy ones what `Objective.denoising` counts."""
    noiseless = [view.name for view in corruption.views if view.noise is None]
    require(noiseless, "`corruption` must have clean images, of which MAE's loss is.", corruption=corruption)
    usual = Objective.denoising(corruption)
    terms = [Reconstruction(name, target) for name in noiseless]
    terms += [term for term in usual.terms if term.view not in noiseless]
    return Objective(terms, usual.pixel_predictions)


class _DecoderOfFile:
    """MAE's decoder in a file."""

    def __init__(self, arrays, sizes):
        names = self.names = sizes.names
        path = names.decoder
        self.embedding, self.norm, self.prediction = (f"{path}decoder_{x}" for x in ("embed", "norm", "pred"))
        self.positions, self.mask_token = f"{path}decoder_pos_embed", f"{path}mask_token"
        self.blocks, self.sizes = names.decoder_blocks, sizes
        embedding = arrays.get(f"{self.embedding}.weight")
        self.depth = num_blocks(arrays, self.blocks)
        require(
            embedding is not None and embedding.ndim == 2 and self.depth,
            "The file must hold a decoder; an encoder alone is for weights.from_vit.",
            f"{len(arrays)} arrays, without {self.embedding}.weight or {self.blocks}0",
        )
        self.width = embedding.shape[0]
        require(
            self.width != sizes.width,
            "The decoder must be of another width than the encoder: UMD has no map between equal ones.",
            width=self.width,
        )

    def shapes(self):
        """The shapes of all its arrays by name."""
        width, values = self.width, int(np.prod(self.sizes.patch_size)) * self.sizes.channels
        shapes = {
            f"{self.embedding}.weight": (width, self.sizes.width),
            f"{self.embedding}.bias": (width,),
            self.mask_token: (1, 1, width),
            self.positions: (1, self.sizes.num_positions, width),
            f"{self.norm}.weight": (width,),
            f"{self.norm}.bias": (width,),
            f"{self.prediction}.weight": (values, width),
            f"{self.prediction}.bias": (values,),
        }
        for number in range(self.depth):
            shapes |= block_shapes(self.names, f"{self.blocks}{number}.", width, self.sizes.has_biases, False)
        return shapes

    def assign(self, decoder, arrays, grid, head):
        """Give a `Decoder` and the head of its pixels the weights."""
        assign_dense(decoder.embedding, arrays, self.embedding)
        positions, mask_token = arrays[self.positions][0], arrays[self.mask_token][0, 0]
        in_front = len(positions) - int(np.prod(grid))
        # Our class token has no place there: its own goes to the bias of all tokens, and is taken off the others'.
        of_cls_token = positions[0] if in_front else np.zeros_like(mask_token)
        decoder.embedding.bias.assign(arrays[f"{self.embedding}.bias"] + of_cls_token)
        decoder.mask_token.assign(mask_token + of_cls_token)
        assign_positions(decoder.position_embedding, positions[in_front:] - of_cls_token, grid)
        for number, block in enumerate(decoder.blocks):
            assign_block(block, block_arrays(self.names, f"{self.blocks}{number}.", arrays))
        assign_norm(decoder.norm, arrays, self.norm)
        assign_dense(head, arrays, self.prediction)
        if decoder.head.conditioning == "adaln_zero":
            decoder.head.modulation.kernel.assign(np.zeros(decoder.head.modulation.kernel.shape, "float32"))
            decoder.head.modulation.bias.assign(np.zeros(decoder.head.modulation.bias.shape, "float32"))
