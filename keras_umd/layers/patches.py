"""Images to patches, patches to tokens, and back."""

import math

import keras
import numpy as np
from keras import ops

from keras_umd.layers.block import HEAD_BIASES, MAX_WIDTH
from keras_umd.layers.dense import Dense
from keras_umd.layers.modulations import Modulations, build_modulation, modulation_of
from keras_umd.layers.symbolic import BaseLayer
from keras_umd.utils.checks import (
    check_integers,
    check_one_of,
    check_positive_integers,
    check_tensors,
    is_list,
    is_size,
    require,
)

MAX_AXES = 4


def as_tuple(patch_size, num_axes=None):
    """`patch_size` as a tuple of positive integers, one for each space axis.

    Args:
        patch_size: Integer, for all axes, or a tuple of integers.
        num_axes: Integer from 1 to 4. `None` where it isn't known yet: an integer is then checked and stays one.
    """
    sizes = tuple(patch_size) if is_list(patch_size) else (patch_size,) * (num_axes or 1)
    is_valid = all(map(is_size, sizes))
    number = f"1 to {MAX_AXES}" if num_axes is None else num_axes
    require(
        is_valid and 1 <= len(sizes) <= MAX_AXES and len(sizes) == (num_axes or len(sizes)),
        f"`patch_size` must be a positive integer or a tuple of {number} of them, one for each space axis.",
        patch_size=patch_size,
    )
    return tuple(map(int, sizes)) if is_list(patch_size) or num_axes is not None else int(patch_size)


