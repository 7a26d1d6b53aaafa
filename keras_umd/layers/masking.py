"""Random masking of patches: which stay visible, and how the sequence is put together again."""

import keras
from keras import ops

from keras_umd.layers.symbolic import BaseLayer
from keras_umd.utils.checks import check_numbers, check_tensors, require
from keras_umd.utils.seeds import seed_generator


def check_mask_ratio(mask_ratio, name="mask_ratio"):
    """Raise a ValueError for a mask ratio outside of [0, 1)."""
    check_numbers("[0, 1)", **{name: mask_ratio})


def num_visible(num_patches, mask_ratio):
    """The number of visible patches, `num_patches * (1 - mask_ratio)`, truncated, as in MAE."""
    check_mask_ratio(mask_ratio)
    visible = int(num_patches * (1 - mask_ratio) + 1e-9)  # 100 * (1 - 0.9) is 9.999999999999998
    require(
        visible > 0,
        "The mask ratio leaves no patch visible; lower it, or use smaller patches.",
        f"mask_ratio={mask_ratio} with {num_patches} patches",
    )
    return visible


def split_by_score(scores, mask_ratio):
    """Choose the visible patches: those with the smallest scores; with uniform ones, a random subset (MAE, section 3).

    Example:

    >>> visible, masked = layers.split_by_score(np.random.uniform(size=(2, 16)).astype("float32"), 0.75)
    >>> visible.shape, masked.shape
    ((2, 4), (2, 12))

    Args:
        scores: Float tensor of shape `(batch, num_patches)`.
        mask_ratio: Float in [0, 1). Share of the patches to mask.

    Returns:
        Two int32 tensors of patch indices by rising score, the visible `(batch, visible)` and the masked
        `(batch, num_patches - visible)`.

    Raises:
        ValueError: if the ratio is out of range or leaves no patch visible.
    """
    check_tensors(2, scores=scores)
    return split_at(scores, num_visible(scores.shape[1], mask_ratio))


def ranks(scores):
    """The place of each patch in its row by rising score: int32 `(n, num_patches)` from 0, of floats of that shape."""
    return ops.argsort(ops.argsort(scores, axis=1), axis=1)


def split_at(scores, visible):
    """As `split_by_score`, for a number of visible patches, an integer."""
    order = ops.cast(ops.argsort(scores, axis=1), "int32")
    return order[:, :visible], order[:, visible:]


def take_tokens(tokens, indices):
    """Gather tokens `(batch, num_patches, dim)` by `indices`, `(batch, n)`: `(batch, n, dim)`.

    Example:

    >>> layers.take_tokens(np.ones((2, 16, 8)), np.array([[0, 3], [5, 1]])).shape
    (2, 2, 8)
    """
    check_tensors(3, tokens=tokens)
    check_tensors(2, types=("int",), indices=indices)
    return ops.take_along_axis(tokens, indices[:, :, None], axis=1)


def restore(tokens, visible, masked):
    """Put tokens that come in the order visible, masked back into the order of their patches.

    Example:

    >>> visible, masked = layers.split_by_score(np.random.uniform(size=(2, 16)).astype("float32"), 0.75)
    >>> tokens = np.concatenate([np.ones((2, 4, 8)), np.zeros((2, 12, 8))], axis=1)    # the visible ones first
    >>> layers.restore(tokens, visible, masked).shape                                  # in the order of the patches
    (2, 16, 8)

    Args:
        tokens: Tensor of shape `(batch, num_patches, dim)`.
        visible, masked: The indices that `split_by_score` returned.

    Returns:
        Tensor of shape `(batch, num_patches, dim)`, row-major over the image.
    """
    check_tensors(2, types=("int",), visible=visible, masked=masked)
    return take_tokens(tokens, ops.argsort(ops.concatenate([visible, masked], axis=1), axis=1))


@keras.saving.register_keras_serializable("keras_umd")
class RandomMasking(BaseLayer):
    """Drops a random subset of the tokens of each image, the same number for all (MAE, section 3).

    It masks whenever it is called, in training and at inference.

    Example:

    >>> visible_tokens, visible, masked = RandomMasking(0.75, seed=0)(keras.random.normal((2, 16, 8)))
    >>> visible_tokens.shape, visible.shape, masked.shape
    ((2, 4, 8), (2, 4), (2, 12))

    Args:
        mask_ratio: Float in [0, 1). Share of the tokens to drop.
        seed: Integer or `None`.

    Call arguments:
        tokens: Tensor of shape `(batch, num_patches, dim)`.
        mask_noise: Float tensor of shape `(batch, num_patches)`. Drawn where it is not given.

    Returns:
        The visible tokens `(batch, visible, dim)`, and the indices of the visible `(batch, visible)` and of the masked
        tokens `(batch, masked)`, for `restore`.
    """

    def __init__(self, mask_ratio, seed=None, **kwargs):
        # In bfloat16 the noise would have ties, and the mask a bias.
        super().__init__(autocast=False, **kwargs)
        check_mask_ratio(mask_ratio)
        self.mask_ratio = mask_ratio
        self.seed = seed
        self.seed_generator = seed_generator(seed)

    def build(self, tokens_shape, mask_noise_shape=None):
        require(
            len(tokens_shape) == 3,
            "RandomMasking takes tokens (batch, num_patches, dim), of images those of PatchEmbedding or patchify.",
            f"inputs of shape {tuple(tokens_shape)}",
        )
        num_visible(tokens_shape[1], self.mask_ratio)

    def call(self, tokens, mask_noise=None):
        if mask_noise is None:
            mask_noise = keras.random.uniform(ops.shape(tokens)[:2], dtype="float32", seed=self.seed_generator)
        visible, masked = split_by_score(mask_noise, self.mask_ratio)
        return take_tokens(ops.cast(tokens, self.compute_dtype), visible), visible, masked

    def compute_output_shape(self, tokens_shape, mask_noise_shape=None):
        batch, num_patches, dim = tokens_shape
        visible = num_visible(num_patches, self.mask_ratio)
        return (batch, visible, dim), (batch, visible), (batch, num_patches - visible)
