"""ViT encoders of other codebases as feature extractors."""

import re

from keras_umd.models.feature_extractor import FeatureExtractor
from keras_umd.weights import standardized as images
from keras_umd.weights.entries import arrays_of, check_not_taken, checked
from keras_umd.weights.vit_names import without_outer
from keras_umd.weights.vit_parts import (
    assign_encoder,
    block_of,
    encoder_shapes,
    grid_of,
    heads_of,
    reason_of,
    shape_of,
    sizes_of,
)

# Heads of classifiers and what only a pre-training reads.
LEFT_OUT = r"(head|head_dist|classifier|cls_classifier|distillation_classifier|pooler\.dense)\.(weight|bias)"
LEFT_OUT += r"|(embeddings\.)?mask_token"
OWN = ("patch_size", "hidden_dim", "num_layers", "num_cls_tokens", "conditioning", "num_classes", "model_range")
LICENSE = (
    "The weights keep the licence of whoever trained them, which files don't name: Apache-2.0 for Google's ViT, DeiT "
    "and DINOv2, CC BY-NC 4.0 for facebookresearch/mae; timm and the hubs name it beside each model."
)


def from_vit(source, *, standardized, num_heads=None, image_shape=None, block=None, **overrides):
    """A ViT of timm, facebookresearch or transformers as a `FeatureExtractor`: ViT, DeiT, DINOv2, MAE's encoder.

    The features are those of the other codebase, to the rounding of float32: with `pooling="cls"` its class token
    behind the last LayerNorm (of a distilled DeiT the mean of both tokens, of a ViT without class token the mean of the
    patches), with `pooling=None` the tokens of the patches. The names may be those of timm and facebookresearch
    (`blocks.0.attn.qkv`), or those of transformers, in its files and in models of its version 5. What the file doesn't
    tell is an argument: heads, the activation and epsilon. Heads for classes are left out, and named.

    The position of a class token is added to it. Another `image_shape` than the file's interpolates the positions.

    Refused, with the reason, are: MLPs that aren't two matrices four times as wide, a LayerNorm of queries and keys,
    relative positions, a norm before the blocks or behind the mean of the patches, attention pooling.

    Example:

    >>> path = "dinov2_vits14_reg4_pretrain.pth"
    >>> extractor = keras_umd.weights.from_vit(path, standardized="imagenet")  # doctest: +SKIP
    >>> extractor(images).shape  # uint8 (batch, 518, 518, 3) # doctest: +SKIP
    (batch, 384)

    Args:
        source: String or path, as of `read_weights`, or dictionary of arrays by name.
        standardized: How the images were standardised that it was trained on: `"imagenet"`, by ImageNet's means and
            deviations (DeiT, DINOv2, MAE); `"half"`, both 0.5, which is the range -1 to 1 (ViT of Google and many of
            timm); a pair `(means, deviations)` of images in [0, 1]; or `None`, for images that come as the network
            takes them, of any range. It becomes a part of the patch embedding: the extractor takes uint8 images, and
            floats in its `value_range`.
        num_heads: Integer. Defaults to that of the published size, by width.
        image_shape: Tuple `(height, width, channels)`. Defaults to a square image of the file's patches.
        block: `Block`, to replace `mlp`, `epsilon` and `positions`, by default exact GELU and the codebase's epsilon:
            1e-6 of timm, facebookresearch and DINOv2, 1e-12 of ViT and MAE in transformers.
        **overrides: Arguments of `FeatureExtractor`, such as `pooling`, `layer`, `value_range` and `dtype`.

    Returns:
        `FeatureExtractor`.

    Raises:
        ValueError: naming every entry that is missing, unknown, of another shape or not finite.
        DamagedFileError: a ValueError, for a file that isn't what its name says.

    Reference:
        Dosovitskiy et al., "An Image is Worth 16x16 Words", 2021.
    """
    check_not_taken(overrides, OWN)
    arrays = without_outer(arrays_of(source))
    left_out = sorted(name for name in arrays if re.fullmatch(LEFT_OUT, name))
    sizes = sizes_of(arrays)
    grid, before = grid_of(sizes, image_shape)
    image_shape = shape_of(sizes, grid, image_shape)
    pair = images.moments(standardized, sizes.channels)
    block = block_of(sizes, block)
    num_heads = heads_of(sizes.width, num_heads)
    arrays = {name: array for name, array in arrays.items() if name not in left_out}
    arrays = checked(arrays, encoder_shapes(sizes), "an encoder that UMD has", reason_of)
    value_range = images.value_range_of(pair, overrides)
    extractor = FeatureExtractor(
        image_shape,
        sizes.patch_size,
        hidden_dim=sizes.width,
        num_layers=sizes.depth,
        num_heads=num_heads,
        num_cls_tokens=len(sizes.cls_tokens),
        conditioning=None,
        value_range=value_range,
        block=block,
        **overrides,
    )
    if pair is not None:
        pair = images.in_range(pair, value_range)
    assign_encoder(extractor.encoder, arrays, sizes, grid, before, pair)
    print(LICENSE + (f" Left out: {', '.join(left_out)}." if left_out else ""))
    return extractor
