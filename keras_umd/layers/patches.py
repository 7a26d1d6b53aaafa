"""Images to patches, patches to tokens, and back."""

import keras
import numpy as np
from keras import ops


def as_pair(patch_size):
    """`4` or `(4, 8)` as a pair `(height, width)` of positive integers."""
    pair = (patch_size, patch_size) if np.ndim(patch_size) == 0 else tuple(patch_size)
    if len(pair) != 2 or not all(isinstance(size, (int, np.integer)) and size > 0 for size in pair):
        raise ValueError(
            f"`patch_size` must be a positive integer or a pair of them. Received: patch_size={patch_size}"
        )
    return int(pair[0]), int(pair[1])


def patch_grid(image_shape, patch_size):
    """Rows and columns of patches in an image of shape `(height, width, channels)`."""
    height, width = image_shape[:2]
    patch_height, patch_width = as_pair(patch_size)
    if not height or not width or height % patch_height or width % patch_width:
        raise ValueError(
            "The image's height and width must be known and divisible by the patch size; resize or crop the images, "
            f"or choose another patch size. Received: image_shape={tuple(image_shape)}, patch_size={patch_size}"
        )
    return height // patch_height, width // patch_width


def patchify(images, patch_size):
    """Cut images into patches, row by row.

    Args:
        images: Tensor of shape `(batch, height, width, channels)`.
        patch_size: Integer or pair `(patch_height, patch_width)`.

    Returns:
        Tensor of shape `(batch, num_patches, patch_height * patch_width * channels)`.
    """
    patch_height, patch_width = as_pair(patch_size)
    rows, columns = patch_grid(images.shape[1:], patch_size)
    channels = images.shape[-1]
    x = ops.reshape(images, (-1, rows, patch_height, columns, patch_width, channels))
    x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
    return ops.reshape(x, (-1, rows * columns, patch_height * patch_width * channels))


def unpatchify(patches, patch_size, grid):
    """Put patches together to images; the inverse of `patchify`.

    Args:
        patches: Tensor of shape `(batch, rows * columns, patch_height * patch_width * channels)`.
        patch_size: Integer or pair `(patch_height, patch_width)`.
        grid: Pair `(rows, columns)`.

    Returns:
        Tensor of shape `(batch, rows * patch_height, columns * patch_width, channels)`.
    """
    patch_height, patch_width = as_pair(patch_size)
    rows, columns = grid
    channels = patches.shape[-1] // (patch_height * patch_width)
    x = ops.reshape(patches, (-1, rows, columns, patch_height, patch_width, channels))
    x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
    return ops.reshape(x, (-1, rows * patch_height, columns * patch_width, channels))


@keras.saving.register_keras_serializable("keras_umd")
class PatchEmbedding(keras.layers.Layer):
    """Turns each patch of an image into a token by one linear map (ViT, Eq. 1).

    The patches may come already cut, and only some of them: a model that masks gathers the visible patches first and
    embeds nothing else.

    Example:

    >>> PatchEmbedding(patch_size=4, hidden_dim=192)(keras.random.normal((2, 32, 64, 3))).shape
    (2, 128, 192)

    Args:
        patch_size: Integer or pair `(patch_height, patch_width)`.
        hidden_dim: Integer. Width of the tokens.

    Call arguments:
        inputs: Float tensor, images `(batch, height, width, channels)` or the patches that `patchify` makes of them,
            `(batch, num_patches, patch_height * patch_width * channels)`.

    Returns:
        Float tensor of shape `(batch, num_patches, hidden_dim)`.
    """

    def __init__(self, patch_size, hidden_dim, **kwargs):
        super().__init__(**kwargs)
        self.patch_size = as_pair(patch_size)
        self.hidden_dim = hidden_dim
        self.projection = keras.layers.Dense(
            hidden_dim, kernel_initializer="lecun_normal", dtype=self.dtype_policy, name="projection"
        )

    def build(self, input_shape):
        if len(input_shape) == 4:
            patch_grid(input_shape[1:], self.patch_size)
            input_shape = (None, None, self.patch_size[0] * self.patch_size[1] * input_shape[-1])
        elif len(input_shape) != 3:
            raise ValueError(
                "PatchEmbedding takes images (batch, height, width, channels) or patches (batch, num_patches, "
                f"patch_dim). Received: inputs of shape {tuple(input_shape)}"
            )
        self.projection.build(input_shape)

    def call(self, inputs):
        patches = patchify(inputs, self.patch_size) if len(inputs.shape) == 4 else inputs
        return self.projection(patches)  # (batch, num_patches, hidden_dim)

    def compute_output_shape(self, input_shape):
        num_patches = input_shape[1]
        if len(input_shape) == 4:
            rows, columns = patch_grid(input_shape[1:], self.patch_size)
            num_patches = rows * columns
        return (input_shape[0], num_patches, self.hidden_dim)

    def get_config(self):
        return {**super().get_config(), "patch_size": self.patch_size, "hidden_dim": self.hidden_dim}


