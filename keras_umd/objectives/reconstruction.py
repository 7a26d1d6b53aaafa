"""The error of a prediction over patches."""

import keras
from keras import ops

from keras_umd.corruption.weightings import Weighting
from keras_umd.layers.masking import take_tokens
from keras_umd.objectives.targets.denoising import DenoisingTarget
from keras_umd.objectives.targets.target import Target
from keras_umd.objectives.term import Term
from keras_umd.utils.checks import check_instances, check_numbers, check_one_of, require

OPTIONAL = {"weighting": None, "mean_weight": 1.0, "masked_weight": 1.0}
PLACES = ("masked", "visible", "all", "changed", "unseen")
MARKED = ("changed", "unseen")  # some of all patches


@keras.saving.register_keras_serializable("keras_umd")
class Reconstruction(Term):
    """The error of a prediction, averaged over the masked patches, over the visible ones or over all.

    Where the view masks nothing, all patches count in any case, but for `"changed"`.

    Example:

    >>> pixels = Reconstruction("clean", targets.Pixels())
    >>> objective = Objective([pixels, Reconstruction("clean", targets.HOG(), weight=0.1)])
    >>> objective.loss_names
    ['clean_pixels_loss', 'clean_hog_loss']

    Args:
        view: String, the name of the view.
        target: `Target`.
        where: `"masked"`, `"visible"`, `"all"`; `"changed"`, the patches that a `changes.Fill` has filled; or
            `"unseen"`, the masked ones and those that a `masks.Varying` has hidden in the encoder.
        weight: Float.
        name: String. Defaults to the target's name.
        weighting: `Weighting`, how much errors count by the noise level of their image, or `None`. The view must be
            noisy, and the target a denoising one. Where all patches of a masked view count, those that are masked
            have `masked_weight` instead.
        mean_weight: Positive float that weights are divided by; `Objective.denoising` takes their mean under the levels
            that are drawn, so that views keep their shares of the loss.
        masked_weight: Float of at least 0.
    """

    def __init__(
        self,
        view,
        target,
        where="masked",
        weight=1.0,
        name=None,
        weighting=None,
        mean_weight=1.0,
        masked_weight=1.0,
        **kwargs,
    ):
        check_one_of(PLACES, where=where)
        check_instances(Weighting, "a Weighting, as weightings.V(),", optional=True, weighting=weighting)
        check_numbers("(0, 1e12]", mean_weight=mean_weight)
        check_numbers("[0, 1e6]", masked_weight=masked_weight)
        require(isinstance(target, Target) and target.name, "`target` must be a Target with a `name`.", target=target)
        super().__init__(view, weight, name=target.name if name is None else name, **kwargs)
        self.target = target
        require(
            weighting is None or isinstance(target, DenoisingTarget),
            "`weighting` needs a denoising target, as X0().",
            target=target,
        )
        self.where = where
        self.weighting = weighting
        self.mean_weight = mean_weight
        self.masked_weight = masked_weight
        self.built = True

    def reads(self):
        return {self.target.name: self._read}

    @property
    def _read(self):
        """The patches that are predicted."""
        return "all" if self.where in MARKED else self.where

    def heads(self):
        return {self.target.name: self.target}

    def targets(self, view, patch_size, teacher=None):
        require(
            self.where != "masked" or "masked" not in view or view["masked"].shape[1] > 0,
            "The encoder gets all patches of the view; what is hidden there is predicted with where='unseen'.",
            where=self.where,
        )
        target = self.target(view, patch_size, teacher)  # (n, num_patches, values)
        if "masked" in view:
            target = take_tokens(target, self._predicted_patches(view))
        if self.where in MARKED:
            return {"values": target, "weights": self._of_marked(view)}
        left_out = [view[name] for name in ("missing", "still")[: 1 + self.target.is_of_noise] if name in view]
        if self.weighting is None and self.masked_weight == 1 and not left_out:
            return target
        weights = self._weights(view)
        for patches in left_out:
            weights = weights * self._counted(view, patches)
        return {"values": target, "weights": weights}

    def _predicted_patches(self, view):
        """The patches of a masked view that are predicted, in the order of predictions, `(n, patches)`."""
        places = ("visible", "masked") if self._read == "all" else (self._read,)
        return ops.concatenate([view[place] for place in places], axis=1)

    def _of_marked(self, view):
        """The weight of each patch, `(n, patches)`, where those that the view marks count."""
        key, maker = ("changed", "changes.Fill") if self.where == "changed" else ("hidden", "masks.Varying")
        require(key in view, f"`where`={self.where!r} needs a view with a `{maker}`.", f"a view of {sorted(view)}")
        marked = ops.cast(view[key], "float32")
        if self.where == "unseen":
            marked = ops.concatenate([marked, ops.ones_like(ops.cast(view["masked"], "float32"))], axis=1)
        elif "masked" in view:
            marked = ops.take_along_axis(marked, self._predicted_patches(view), axis=1)
        return _mean_over(marked)

    def _counted(self, view, left_out):
        """The weight of each patch, `(n, patches)`, where `left_out`, bool `(n, num_patches)`, don't count."""
        if "masked" in view:
            left_out = ops.take_along_axis(left_out, self._predicted_patches(view), axis=1)
        return _mean_over(ops.cast(ops.logical_not(left_out), "float32"))

    def _weights(self, view):
        """The weight of each image, `(n, 1)`, or of each of its patches, `(n, patches)`."""
        if self.weighting is None:
            weights = ops.ones((1, 1))
        else:
            require("level" in view, "`weighting` needs a noisy view.", f"a view of {sorted(view)}")
            weights = ops.reshape(weight_of_error(self.weighting, self.target, view["level"]), (-1, 1))
            weights = ops.cast(weights, "float32") / self.mean_weight
        if self.where != "all" or "masked" not in view:
            return weights
        of_masked = ops.full_like(ops.cast(view["masked"], "float32"), self.masked_weight)
        of_visible = ops.broadcast_to(weights, ops.shape(view["visible"]))
        return ops.concatenate([of_visible, of_masked], axis=1)

    def image_losses(self, outputs, target):
        errors, weights = self.patch_errors(outputs, target)
        return ops.mean(errors if weights is None else errors * weights, axis=1)  # (n,)

    def patch_errors(self, outputs, target):
        """The error of each patch, `(n, patches)`, and its weight, or `None`."""
        weights = None
        if isinstance(target, dict):
            target, weights = target["values"], target["weights"]
        prediction = self.of_patches(outputs[self.target.name], target.shape[1])
        return self.target.errors(prediction, target), weights

    def of_patches(self, prediction, num_patches):
        """The prediction of the patches that count: another term may read the others, too. Visible ones come first."""
        if prediction.shape[1] == num_patches:
            return prediction
        return prediction[:, -num_patches:] if self.where == "masked" else prediction[:, :num_patches]

    def get_config(self):
        own = {name: getattr(self, name) for name, default in OPTIONAL.items() if getattr(self, name) != default}
        return {**super().get_config(), "target": self.target, "where": self.where, **own}


def _mean_over(counted):
    """Weights with which a mean over all patches is one over those that count: of 1 for them and 0 for others."""
    return counted * (counted.shape[1] / ops.maximum(ops.sum(counted, axis=1, keepdims=True), 1.0))


def weight_of_error(weighting, target, level):
    """The weight of the squared error of a prediction: that of x_0, times what the error is worth as one of x_0."""
    return weighting(level) * target.x0_share(level)