def patch_grid(image_shape, patch_size):
    """The number of patches of an image `(*space, channels)` along each of its space axes, a tuple."""
    space = tuple(image_shape[:-1])
    sizes = as_tuple(patch_size, len(space))
    require(
        all(length and length % size == 0 for length, size in zip(space, sizes, strict=True)),
        "All space axes of an image must be known and divisible by the patch size; resize or crop the images, "
        "or choose another patch size.",
        image_shape=tuple(image_shape),
        patch_size=patch_size,
    )
    return tuple(length // size for length, size in zip(space, sizes, strict=True))


def patchify(images, patch_size):
    """Cut images into patches, in row-major order.

    Example:

    >>> layers.patchify(images, (2, 2)).shape
    (24, 16, 4)

    Args:
        images: Tensor of shape `(batch, *space, channels)`, with one to four space axes.
        patch_size: Integer or a tuple of integers, one for each space axis.

    Returns:
        Tensor of shape `(batch, num_patches, prod(patch_size) * channels)`.
    """
    check_tensors(None, images=images)
    require(
        3 <= len(images.shape) <= MAX_AXES + 2,
        "`images` must be of shape (batch, *space, channels), with one to four space axes.",
        f"images of shape {tuple(images.shape)}",
    )
    space, channels = images.shape[1:-1], images.shape[-1]
    grid, sizes = patch_grid(images.shape[1:], patch_size), as_tuple(patch_size, len(space))
    x = ops.reshape(images, (-1, *_interleaved(grid, sizes), channels))
    n = len(sizes)
    x = ops.transpose(x, (0, *range(1, 2 * n, 2), *range(2, 2 * n + 1, 2), 2 * n + 1))
    return ops.reshape(x, (-1, math.prod(grid), math.prod(sizes) * channels))


def unpatchify(patches, patch_size, grid):
    """Put patches together to images; the inverse of `patchify`.

    Example:

    >>> patches = layers.patchify(images, (2, 2))
    >>> bool(np.all(ops.convert_to_numpy(layers.unpatchify(patches, (2, 2), (4, 4))) == images))
    True

    Args:
        patches: Tensor of shape `(batch, prod(grid), prod(patch_size) * channels)`.
        patch_size: Integer or a tuple of integers, one for each space axis.
        grid: Tuple of integers, the number of patches along each space axis.

    Returns:
        Tensor of shape `(batch, *space, channels)`.
    """
    check_tensors(3, patches=patches)
    is_grid = is_list(grid) and 1 <= len(grid) <= MAX_AXES and all(map(is_size, grid))
    require(is_grid, "`grid` must be a tuple of one to four positive integers, one for each space axis.", grid=grid)
    sizes = as_tuple(patch_size, len(grid))
    require(
        None in patches.shape[1:] or (patches.shape[1] == math.prod(grid) and patches.shape[2] % math.prod(sizes) == 0),
        f"`patches` must be of shape (batch, {math.prod(grid)}, {math.prod(sizes)} * channels), as `patch_size` and "
        "`grid` say.",
        f"patches of shape {tuple(patches.shape)}, patch_size={patch_size}, grid={grid}",
    )
    n, channels = len(sizes), patches.shape[-1] // math.prod(sizes)
    x = ops.reshape(patches, (-1, *grid, *sizes, channels))
    x = ops.transpose(x, (0, *_interleaved(range(1, n + 1), range(n + 1, 2 * n + 1)), 2 * n + 1))
    return ops.reshape(x, (-1, *(count * size for count, size in zip(grid, sizes, strict=True)), channels))


def _interleaved(first, second):
    return [x for pair in zip(first, second, strict=True) for x in pair]


@keras.saving.register_keras_serializable("keras_umd")
class PatchEmbedding(BaseLayer):
    """Turns each patch of an image into a token by one linear map (ViT, Eq. 1).

    The patches may come already cut, and only some of them: a model that masks gathers the visible patches first and
    embeds nothing else.

    Example:

    >>> PatchEmbedding(patch_size=4, hidden_dim=192)(keras.random.normal((2, 32, 64, 3))).shape
    (2, 128, 192)

    Args:
        patch_size: Integer or a tuple of integers, one for each space axis.
        hidden_dim: Integer. Width of the tokens.
        bottleneck: Integer or `None`. Patches are first projected to so many numbers, without bias (JiT; Li and He,
            2025).

    Call arguments:
        inputs: Float tensor, images `(batch, *space, channels)` or the patches that `patchify` makes of them,
            `(batch, num_patches, patch_dim)`. With one space axis, a tuple of one as `patch_size`, both have rank 3:
            then it is images, and `embed` takes patches.

    Returns:
        Float tensor of shape `(batch, num_patches, hidden_dim)`.
    """

    def __init__(self, patch_size, hidden_dim, bottleneck=None, **kwargs):
        super().__init__(**kwargs)
        self.patch_size = as_tuple(patch_size)
        check_positive_integers(hidden_dim=hidden_dim)
        check_integers(1, MAX_WIDTH, optional=True, bottleneck=bottleneck)
        self.bottleneck = None if bottleneck is None else int(bottleneck)
        hidden_dim = self.hidden_dim = int(hidden_dim)
        self.projection = Dense(
            hidden_dim, kernel_initializer="lecun_normal", dtype=self.dtype_policy, name="projection"
        )

    def build(self, input_shape):
        patch_dim = input_shape[-1]
        if self._takes_images(input_shape):
            sizes = as_tuple(self.patch_size, len(input_shape) - 2)
            patch_grid(input_shape[1:], sizes)
            patch_dim *= math.prod(sizes)
        if self.bottleneck is not None:
            options = {"kernel_initializer": "lecun_normal", "dtype": self.dtype_policy}
            self.reduction = Dense(self.bottleneck, use_bias=False, name="reduction", **options)
            self.reduction.build((None, None, patch_dim))
            patch_dim = self.bottleneck
        self.projection.build((None, None, patch_dim))

    def call(self, inputs):
        return self.embed(patchify(inputs, self.patch_size) if self._takes_images(inputs.shape) else inputs)

    def embed(self, patches):
        """Tokens `(batch, n, hidden_dim)` of patches `(batch, n, patch_dim)`, whatever the number of axes."""
        return self.projection(patches if self.bottleneck is None else self.reduction(patches))

    def _takes_images(self, input_shape):
        rank = len(input_shape)
        image_ranks = range(4, MAX_AXES + 3) if np.ndim(self.patch_size) == 0 else (len(self.patch_size) + 2,)
        require(
            rank == 3 or rank in image_ranks,
            "PatchEmbedding takes images (batch, *space, channels), with as many space axes as `patch_size` has "
            "numbers, or patches (batch, num_patches, patch_dim).",
            f"inputs of shape {tuple(input_shape)} with patch_size={self.patch_size}",
        )
        return rank in image_ranks

    def compute_output_shape(self, input_shape):
        takes_images = self._takes_images(input_shape)
        num_patches = math.prod(patch_grid(input_shape[1:], self.patch_size)) if takes_images else input_shape[1]
        return (input_shape[0], num_patches, self.hidden_dim)


@keras.saving.register_keras_serializable("keras_umd")
class PatchHead(BaseLayer):
    """Turns tokens back into patches: a linear map, after a modulation by the condition (DiT, section 3.2).

    The map has one bias for each channel, shared by all pixels of a patch, as a transposed convolution has.

    Example:

    >>> PatchHead(patch_size=4, channels=6)(keras.random.normal((2, 128, 192))).shape
    (2, 128, 96)

    Args:
        patch_size: Tuple of integers, one for each space axis; an integer stands for two equal ones.
        channels: Integer. Values predicted for each pixel.
        conditioning: `"adaln_zero"`, where the condition shifts and scales the tokens first, or `None`.
        bias_of: What has a bias: each `"channel"`, or each value of a `"patch"`, as in DiT's linear map.

    Call arguments:
        tokens: Float tensor of shape `(batch, num_patches, hidden_dim)`.
        condition: Float tensor of shape `(batch or 1, condition_dim)`, already activated. Required by `"adaln_zero"`;
            or `Modulations`, with what the `modulation` layer makes of it.
        channel_range: Pair `(first, last)`, to predict only these channels of each pixel, without `last`. Defaults to
            all.

    Returns:
        Float tensor of shape `(batch, num_patches, prod(patch_size) * channels)`, for `unpatchify`.
    """

    def __init__(self, patch_size, channels, conditioning=None, bias_of="channel", **kwargs):
        super().__init__(**kwargs)
        check_one_of(("adaln_zero", None), conditioning=conditioning)
        check_one_of(HEAD_BIASES, bias_of=bias_of)
        self.bias_of = bias_of
        check_positive_integers(channels=channels)
        self.patch_size = as_tuple(patch_size, 2 if np.ndim(patch_size) == 0 else None)
        channels = self.channels = int(channels)
        self.conditioning = conditioning
        self.projection = Dense(
            math.prod(self.patch_size) * channels,
            use_bias=False,
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.02),
            dtype=self.dtype_policy,
            name="projection",
        )

    def build(self, tokens_shape, condition_shape=None):
        self.projection.build(tokens_shape)
        number = self.channels * (1 if self.bias_of == "channel" else math.prod(self.patch_size))
        self.bias = self.add_weight(shape=(number,), initializer="zeros", name="bias")
        if self.conditioning == "adaln_zero":
            build_modulation(self, 2, tokens_shape[-1], condition_shape)

    def modulations(self, condition):
        """The head's `Modulations` `(..., 2 * hidden_dim)` for a condition `(..., dim)`."""
        return Modulations((self.modulation(condition),))

    def call(self, tokens, condition=None, channel_range=None):
        if self.conditioning == "adaln_zero":
            require(condition is not None, "A head with conditioning='adaln_zero' needs a `condition`.", "None")
            modulation = ops.cast(modulation_of(self, condition), "float32")
            shift, scale = ops.split(modulation[:, None], 2, axis=-1)  # (batch, 1, hidden_dim) each
            tokens = ops.cast(ops.cast(tokens, "float32") * (1 + scale) + shift, self.compute_dtype)
        pixels = math.prod(self.patch_size)
        if channel_range is None:
            return self.projection(tokens) + self._biases(pixels)  # (batch, num_patches, patch_dim)
        wanted = slice(*channel_range)
        if self.projection.quantization_mode is not None:  # its kernel is of integers, of another scale
            outer = ops.shape(tokens)[:-1]
            outputs = ops.reshape(self.projection(tokens), (*outer, pixels, self.channels))[..., wanted]
            return ops.reshape(outputs, (*outer, -1)) + self._biases(pixels, wanted)
        kernel = ops.reshape(self.projection.kernel, (-1, pixels, self.channels))[:, :, wanted]
        kernel = ops.reshape(kernel, (kernel.shape[0], -1))
        return ops.matmul(tokens, kernel) + self._biases(pixels, wanted)

    def _biases(self, pixels, wanted=slice(None)):
        """The bias of each value of a patch, for the channels that are wanted."""
        if self.bias_of == "channel":
            bias = ops.convert_to_tensor(self.bias)  # jax2onnx knows no variable of Keras
            return ops.tile(bias if wanted == slice(None) else bias[wanted], pixels)
        return ops.reshape(ops.reshape(self.bias, (pixels, self.channels))[:, wanted], (-1,))

    def compute_output_shape(self, tokens_shape, condition_shape=None):
        return (*tokens_shape[:-1], math.prod(self.patch_size) * self.channels)
