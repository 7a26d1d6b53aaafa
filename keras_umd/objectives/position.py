"""Where a patch belongs, as what its token must tell."""

import math

import keras
import numpy as np
from keras import ops

from keras_umd.corruption.masks.mask import coordinates
from keras_umd.layers.embeddings import checked_grid
from keras_umd.objectives.term import Term
from keras_umd.utils.checks import check_numbers, check_positive_integers, require


@keras.saving.register_keras_serializable("keras_umd")
class Position(Term):
    """The cross-entropy of the places of patches that aren't told theirs (Zhai et al., "MP3", 2022; "DropPos", 2023).

    A linear map of the encoder's tokens says which of all places each of them has. It is meant beside a loss of
    pixels, with a small weight. The view hides the places of a share of its visible patches, `unplaced`.

    Example:

    >>> view = View("clean", mask=masks.Random(0.75), unplaced=0.75)
    >>> Objective([Reconstruction("clean", targets.X0()), Position("clean", (14, 14), hidden_dim=768, weight=0.05)])

    Args:
        view: String, the name of the view.
        grid: Tuple of integers, the patches along each space axis.
        hidden_dim: Integer, the model's.
        smooth: Float of at least 0, in patches: how far from the right place an answer is right in part. A place at
            distance d counts as exp(-d^2 / smooth^2), divided by the sum of all; 0 is the right place alone.
        weight: Float.
        name: String. Defaults to `"position"`.
    """

    def __init__(self, view, grid, hidden_dim, smooth=0.0, weight=1.0, name=None, **kwargs):
        check_positive_integers(hidden_dim=hidden_dim)
        check_numbers("[0, 1e6]", smooth=smooth)
        grid = checked_grid(grid)
        super().__init__(view, weight, name=name, **kwargs)
        self.grid = grid
        self.hidden_dim = int(hidden_dim)
        self.smooth = smooth
        self.classifier = keras.layers.Dense(math.prod(grid), name="classifier")
        self.classifier.build((None, self.hidden_dim))
        self.built = True

    def prepare(self, grid, patch_dim):
        require(tuple(grid) == tuple(self.grid), f"`grid` must be the model's, {tuple(grid)}.", grid=self.grid)

    def targets(self, view, patch_size, teacher=None):
        require("unplaced" in view, "`Position` needs a view with `unplaced` patches.", f"a view of {sorted(view)}")
        number = math.prod(self.grid)
        unplaced = view["unplaced"]
        if "visible" in view:
            places = view["visible"]
        else:
            places = ops.broadcast_to(ops.arange(number, dtype="int32"), (ops.shape(unplaced)[0], number))
        return {"places": places, "unplaced": unplaced}

    def image_losses(self, outputs, target):
        logits = ops.cast(self.classifier(outputs["tokens"]), "float32")  # (n, visible, num_patches)
        right = ops.take(ops.convert_to_tensor(self._shares()), target["places"], axis=0)
        errors = -ops.sum(right * ops.log_softmax(logits, axis=-1), axis=-1)
        counted = ops.cast(target["unplaced"], "float32")
        return ops.sum(errors * counted, axis=1) / ops.maximum(ops.sum(counted, axis=1), 1.0)

    def _shares(self):
        """How right each place is for a patch of each place, a float32 array whose rows add up to 1."""
        at = coordinates(self.grid)
        squares = np.sum((at[:, None] - at[None]) ** 2, axis=-1)
        shares = (squares == 0) if not self.smooth else np.exp(-squares / max(self.smooth**2, 1e-30))
        return (shares / shares.sum(axis=1, keepdims=True)).astype("float32")

    def get_config(self):
        return {**super().get_config(), "grid": self.grid, "hidden_dim": self.hidden_dim, "smooth": self.smooth}
