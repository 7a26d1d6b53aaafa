"""Methods that change the values of images, and others that mask them. Networks and rates are the library's own."""

from keras_umd.corruption import changes, masks
from keras_umd.corruption.view import View
from keras_umd.methods.method import clean_images, method
from keras_umd.objectives import Reconstruction, Spectrum, targets


@method("Xie et al., Masked Frequency Modeling for Self-Supervised Visual Pre-Training, 2023")
def mfm(**corruption):
    """Images without their high or their low frequencies, which are predicted; no patch is masked.

    The radius is for 224 pixels. The paper's decoder is a linear map; this one has a block.

    Example:

    >>> model = UMD.from_preset("mfm_tiny_patch4_32", num_layers=1)
    """
    views = [View("clean", change=changes.Frequency(16.0))]
    return clean_images(views, [Spectrum("clean")], corruption, decoder_layers=1)


@method("Atito et al., GMML is All you Need, 2022")
def gmml(**corruption):
    """Blocks of patches filled with noise or with those of another image; all patches are seen.

    The paper's error is absolute, and it chooses what fills each block, not each patch.

    Example:

    >>> model = UMD.from_preset("gmml_tiny_patch4_32", num_layers=1)
    """
    change = changes.Fill(masks.Block(0.6, min_patches=4), {"noise": 0.7, "other": 0.3})
    terms = [Reconstruction("clean", targets.X0(), "changed")]
    return clean_images([View("clean", change=change)], terms, corruption, decoder_layers=1)


@method("Li et al., Architecture-Agnostic Masked Image Modeling -- From ViT back to CNN (A2MIM), 2023")
def a2mim(**corruption):
    """Cells of 2 x 2 patches filled with the image's mean; pixels, and frequencies that are far off, are predicted.

    Without the paper's mask token, which it adds where the encoder sees a filled patch.

    Example:

    >>> model = UMD.from_preset("a2mim_tiny_patch4_32", num_layers=1)
    """
    change = changes.Fill(masks.Coarse(masks.Random(0.6), unit=2), "mean")
    terms = [
        Reconstruction("clean", targets.X0(), "changed"),
        Spectrum("clean", where="all", gamma=2.0, focal=True, weight=0.1),
    ]
    return clean_images([View("clean", change=change)], terms, corruption, decoder_layers=1)


@method("Zhang et al., Split-Brain Autoencoders: Unsupervised Learning by Cross-Channel Prediction, 2017")
def split_brain(**corruption):
    """Half of the images lose their colours, half their brightness, and each half predicts what it lost.

    One network for both, where the paper has two half as wide. For RGB images.

    Example:

    >>> model = UMD.from_preset("split_brain_tiny_patch4_32", num_layers=1, decoder_layers=1)
    """
    hidden = {"grey": (1, 2), "colour": (0,)}
    views = [View(name, change=changes.HideChannels(of, "opponent"), share=0.5) for name, of in hidden.items()]
    terms = [Reconstruction(name, targets.Channels(of, 3, "opponent")) for name, of in hidden.items()]
    return clean_images(views, terms, corruption)


@method("Ma et al., Disjoint Masking with Joint Distillation for Efficient Masked Image Modeling (DMJD), 2023")
def dmjd(**corruption):
    """Two masks of each image, of which the second hides all that the first shows; histograms of gradients.

    Without the paper's loss of visible patches. A batch costs twice as much as its number of images.

    Example:

    >>> model = UMD.from_preset("dmjd_tiny_patch8_32", num_layers=1, decoder_layers=1)
    """
    names = ("first", "second")
    cells = masks.Coarse(masks.Random(0.6), unit=2)
    views = [View(name, mask=masks.Disjoint(cells, part)) for part, name in enumerate(names)]
    terms = [Reconstruction(name, targets.HOG(), weight=1 / len(names)) for name in names]
    return clean_images(views, terms, corruption)


@method("Pathak et al., Context Encoders: Feature Learning by Inpainting, 2016")
def context_encoder(**corruption):
    """The middle of images is masked; pixels at its border count ten times. Without the paper's adversarial loss.

    Example:

    >>> model = UMD.from_preset("context_encoder_tiny_patch4_32", num_layers=1, decoder_layers=1)
    """
    views = [View("clean", mask=masks.Center(0.25))]
    return clean_images(views, [Reconstruction("clean", targets.Bordered())], corruption)
