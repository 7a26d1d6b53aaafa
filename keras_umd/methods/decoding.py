"""Masked autoencoders with other decoders. Sizes and rates are the library's own; see each."""

from keras_umd.corruption import changes, masks, noise
from keras_umd.corruption.view import View
from keras_umd.methods.method import clean_images, method
from keras_umd.models import decoders
from keras_umd.objectives import Alignment, Reconstruction, targets

CELLS = (4, 8, 16, 32)  # pixels along each side, of LocalMIM


@method("Wang et al., VideoMAE V2: Scaling Video Masked Autoencoders with Dual Masking, 2023")
def videomae_v2(**corruption):
    """MAE of videos: 90% masked, the same patches in all frames; half of them decoded, by cells that run.

    Give it `image_shape=(16, 224, 224, 3)` and `patch_size=(2, 16, 16)`.

    Example:

    >>> video = {"image_shape": (4, 32, 32, 3), "patch_size": (2, 8, 8)}
    >>> model = UMD.from_preset("videomae_v2_tiny_patch8_32", **video, num_layers=1, decoder_layers=1)
    """
    mask = masks.Shared(masks.Random(0.9), axes=0)
    view = View("clean", mask=mask, decoded_ratio=0.5, decoded=masks.RunningCell())
    terms = [Reconstruction("clean", targets.Pixels(channels=3))]
    return clean_images([view], terms, corruption)


@method(
    "Chu et al., USP: Unified Self-Supervised Pretraining for Image Generation and Understanding, 2025",
    preset="usp_base_patch2_latent28",
)
def usp(**corruption):
    """MAE of latents, from which a diffusion transformer starts: `weights.start_from`.

    It sees no condition. The paper's decoder has 8 blocks of width 512: `decoder_layers=8`, `decoder_hidden_dim=512`.

    Example:

    >>> model = UMD.from_preset("usp_tiny_patch2_latent8", num_layers=1, decoder_layers=1)
    """
    view = View("clean", mask=masks.Random(0.75))
    terms = [Reconstruction("clean", targets.Pixels())]
    return clean_images([view], terms, corruption, conditioning=None)


@method("Fu et al., Rethinking Patch Dependence for Masked Autoencoders (CrossMAE), 2024")
def crossmae(**corruption):
    """MAE whose masked patches look at the encoder's tokens alone, by way of all its blocks; a third is decoded.

    The paper's decoder has 12 blocks of width 512: `decoder_layers=12`, `decoder_hidden_dim=512`.

    Example:

    >>> model = UMD.from_preset("crossmae_tiny_patch4_32", num_layers=2, decoder_layers=1)
    """
    view = View("clean", mask=masks.Random(0.75), decoded_ratio=1 / 3)
    terms = [Reconstruction("clean", targets.Pixels())]
    return clean_images([view], terms, corruption, decoder=decoders.Cross(taps="all", visible="mask"))


@method("Wei et al., Masked Feature Prediction for Self-Supervised Visual Pre-Training (MaskFeat), 2022")
def maskfeat(**corruption):
    """Histograms of gradients where blocks of patches are hidden behind a mask token, by a linear map.

    The encoder gets a token for each patch, of which 40% say nothing but their place.

    Example:

    >>> model = UMD.from_preset("maskfeat_tiny_patch8_32", num_layers=1)
    """
    view = View("clean", mask=masks.InPlace(masks.Block(0.4, min_patches=15)))
    terms = [Reconstruction("clean", targets.HOG(cell=8), "unseen")]
    return clean_images([view], terms, corruption, decoder=decoders.Linear())


@method("Xie et al., SimMIM: A Simple Framework for Masked Image Modeling, 2022")
def simmim(**corruption):
    """Pixels where patches are hidden behind a mask token, by a linear map. The paper's error is absolute.

    The paper hides cells of 32 pixels: `masks.InPlace(masks.Coarse(masks.Random(0.6), unit=2))` with patches of 16.

    Example:

    >>> model = UMD.from_preset("simmim_tiny_patch4_32", num_layers=1)
    """
    view = View("clean", mask=masks.InPlace(masks.Random(0.6)))
    terms = [Reconstruction("clean", targets.X0(), "unseen")]
    return clean_images([view], terms, corruption, decoder=decoders.Linear())


@method("Chen et al., Context Autoencoder for Self-Supervised Representation Learning (CAE), 2022")
def cae(**corruption):
    """Rectangles are masked; a regressor predicts the encoder's tokens of them, and a decoder pixels of these alone.

    The paper predicts tokens of DALL-E's tokenizer, and its encoder sees 98 of 196 patches, as here. Its alignment has
    a weight of 2 beside a cross-entropy of 8192 classes, ten times as large as errors of normalised pixels: 0.2 here.

    Example:

    >>> model = UMD.from_preset("cae_tiny_patch4_32", num_layers=1, decoder_layers=1)
    """
    view = View("clean", mask=masks.Block(0.5))
    terms = [Reconstruction("clean", targets.Pixels()), Alignment("clean", weight=0.2)]
    return clean_images([view], terms, corruption, decoder=decoders.Regressor())


@method("Eymael et al., Efficient Image Pre-Training with Siamese Cropped Masked Autoencoders (CropMAE), 2024")
def cropmae(**corruption):
    """A crop of a crop, of which 2 of 196 patches are seen, is filled in by looking at the crop around it.

    The paper's decoder has 4 blocks of width 256: `decoder_hidden_dim=256`. Both crops share the encoder, which sees
    all patches of one. An image of 64 patches has none left; give it `masks.Random(0.95)`.

    Example:

    >>> model = UMD.from_preset("cropmae_tiny_patch4_64", num_layers=1, decoder_layers=1)
    """
    view = View("clean", mask=masks.Random(0.985), change=changes.CropInCrop())
    terms = [Reconstruction("clean", targets.Pixels())]
    return clean_images([view], terms, corruption, decoder=decoders.CrossSelf())


@method("Wei et al., Diffusion Models as Masked Autoencoders (DiffMAE), 2023")
def diffmae(**corruption):
    """MAE whose decoder sees masked patches through noise of any level, and looks at visible ones in each block.

    The encoder sees clean patches, as MAE's. Pixels aren't normalised. The paper samples masked patches in many steps;
    `reconstruct` takes one.

    Example:

    >>> model = UMD.from_preset("diffmae_tiny_patch4_32", num_layers=1, decoder_layers=1)
    """
    view = View("noisy", noise.OfMasked(), masks.Random(0.75))
    terms = [Reconstruction("noisy", targets.X0())]
    return clean_images([view], terms, corruption, decoder=decoders.CrossSelf())


@method("Wang et al., Masked Image Modeling with Local Multi-Scale Reconstruction (LocalMIM), 2023")
def localmim(**corruption):
    """Histograms of gradients at four scales, fine ones from low blocks of the encoder and coarse ones from high ones.

    Cells are of 4, 8, 16 and 32 pixels, for patches of 16. The paper's decoders are 256 wide: `decoder_hidden_dim=256`.

    Example:

    >>> model = UMD.from_preset("localmim_tiny_patch16_64", num_layers=4)
    """
    view = View("clean", mask=masks.Random(0.75))
    cells = {f"hog_{cell}": targets.Cells(targets.HOG(cell=cell), f"hog_{cell}", max(1, cell // 16)) for cell in CELLS}
    blocks = dict(zip(cells, (2, 4, -3, -1), strict=True))
    terms = [Reconstruction("clean", target) for target in cells.values()]
    return clean_images([view], terms, corruption, decoder=decoders.LocalScale(blocks, {"hog_32": 2}), decoder_layers=1)
