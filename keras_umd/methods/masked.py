"""Masked autoencoders with other masks and targets. Decoders and rates are the library's own; see each."""

from keras_umd.corruption import masks
from keras_umd.corruption.view import View
from keras_umd.methods.method import clean_images, method
from keras_umd.objectives import Reconstruction, targets


def _masked(mask, *of_targets, corruption, **settings):
    """Clean images, masked; the errors of masked patches."""
    terms = [Reconstruction("clean", target) for target in of_targets]
    return clean_images([View("clean", mask=mask)], terms, corruption, **settings)


@method("Hinojosa et al., ColorMAE: Exploring data-independent masking strategies in Masked AutoEncoders, 2024")
def colormae(**corruption):
    """MAE whose masks are green noise: clusters of even size, evenly spread.

    Example:

    >>> model = UMD.from_preset("colormae_tiny_patch4_32", num_layers=1, decoder_layers=1)
    """
    return _masked(masks.ColorNoise("green", 0.75), targets.Pixels(), corruption=corruption)


@method(
    "Yang et al., In Pursuit of Pixel Supervision for Visual Pre-training (Pixio), 2025",
    preset="pixio_large_patch16_256",
)
def pixio(**corruption):
    """MAE whose masks are of cells of 4 x 4 patches, with eight class tokens. The paper's decoder has 32 blocks.

    Example:

    >>> model = UMD.from_preset("pixio_tiny_patch4_32", num_layers=1, decoder_layers=1)
    """
    mask = masks.Coarse(masks.Random(0.75), unit=4)
    return _masked(mask, targets.Pixels(), corruption=corruption, num_cls_tokens=8)


@method("Feichtenhofer et al., Masked Autoencoders As Spatiotemporal Learners, 2022")
def video_mae_random(**corruption):
    """MAE of videos: 90% of the patches masked, anywhere in space and time.

    Give it `image_shape=(16, 224, 224, 3)` and `patch_size=(2, 16, 16)`.

    Example:

    >>> video = {"image_shape": (4, 32, 32, 3), "patch_size": (2, 8, 8)}
    >>> model = UMD.from_preset("video_mae_random_tiny_patch8_32", **video, num_layers=1, decoder_layers=1)
    """
    return _masked(masks.Random(0.9), targets.Pixels(), corruption=corruption)


@method("Tong et al., VideoMAE: Masked Autoencoders are Data-Efficient Learners for Video Pre-Training, 2022")
def videomae(**corruption):
    """MAE of videos: 90% masked, the same patches in all frames; pixels normalised by channel.

    Give it `image_shape=(16, 224, 224, 3)` and `patch_size=(2, 16, 16)`.

    Example:

    >>> video = {"image_shape": (4, 32, 32, 3), "patch_size": (2, 8, 8)}
    >>> model = UMD.from_preset("videomae_tiny_patch8_32", **video, num_layers=1, decoder_layers=1)
    """
    mask = masks.Shared(masks.Random(0.9), axes=0)
    return _masked(mask, targets.Pixels(channels=3), corruption=corruption)


@method("Wang et al., Feature Guided Masked Autoencoder for Self-supervised Learning in Remote Sensing, 2023")
def fgmae(**corruption):
    """MAE of Sentinel-2's 13 bands: histograms of gradients, and indices of vegetation, water and buildings.

    Give it `image_shape=(224, 224, 13)`. The paper normalises the indices within patches and weighs gradients by a
    window; neither is part of it.

    Example:

    >>> model = UMD.from_preset("fgmae_tiny_patch8_32", image_shape=(32, 32, 13), num_layers=1, decoder_layers=1)
    """
    indices = targets.BandRatios(((7, 3), (2, 7), (11, 7)), channels=13)
    return _masked(masks.Random(0.7), targets.HOG(cell=8), indices, corruption=corruption)
