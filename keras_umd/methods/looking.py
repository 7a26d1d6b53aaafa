"""Masked autoencoders whose masks look at the image. Sizes and rates are the library's own; see each."""

from keras_umd.corruption import masks
from keras_umd.corruption.view import View
from keras_umd.methods.method import clean_images, method
from keras_umd.models.teacher import Teacher
from keras_umd.objectives import Difficulty, Reconstruction, SamplingPolicy, targets

RISING_STEPS = 5000  # the paper's share of hard patches rises through all of the training, which no preset knows


@method("Kakogeorgiou et al., What to Hide from Your Students: Attention-Guided Masked Image Modeling, 2022")
def attmask(**corruption):
    """MAE that masks where its moving average looks, in half of the images, and shows hints of it.

    The paper's masks are for iBOT's losses, at lower ratios.

    Example:

    >>> model = UMD.from_preset("attmask_tiny_patch4_32", num_layers=1, decoder_layers=1)
    """
    view = View("clean", mask=masks.Attention(0.75, "hint", probability=0.5))
    return clean_images([view], [Reconstruction("clean", targets.Pixels())], corruption, teacher=Teacher(0.996))


@method("Wang et al., Hard Patches Mining for Masked Image Modeling, 2023")
def hpm(**corruption):
    """MAE that masks what its moving average finds hard: none of the masked patches at first, later half of them.

    The share rises in 5,000 steps; give your own: `masks.HardPatches(0.75, (0.0, 0.5), steps=...)`. The paper predicts
    difficulty by a second decoder.

    Example:

    >>> model = UMD.from_preset("hpm_tiny_patch4_32", num_layers=1, decoder_layers=1)
    """
    view = View("clean", mask=masks.HardPatches(0.75, (0.0, 0.5), steps=RISING_STEPS))
    terms = [Reconstruction("clean", targets.Pixels()), Difficulty("clean", targets.Pixels())]
    return clean_images([view], terms, corruption, teacher=Teacher(0.999))


@method("Bandara et al., AdaMAE: Adaptive Masking for Efficient Spatiotemporal Learning, 2023")
def adamae(**corruption):
    """MAE of videos that learns which twentieth of the patches to look at.

    Give it `image_shape=(16, 224, 224, 3)` and `patch_size=(2, 16, 16)`.

    Example:

    >>> video = {"image_shape": (4, 32, 32, 3), "patch_size": (2, 8, 8)}
    >>> model = UMD.from_preset("adamae_tiny_patch8_32", **video, num_layers=1, decoder_layers=1)
    """
    view = View("clean", mask=masks.Adaptive(0.95))
    terms = [Reconstruction("clean", targets.Pixels()), SamplingPolicy("clean", targets.Pixels())]
    return clean_images([view], terms, corruption)
