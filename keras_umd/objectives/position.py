"""Where a patch belongs, as what its token must tell."""

import math

import keras
import numpy as np
from keras import ops

from keras_umd.corruption.masks.mask import coordinates
from keras_umd.layers.embeddings import checked_grid
from keras_umd.objectives.term import Term
from keras_umd.utils.checks import check_integers, check_numbers, check_positive_integers, is_list, require


@keras.saving.register_keras_serializable("keras_umd")
class Position(Term):
    """The cross-entropy of the places of patches that aren't told theirs (Zhai et al., "MP3", 2022; "DropPos", 2023).

    A linear map of the encoder's tokens says which of all places each of them has. It is meant beside a loss of
    pixels, with a small weight. The view hides the places of a share of its visible patches, `unplaced`.

    Example:

    >>> view = View("clean", mask=masks.Random(0.75), unplaced=0.75)
    >>> places = Position("clean", (14, 14), hidden_dim=768, smooth=(1.0, 0.0), weight=0.05, steps=100_000)
    >>> Objective([Reconstruction("clean", targets.X0()), places])

    Args:
        view: String, the name of the view.
        grid: Tuple of integers, the patches along each space axis.
        hidden_dim: Integer, the model's.
        smooth: Float of at least 0, in patches: how far from the right place an answer is right in part. A place at
            distance d counts as exp(-d^2 / smooth^2), divided by the sum of all; 0 is the right place alone. Or a pair,
            from which to which it goes in `steps`: DropPos' is (1.0, 0.0).
        weight: Float.
        name: String. Defaults to `"position"`.
        steps: Integer, the steps of training in which a pair as `smooth` is gone through; else `None`. How many there
            were is part of the weights.
    """

    def __init__(self, view, grid, hidden_dim, smooth=0.0, weight=1.0, name=None, steps=None, **kwargs):
        check_positive_integers(hidden_dim=hidden_dim)
        changes = is_list(smooth)
        require(not changes or len(smooth) == 2, "`smooth` must be a number or a pair of them.", smooth=smooth)
        for value in smooth if changes else (smooth,):
            check_numbers("[0, 1e6]", smooth=value)
        check_integers(1, optional=True, steps=steps)
        require((steps is not None) == changes, "`steps` are for a pair as `smooth`.", smooth=smooth, steps=steps)
        grid = checked_grid(grid)
        super().__init__(view, weight, name=name, **kwargs)
        self.grid = grid
        self.hidden_dim = int(hidden_dim)
        self.smooth = tuple(smooth) if changes else smooth
        self.steps = steps
        self.num_steps = None
        if changes:
            counter = {"dtype": "float32", "trainable": False, "aggregation": "only_first_replica"}
            self.num_steps = self.add_weight(shape=(), initializer="zeros", name="num_steps", **counter)
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
        right = ops.take(self._shares(), target["places"], axis=0)
        errors = -ops.sum(right * ops.log_softmax(logits, axis=-1), axis=-1)
        counted = ops.cast(target["unplaced"], "float32")
        return ops.sum(errors * counted, axis=1) / ops.maximum(ops.sum(counted, axis=1), 1.0)

    def observe(self, losses, target):
        if self.num_steps is not None:
            self.num_steps.assign(ops.convert_to_tensor(self.num_steps) + 1.0)

    def _shares(self):
        """How right each place is for a patch of each place, a float32 tensor whose rows add up to 1."""
        at = coordinates(self.grid)
        squares = np.sum((at[:, None] - at[None]) ** 2, axis=-1)
        smooth = ops.convert_to_tensor(self.smooth, "float32")
        if self.num_steps is not None:
            progress = ops.minimum(ops.convert_to_tensor(self.num_steps) / self.steps, 1.0)
            smooth = smooth[0] + (smooth[1] - smooth[0]) * progress
        # Of places a patch away, e^-1e6 is 0: a smaller square would divide by 0.
        return ops.softmax(ops.convert_to_tensor(-squares) / ops.maximum(ops.square(smooth), 1e-6), axis=-1)

    def get_config(self):
        own = {"grid": self.grid, "hidden_dim": self.hidden_dim, "smooth": self.smooth}
        return {**super().get_config(), **own, **({} if self.steps is None else {"steps": self.steps})}
