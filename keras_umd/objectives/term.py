"""The interface of a term of the loss."""

import re

import keras

from keras_umd.utils.checks import check_instances, check_numbers
from keras_umd.utils.configurable import revive


class Term(keras.layers.Layer):
    """One summand of the loss. A layer, since it may have weights of its own, which its constructor builds.

    Example:

    >>> @keras.saving.register_keras_serializable("mine")
    ... class Spread(Term):                 # keeps the representations of a batch apart
    ...     def image_losses(self, outputs, target):
    ...         z = ops.cast(outputs["representation"], "float32")
    ...         return -ops.mean(ops.square(z - ops.mean(z, axis=0)), axis=-1)

    Args:
        view: String, the name of the view whose outputs it judges.
        weight: Float. Its factor in the loss.
        name: String. Its loss is logged as `{view}_{name}_loss`. Defaults to the class in snake case.
    """

    hint_names: tuple[str, ...] = ()  # what `hints` gives
    takes_unlabelled = False  # whether labels may be -1, for images without one, which reach it as the null label
    learns_levels = False  # whether it has `probabilities` for the bins of `levels.Adaptive` in its view

    def __init__(self, view, weight=1.0, name=None, **kwargs):
        check_instances(str, "the name of a view, a string", view=view)
        check_instances(str, "a string", optional=True, name=name)
        check_numbers("[-1e6, 1e6]", weight=weight)
        if name is None:  # Keras would number it, and the name of the loss would depend on what was built before
            name = re.sub("(?<!^)(?=[A-Z])", "_", type(self).__name__).lower()
        # Without autocast: targets must not be rounded to the compute type.
        super().__init__(autocast=False, name=name, **kwargs)
        self.view = view
        self.weight = weight

    @property
    def loss_name(self):
        return f"{self.view}_{self.name}_loss"

    def reads(self):
        """The predictions that the decoder must make for it: `{name: "masked" | "visible" | "all"}`. Static."""
        return {}

    def heads(self):
        """The targets whose predictions `reads` names, by name."""
        return {}

    def prepare(self, grid, patch_dim):
        """Make weights that depend on the patches of a model: their grid, and the numbers of one. Called once."""
        return

    def hints(self, images, patch_size):
        """What a mask may read of clean images, by the names in `hint_names`: tensors with a row for each image."""
        return {}

    def check_views(self, corruption, terms):
        """Raise a ValueError if the term can't judge the views of a `Corruption` beside the objective's terms."""
        return

    def observe(self, losses, target):
        """Learn from a training step what isn't learned by gradients.

        Args:
            losses: Tensor `(n,)`, what `image_losses` has returned.
            target: As `targets` returned it.
        """
        return

    def targets(self, view, patch_size, teacher=None):
        """Whatever `image_losses` compares with: a tensor, or `None`. No gradient passes here.

        Args:
            view: Dictionary of tensors, as `Corruption.corrupt` makes it.
            patch_size: Tuple of integers.
            teacher: callable, `(images, patches) -> tokens`, what the encoder makes of these patches of clean images,
                float `(n, k, hidden_dim)` for int `(n, k)`; or `None`.
        """
        return

    def image_losses(self, outputs, target):
        """The loss of each image, `(n,)`, float32.

        Args:
            outputs: Dictionary of the network's outputs for the view: its predictions by name, `representation`
                `(n, hidden_dim)` and `tokens` `(n, visible, hidden_dim)`.
            target: As `targets` returned it.
        """
        raise NotImplementedError(f"{type(self).__name__} must define image_losses(outputs, target).")

    def get_config(self):
        return {**super().get_config(), "view": self.view, "weight": self.weight}

    @classmethod
    def from_config(cls, config):
        return cls(**{name: value if name == "dtype" else revive(value) for name, value in config.items()})
