"""The paper's method, and those that it unifies."""

from keras_umd.corruption.corruption import Corruption
from keras_umd.layers.block import Block
from keras_umd.methods.method import method


@method("Hansen-Estruch et al., Unified Auto-Encoding with Masked Diffusion, 2024", preset="umd_base_patch4_64")
def umd(**corruption):
    """Half of the batch clean and masked, half of it noisy and masked.

    Example:

    >>> model = UMD.from_preset("umd_tiny_patch4_32", num_layers=1, decoder_layers=1)
    """
    return {"corruption": Corruption.umd(**corruption)}


@method(
    "Hansen-Estruch et al., 2024, with the prediction of Li and He, Back to Basics (JiT), 2025",
    preset="umd_x0_small_patch4_64",
)
def umd_x0(**corruption):
    """UMD with one head for generation first: x_0 of all patches of noisy images, of which none is masked.

    An eighth of the batch stays clean, for features. On emoji, where the paper's two heads gave mosaics in the same
    time, its samples have shapes (docs/small_images.md).

    Example:

    >>> model = UMD.from_preset("umd_x0_tiny_patch4_32", num_layers=1, decoder_layers=1)
    """
    own = {"clean_ratio": 0.125, "noisy_mask_ratio": 0.0, "noisy_losses": ["x0"], "noisy_patches": "all"}
    return {"corruption": Corruption.umd(**{**own, **corruption})}


@method(
    "Hansen-Estruch et al., 2024, with the prediction of Li and He, Back to Basics (JiT), 2025",
    preset="umd_one_head_base_patch4_64",
)
def umd_one_head(**corruption):
    """UMD with one head: x_0 of all patches of the noisy half, masked and visible, instead of x_0 and noise by two.

    Batch, masks and cost are UMD's. On emoji and crops of photographs, with the same FLOPs, its samples are far ahead
    of those of the two heads (docs/results/recipe).

    Example:

    >>> model = UMD.from_preset("umd_one_head_tiny_patch4_32", num_layers=1, decoder_layers=1)
    """
    return {"corruption": Corruption.umd(**{"noisy_losses": ["x0"], "noisy_patches": "all", **corruption})}


@method(
    "Hansen-Estruch et al., 2024, with the prediction and the block of Li and He, Back to Basics (JiT), 2025",
    preset="umd_modern_base_patch4_64",
)
def umd_modern(**corruption):
    """`umd_one_head` with JiT's block: QK-norm, RMSNorm, RoPE and SwiGLU, without JiT's tokens in context.

    An image costs as many FLOPs as by `umd`. On emoji and crops of photographs, with the same FLOPs, its samples are
    far ahead of those of the two heads, and its features ahead of those of both (docs/results/recipe).

    Example:

    >>> model = UMD.from_preset("umd_modern_tiny_patch4_32", num_layers=1, decoder_layers=1)
    """
    return {**umd_one_head(**corruption), "block": Block.modern(in_context=0, bottleneck=None)}


@method("He et al., Masked Autoencoders Are Scalable Vision Learners, 2022")
def mae(**corruption):
    """All images clean, 75% masked; conditioned by a token, as in the UMD paper's tables.

    Example:

    >>> model = UMD.from_preset("mae_tiny_patch4_32", num_layers=1, decoder_layers=1)
    """
    return {"corruption": Corruption.mae(**corruption), "conditioning": "token"}


@method(
    "Zheng et al., Fast Training of Diffusion Models with Masked Transformers, 2023",
    preset="maskdit_large_patch2_latent32",
)
def maskdit(**corruption):
    """All images noisy, 50% masked.

    Example:

    >>> model = UMD.from_preset("maskdit_tiny_patch4_32", num_layers=1, decoder_layers=1)
    """
    return {"corruption": Corruption.maskdit(**corruption)}


@method("Peebles and Xie, Scalable Diffusion Models with Transformers, 2023", preset="dit_base_patch2_latent32")
def dit(**corruption):
    """All images noisy, nothing masked.

    Example:

    >>> model = UMD.from_preset("dit_tiny_patch4_32", num_layers=1, decoder_layers=1)
    """
    return {"corruption": Corruption.dit(**corruption)}
