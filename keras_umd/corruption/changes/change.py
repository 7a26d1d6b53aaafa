"""The interface of a change."""

from keras_umd.utils.configurable import Configurable


class Change(Configurable):
    """What a view changes in the values of its images: the network sees all patches, and predicts what was there.

    A change is a pure function of images and of random numbers, with static shapes.

    Example:

    >>> @keras.saving.register_keras_serializable("mine")
    ... class Darker(Change):
    ...     def num_draws(self, grid):
    ...         return 1
    ...     def __call__(self, images, draws, patch_size, noise, hints=None):
    ...         return {"images": images - draws[:, :1, None, None]}
    >>> View("clean", change=Darker())
    """

    marks: str | None = None  # what it gives of which errors count, "changed" or "removed"; `None` where all count
    gives_other = False  # whether it gives another image, `other`, too, for a decoder that looks there

    def num_draws(self, grid):
        """The uniform numbers that it wants for an image with this grid of patches."""
        return 0

    def __call__(self, images, draws, patch_size, noise, hints=None):
        """Change clean images.

        Args:
            images: Float32 tensor of shape `(n, *image_shape)`.
            draws: Float32 tensor of shape `(n, num_draws(grid))`, uniform in [0, 1).
            patch_size: Tuple of integers, one for each space axis.
            noise: Float32 tensor of the images' shape, normal.
            hints: As of `Mask.scores`.

        Returns:
            Dictionary of tensors: `images`, what the network sees; `x0`, what is to be predicted, if it is another than
            the images; where single patches are changed, `changed` `(n, num_patches)`, bool; where frequencies are
            removed, `removed` `(n, *space)`, float32, 1 for those; where it `gives_other`, `other`, images that the
            encoder sees whole beside them.
        """
        raise NotImplementedError
