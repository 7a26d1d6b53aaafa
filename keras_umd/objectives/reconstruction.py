"""The error of a prediction over patches."""

import keras
from keras import ops

from keras_umd.layers.masking import take_tokens
from keras_umd.objectives.targets.target import Target
from keras_umd.objectives.term import Term
from keras_umd.utils.checks import require

PLACES = ("masked", "visible", "all")


@keras.saving.register_keras_serializable("keras_umd")
class Reconstruction(Term):
    """The error of a prediction, averaged over the masked patches, over the visible ones or over all.

    Where the view masks nothing, all patches count in any case.

    Args:
        view: String, the name of the view.
        target: `Target`.
        where: `"masked"`, `"visible"` or `"all"`.
        weight: Float.
        name: String. Defaults to the target's name.
    """

    def __init__(self, view, target, where="masked", weight=1.0, name=None, **kwargs):
        require(where in PLACES, f"`where` must be one of {PLACES}.", where=where)
        require(isinstance(target, Target) and target.name, "`target` must be a Target with a `name`.", target=target)
        super().__init__(view, weight, name=target.name if name is None else name, **kwargs)
        self.target = target
        self.where = where
        self.built = True

    def reads(self):
        return {self.target.name: self.where}

    def heads(self):
        return {self.target.name: self.target}

    def targets(self, view, patch_size, teacher=None):
        target = self.target(view, patch_size, teacher)  # (n, num_patches, values)
        if "masked" not in view:
            return target
        indices = [view[place] for place in ("visible", "masked") if self.where in (place, "all")]
        return take_tokens(target, indices[0] if len(indices) == 1 else ops.concatenate(indices, axis=1))

    def image_losses(self, outputs, target):
        prediction, num_patches = outputs[self.target.name], target.shape[1]
        if prediction.shape[1] != num_patches:  # another term reads the other patches, too: visible ones come first
            prediction = prediction[:, -num_patches:] if self.where == "masked" else prediction[:, :num_patches]
        return ops.mean(self.target.errors(prediction, target), axis=1)  # (n,)

    def get_config(self):
        return {**super().get_config(), "target": self.target, "where": self.where}