@keras.saving.register_keras_serializable("keras_umd")
class PatchHead(keras.layers.Layer):
    """Turns tokens back into patches: a linear map, after a modulation by the condition (DiT, section 3.2).

    The map has one bias for each channel, shared by all pixels of a patch, as a transposed convolution has.

    Example:

    >>> PatchHead(patch_size=4, channels=6)(keras.random.normal((2, 128, 192))).shape
    (2, 128, 96)

    Args:
        patch_size: Integer or pair `(patch_height, patch_width)`.
        channels: Integer. Values predicted for each pixel.
        conditioning: `"adaln_zero"`, where the condition shifts and scales the tokens first, or `None`.

    Call arguments:
        tokens: Float tensor of shape `(batch, num_patches, hidden_dim)`.
        condition: Float tensor of shape `(batch or 1, condition_dim)`, already activated. Required by `"adaln_zero"`.
        modulation: Float tensor of shape `(batch or 1, 2 * hidden_dim)`, what the `modulation` layer makes of the
            condition, instead of one.
        channels: Pair `(first, last)`, to predict only these channels of each pixel, without `last`. Defaults to all.

    Returns:
        Float tensor of shape `(batch, num_patches, patch_height * patch_width * channels)`, for `unpatchify`.
    """

    def __init__(self, patch_size, channels, conditioning=None, **kwargs):
        super().__init__(**kwargs)
        if conditioning not in ("adaln_zero", None):
            raise ValueError(
                f"`conditioning` of PatchHead must be 'adaln_zero' or None. Received: conditioning={conditioning!r}"
            )
        self.patch_size = as_pair(patch_size)
        self.channels = channels
        self.conditioning = conditioning
        self.projection = keras.layers.Dense(
            self.patch_size[0] * self.patch_size[1] * channels,
            use_bias=False,
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.02),
            dtype=self.dtype_policy,
            name="projection",
        )

    def build(self, tokens_shape, condition_shape=None, modulation_shape=None):
        hidden_dim = tokens_shape[-1]
        condition_dim = hidden_dim if condition_shape is None else condition_shape[-1]
        self.projection.build(tokens_shape)
        self.bias = self.add_weight(shape=(self.channels,), initializer="zeros", name="bias")
        if self.conditioning == "adaln_zero":
            self.modulation = keras.layers.Dense(
                2 * hidden_dim, kernel_initializer="zeros", dtype=self.dtype_policy, name="modulation"
            )
            self.modulation.build((None, condition_dim))

    def call(self, tokens, condition=None, modulation=None, channels=None):
        if self.conditioning == "adaln_zero":
            modulation = self.modulation(condition) if modulation is None else modulation
            shift, scale = ops.split(modulation[:, None], 2, axis=-1)  # (batch, 1, hidden_dim) each
            shift, scale = ops.cast(shift, "float32"), ops.cast(scale, "float32")
            tokens = ops.cast(ops.cast(tokens, "float32") * (1 + scale) + shift, self.compute_dtype)
        pixels = self.patch_size[0] * self.patch_size[1]
        if channels is None:
            return self.projection(tokens) + ops.tile(self.bias, pixels)  # (batch, num_patches, patch_dim)
        wanted = slice(*channels)
        kernel = ops.reshape(self.projection.kernel, (-1, pixels, self.channels))[:, :, wanted]
        kernel = ops.reshape(kernel, (kernel.shape[0], -1))
        return ops.matmul(tokens, kernel) + ops.tile(self.bias[wanted], pixels)

    def get_config(self):
        config = {"patch_size": self.patch_size, "channels": self.channels, "conditioning": self.conditioning}
        return {**super().get_config(), **config}
