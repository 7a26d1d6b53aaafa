"""The error of a prediction over frequencies."""

import math

import keras
from keras import ops

from keras_umd.layers.masking import take_tokens
from keras_umd.layers.patches import as_tuple, patch_grid, unpatchify
from keras_umd.objectives.targets.denoising import X0
from keras_umd.objectives.term import Term
from keras_umd.utils.checks import check_bools, check_numbers, check_one_of, require
from keras_umd.utils.fourier import frequency_errors, spectrum


@keras.saving.register_keras_serializable("keras_umd")
class Spectrum(Term):
    """The error of the whole image's Fourier coefficients (Xie et al., "Masked Frequency Modeling", 2023, section 3.2).

        mean over frequencies and channels of |F(prediction) - F(x_0)|^gamma

    The decoder predicts x_0 of all patches, and the image that they make is compared. `targets.Fourier` is the same of
    each patch by itself.

    Example:

    >>> corruption = Corruption(views=[View("clean", change=changes.Frequency(4.0))])
    >>> sizes = {"hidden_dim": 32, "num_layers": 1, "num_heads": 2, "decoder_layers": 1}
    >>> model = UMD((8, 8, 1), 2, **sizes, corruption=corruption, objective=Objective([Spectrum("clean")]))

    Args:
        view: String, the name of the view.
        where: `"removed"`, the frequencies that `changes.Frequency` has taken away, or `"all"`.
        gamma: Float in (0, 4].
        focal: Bool. Whether a frequency counts by log(1 + |difference|), divided by the largest of its image and
            channel (Jiang et al., "Focal Frequency Loss", 2021, as in A2MIM, 2023, which divides by that of the batch).
        weight: Float.
        name: String. Defaults to `"spectrum"`.
    """

    def __init__(self, view, where="removed", gamma=1.0, focal=False, weight=1.0, name=None, **kwargs):
        check_one_of(("removed", "all"), where=where)
        check_numbers("(0, 4]", gamma=gamma)
        check_bools(focal=focal)
        super().__init__(view, weight, name=name, **kwargs)
        self.where = where
        self.gamma = gamma
        self.focal = focal
        self.target = X0()
        self.built = True

    def reads(self):
        return {self.target.name: "all"}

    def heads(self):
        return {self.target.name: self.target}

    def targets(self, view, patch_size, teacher=None):
        x0 = view["x0"]
        grid, sizes = patch_grid(x0.shape[1:], patch_size), as_tuple(patch_size, len(x0.shape) - 2)
        # The shape, (n, grid, size, ..., channels), tells `image_losses` how patches make an image.
        pairs = [size for pair in zip(grid, sizes, strict=True) for size in pair]
        values = {"pixels": ops.reshape(x0, (-1, *pairs, x0.shape[-1]))}
        if self.where == "removed":
            require("removed" in view, "`where`='removed' needs a view with a `changes.Frequency`.", sorted(view))
            values["removed"] = view["removed"]
        if "masked" in view:
            order = ops.concatenate([view["visible"], view["masked"]], axis=1)
            require(
                order.shape[1] == math.prod(grid),
                "A spectrum needs all patches; set decoded_ratio=1.",
                f"{order.shape[1]} of {math.prod(grid)} patches",
            )
            values["order"] = order
        return values

    def image_losses(self, outputs, target):
        pixels, prediction = target["pixels"], ops.cast(outputs[self.target.name], "float32")
        if "order" in target:
            prediction = take_tokens(prediction, ops.argsort(target["order"], axis=1))
        grid, sizes = (tuple(pixels.shape[start:-1:2]) for start in (1, 2))
        image = unpatchify(prediction, sizes, grid)
        square = sum(map(ops.square, spectrum(image - ops.reshape(pixels, (-1, *image.shape[1:])))))
        space = tuple(range(1, len(square.shape) - 1))  # of (n, *space, channels)
        errors = ops.mean(frequency_errors(square, self.gamma, self.focal, space), axis=-1)
        if self.where == "all":
            return ops.mean(errors, axis=space)
        removed = ops.cast(target["removed"], "float32")
        return ops.sum(errors * removed, axis=space) / ops.maximum(ops.sum(removed, axis=space), 1.0)

    def get_config(self):
        return {**super().get_config(), "where": self.where, "gamma": self.gamma, "focal": self.focal}
