"""Masked autoencoders with other decoders. Sizes and rates are the library's own; see each."""

from keras_umd.corruption import masks
from keras_umd.corruption.corruption import Corruption
from keras_umd.corruption.view import View
from keras_umd.methods.method import method
from keras_umd.models import decoders
from keras_umd.objectives import Objective, Reconstruction, targets


@method("Fu et al., Rethinking Patch Dependence for Masked Autoencoders (CrossMAE), 2024")
def crossmae(**corruption):
    """MAE whose masked patches look at the encoder's tokens alone, by way of all its blocks; a third is decoded.

    The paper's decoder has 12 blocks of width 512: `decoder_layers=12`, `decoder_hidden_dim=512`.
    """
    view = View("clean", mask=masks.Random(0.75), decoded_ratio=1 / 3)
    return {
        "corruption": Corruption(views=[view], **corruption),
        "objective": Objective([Reconstruction("clean", targets.Pixels())]),
        "conditioning": "token",
        "decoder": decoders.Cross(taps="all", visible="mask"),
    }
