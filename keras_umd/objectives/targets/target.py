"""The interface of a target."""

from keras import ops

from keras_umd.utils.checks import require
from keras_umd.utils.configurable import Configurable


class Target(Configurable):
    """Values to predict for each patch of a view, computed before the gradient is taken.

    A target is a small object without weights: a subclass sets `name`, computes its values in `__call__`, and says in
    `num_values` how wide they are. It imports no model. Register it with Keras to save models that use it.

    Example:

    >>> @keras.saving.register_keras_serializable("mine")
    ... class Brightness(Target):
    ...     name = "brightness"
    ...     def num_values(self, patch_dim):
    ...         return 1
    ...     def __call__(self, view, patch_size, teacher=None):
    ...         return ops.mean(patchify(view["x0"], patch_size), axis=-1, keepdims=True)
    """

    name: str | None = None  # of the prediction, of its head and of its loss
    is_of_noise = False  # whether it tells nothing of patches without noise, which then don't count
    is_pixels = False  # whether `as_pixels` turns a prediction into a picture

    def num_values(self, patch_dim):
        """The width of the prediction for a patch of `patch_dim` numbers."""
        return patch_dim

    def check_patches(self, patch_size, channels):
        """Raise a ValueError where patches of such images have no target of this kind. A model asks when it is built.

        Args:
            patch_size: Tuple of integers, one for each space axis.
            channels: Integer, those of the images.
        """
        return

    def __call__(self, view, patch_size, teacher=None):
        """The values to predict.

        Args:
            view: Dictionary of tensors, one view as `Corruption.corrupt` makes it.
            patch_size: Tuple of integers, one for each space axis.
            teacher: As of `Term.targets`.

        Returns:
            Float tensor of shape `(n, num_patches, num_values)`, for all patches in row-major order.
        """
        raise NotImplementedError(f"{type(self).__name__} must define __call__(view, patch_size, teacher=None).")

    def errors(self, prediction, target):
        """The error of each patch, `(n, patches)`, float32: the mean of squares.

        Args:
            prediction, target: Float tensors of shape `(n, patches, num_values)`.
        """
        predicted, wanted = tuple(prediction.shape)[1:], tuple(target.shape)[1:]
        require(  # a single value would be compared with every number of the prediction
            len(predicted) == len(wanted)
            and all(None in sizes or sizes[0] == sizes[1] for sizes in zip(predicted, wanted, strict=True)),
            f"{type(self).__name__} must return (n, num_patches, num_values), as many values for a patch as its "
            "`num_values` says.",
            f"values of shape (n, {', '.join(map(str, wanted))}) for a prediction of (n, "
            f"{', '.join(map(str, predicted))})",
        )
        return ops.mean(ops.square(ops.cast(prediction, "float32") - ops.cast(target, "float32")), axis=-1)

    def as_pixels(self, prediction, patches):
        """The pixels that a prediction means, for `UMD.reconstruct`; where `is_pixels`.

        Args:
            prediction: Float tensor of shape `(n, num_patches, num_values)`.
            patches: Float tensor of shape `(n, num_patches, patch_dim)`, the true pixels.
        """
        raise NotImplementedError
