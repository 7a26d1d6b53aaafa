"""Learning which patches are hard to predict."""

import keras
from keras import ops

from keras_umd.objectives.reconstruction import Reconstruction
from keras_umd.objectives.targets.target import Target
from keras_umd.utils.checks import check_instances


@keras.saving.register_keras_serializable("keras_umd")
class Hardness(Target):
    """A number for each patch that is higher where its error is: what `Difficulty` trains. It has no values."""

    name = "difficulty"

    def num_values(self, patch_dim):
        return 1


@keras.saving.register_keras_serializable("keras_umd")
class Difficulty(Reconstruction):
    """The order of the errors of a prediction, learned: which patch is harder (HPM; Wang et al., 2023, section 3.2).

    For each pair of patches with errors `e_i > e_j` and predicted difficulties `l`, it is `-log sigmoid(l_i - l_j)`,
    averaged over such pairs. The errors get no gradient. The decoder predicts difficulties by a linear map of its
    tokens; the paper has a second decoder for that.

    Example:

    >>> Objective([Reconstruction("clean", Pixels()), Difficulty("clean", Pixels())])

    Args:
        view: String, the name of the view.
        target: `Target`, whose errors are meant; another term must train its prediction.
        where: `"masked"`, `"visible"` or `"all"`.
        weight: Float.
        name: String.
    """

    def __init__(self, view, target, where="masked", weight=1.0, name="difficulty", **kwargs):
        check_instances(str, "a string", name=name)
        super().__init__(view, target, where, weight, name, **kwargs)
        self.hardness = Hardness()

    def reads(self):
        return {self.target.name: self.where, self.hardness.name: self.where}

    def heads(self):
        return {self.target.name: self.target, self.hardness.name: self.hardness}

    def image_losses(self, outputs, target):
        errors, _ = self.patch_errors(outputs, target)
        errors = ops.stop_gradient(errors)  # (n, patches)
        difficulty = self.of_patches(outputs[self.hardness.name], errors.shape[1])
        difficulty = ops.cast(difficulty[:, :, 0], "float32")
        is_harder = ops.cast(errors[:, :, None] > errors[:, None, :], "float32")  # (n, i, j)
        # Not the logarithm of a sigmoid, which is 0 in half precision where the order is wrong.
        costs = ops.softplus(difficulty[:, None, :] - difficulty[:, :, None])
        return ops.sum(is_harder * costs, axis=(1, 2)) / ops.maximum(ops.sum(is_harder, axis=(1, 2)), 1.0)
