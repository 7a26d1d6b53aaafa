"""Embeddings of position, timestep and label."""

import math

import keras
import numpy as np
from keras import ops

from keras_umd.layers.block import POSITIONS
from keras_umd.layers.dense import Dense
from keras_umd.layers.sincos import sincos_table
from keras_umd.layers.symbolic import BaseLayer
from keras_umd.layers.timesteps import as_timesteps
from keras_umd.utils.checks import (
    check_bools,
    check_integers,
    check_numbers,
    check_one_of,
    check_positive_integers,
    check_tensors,
    is_list,
    is_size,
    require,
)
from keras_umd.utils.cubic import cubic_weights
from keras_umd.utils.seeds import check_seed, seed_generator


@keras.saving.register_keras_serializable("keras_umd")
class PositionEmbedding(BaseLayer):
    """Adds a vector for each place in the grid of patches, learned or of sines and cosines.

    Example:

    >>> PositionEmbedding(grid=(8, 16))(keras.random.normal((2, 128, 192))).shape
    (2, 128, 192)

    Args:
        grid: Tuple of integers, the number of patches along each of one to four space axes: `(rows, columns)` of an
            image, `(length,)` of a sequence.
        kind: `"learned"`, or `"sincos"` for sines and cosines that aren't trained, as MAE and DiT have them.

    Call arguments:
        tokens: Float tensor of shape `(batch, n, hidden_dim)`.
        indices: Int tensor of shape `(batch, n)`, the place of each token in `[0, prod(grid))`. Without it the tokens
            are all patches in row-major order.

    Returns:
        Float tensor of the shape of `tokens`.
    """

    def __init__(self, grid, kind="learned", **kwargs):
        super().__init__(**kwargs)
        check_one_of(POSITIONS, kind=kind)
        self.grid = checked_grid(grid)
        self.kind = str(kind)
        self.num_patches = math.prod(self.grid)

    def build(self, tokens_shape, indices_shape=None):
        self.positions = self.add_weight(
            shape=(self.num_patches, tokens_shape[-1]),
            initializer=self._initializer(tokens_shape[-1]),
            trainable=self.kind == "learned",
            autocast=False,
            name="positions",
        )

    def _initializer(self, dim):
        if self.kind == "sincos":  # of a weight, since files of other codebases have their own
            table = sincos_table(self.grid, dim)
            return lambda shape, dtype: ops.convert_to_tensor(table, dtype)
        # The authors' choice: the spread follows the number of patches, not the width.
        return keras.initializers.RandomNormal(stddev=self.num_patches**-0.5)

    def call(self, tokens, indices=None):
        require(
            indices is not None or tokens.shape[1] in (self.num_patches, None),
            f"Without `indices` there must be one token for each of the {self.num_patches} patches of the grid "
            f"{self.grid}.",
            f"tokens of shape {tuple(tokens.shape)}",
        )
        # Cast after they are gathered: the gradient of a place is a sum over the images, and would end in bfloat16
        # where each is less than 2^-8 of it.
        positions = self.positions if indices is None else ops.take(self.positions, indices, axis=0)
        return tokens + ops.cast(positions, self.compute_dtype)

    def interpolated(self, grid, positions=None):
        """Positions, by default the learned ones, resized bicubically to another grid of as many axes.

        Returns:
            NumPy array of shape `(prod(grid), hidden_dim)`.
        """
        grid = checked_grid(grid, len(self.grid))
        if positions is not None:
            check_tensors(2, types=("float",), positions=positions)
            is_right = positions.shape[0] == self.num_patches
            require(
                is_right, f"`positions` must be {self.num_patches} vectors.", f"positions of shape {positions.shape}"
            )
        table = ops.convert_to_numpy(self.positions.value if positions is None else positions).reshape(*self.grid, -1)
        matrices = [_bicubic_matrix(old, new) for old, new in zip(self.grid, grid, strict=True)]
        old, new = "ijkl"[: len(grid)], "rcst"[: len(grid)]
        pairs = ",".join(map("".join, zip(new, old, strict=True)))  # "ri,cj" for two axes
        return np.einsum(f"{pairs},{old}d->{new}d", *matrices, table).reshape(-1, table.shape[-1]).astype(table.dtype)


def checked_grid(grid, num_axes=None):
    """The number of patches along each space axis as a tuple of integers."""
    axes = "1 to 4" if num_axes is None else num_axes
    require(
        is_list(grid) and 1 <= len(grid) <= 4 and len(grid) == (num_axes or len(grid)) and all(map(is_size, grid)),
        f"`grid` must be a tuple of {axes} positive integers, the number of patches along each space axis; (n,) for a "
        "sequence of n tokens.",
        grid=grid,
    )
    return tuple(map(int, grid))


class _TwoLayerEmbedding(BaseLayer):
    """Dense, SiLU, Dense: what follows the sinusoid of a timestep and the table row of a label alike."""

    def __init__(self, hidden_dim, widths=None, **kwargs):
        # Timesteps must not be rounded: in bfloat16 only 507 of 1001 stay distinct.
        super().__init__(autocast=False, **kwargs)
        hidden_dim = self.hidden_dim = int(hidden_dim)
        self._widths = (hidden_dim, 2 * hidden_dim) if widths is None else widths  # of the input, and of the layer
        if not self._widths:
            return
        options = {"kernel_initializer": "lecun_normal", "dtype": self.dtype_policy}
        self.hidden = Dense(self._widths[1], activation="silu", name="hidden", **options)
        self.output_projection = Dense(hidden_dim, name="output_projection", **options)

    def build(self, input_shape):
        self.hidden.build((None, self._widths[0]))
        self.output_projection.build((None, self._widths[1]))

    def project(self, vectors):
        return self.output_projection(self.hidden(ops.cast(vectors, self.compute_dtype)))

    def compute_output_shape(self, input_shape):
        return (*input_shape, self.hidden_dim)


@keras.saving.register_keras_serializable("keras_umd")
class TimestepEmbedding(_TwoLayerEmbedding):
    """Embeds diffusion timesteps: sines and cosines of falling frequencies, then a small MLP (DDPM, DiT).

    The sinusoid is as wide as the model, with frequencies from 1 to 1/10000, and computed in float32 whatever the
    precision of the layer.

    Example:

    >>> TimestepEmbedding(hidden_dim=192)(np.array([0, 1, 1000])).shape
    (3, 192)

    Args:
        hidden_dim: Integer, even and at least 4. Width of the embedding.
        timesteps: `Timesteps`, the sinusoid of another codebase, and an MLP of the model's width, or `None`.

    Call arguments:
        timesteps: Int or float tensor of shape `(batch,)`, 0 for no noise.

    Returns:
        Float tensor of shape `(batch, hidden_dim)`.
    """

    def __init__(self, hidden_dim, timesteps=None, **kwargs):
        check_integers(4, hidden_dim=hidden_dim)
        require(hidden_dim % 2 == 0, "`hidden_dim` must be even and at least 4.", hidden_dim=hidden_dim)
        timesteps = as_timesteps(timesteps)
        super().__init__(hidden_dim, None if timesteps is None else (timesteps.width, int(hidden_dim)), **kwargs)
        self.timesteps = timesteps
        if timesteps is not None:
            self._frequencies = timesteps.frequencies()
            return
        half = self.hidden_dim // 2
        # Made in float64: a float32 exponent is off by 4e-5 at timestep 1000.
        self._frequencies = np.exp(-np.log(10_000.0) * np.arange(half) / (half - 1)).astype("float32")

    def call(self, timesteps):
        return self.project(self.sinusoid(timesteps))  # (batch, hidden_dim)

    def sinusoid(self, timesteps):
        """Sines and cosines of `timesteps` `(batch,)` at all frequencies: `(batch, hidden_dim or width)`, float32."""
        own, timesteps = self.timesteps, ops.cast(timesteps, "float32")
        if own is not None:
            timesteps = own.scale * timesteps + own.offset
            timesteps = timesteps if own.least is None else ops.maximum(timesteps, own.least)
        angles = timesteps[:, None] * ops.convert_to_tensor(self._frequencies)
        parts = [ops.sin(angles), ops.cos(angles)]
        return ops.concatenate(parts[::-1] if own is not None and own.cosines_first else parts, axis=-1)


@keras.saving.register_keras_serializable("keras_umd")
class LabelEmbedding(_TwoLayerEmbedding):
    """Embeds class labels, with one more row for "no label" as classifier-free guidance needs it (Ho and Salimans).

    Example:

    >>> LabelEmbedding(num_classes=10, hidden_dim=192)(np.array([3, 10])).shape     # 10 is the null label
    (2, 192)

    Args:
        num_classes: Integer. The null label is the index `num_classes`.
        hidden_dim: Integer. Width of the embedding.
        dropout: Float in [0, 1). Share of the labels replaced by the null label in training, where the call does not
            say which.
        seed: Integer or `None`, for that choice.
        mlp: Bool. Whether an MLP follows the table; in DiT there is none.

    Call arguments:
        labels: Int tensor of shape `(batch,)`, values in `[0, num_classes]`.
        drop: Bool tensor of shape `(batch,)`, `True` where the null label takes the place of the label.
        training: Bool. Whether to drop labels at random.

    Returns:
        Float tensor of shape `(batch, hidden_dim)`.
    """

    def __init__(self, num_classes, hidden_dim, dropout=0.0, seed=None, mlp=True, **kwargs):
        check_positive_integers(num_classes=num_classes, hidden_dim=hidden_dim)
        check_numbers("[0, 1)", dropout=dropout)
        check_bools(mlp=mlp)
        super().__init__(hidden_dim, None if mlp else (), **kwargs)
        self.mlp = bool(mlp)
        self.num_classes = int(num_classes)
        self.dropout = dropout
        self.seed = seed
        check_seed(seed)
        self.seed_generator = seed_generator(seed) if dropout else None

    def build(self, labels_shape, drop_shape=None):
        self.table = self.add_weight(
            shape=(self.num_classes + 1, self.hidden_dim),
            initializer=keras.initializers.RandomNormal(stddev=self.hidden_dim**-0.5),
            autocast=False,  # as for positions
            name="table",
        )
        if self.mlp:
            super().build(labels_shape)

    def call(self, labels, drop=None, training=False):
        labels = ops.cast(labels, "int32")
        if drop is None and training and self.dropout:
            drop = keras.random.uniform(ops.shape(labels), seed=self.seed_generator) < self.dropout
        if drop is not None:
            labels = ops.where(drop, self.num_classes, labels)
        vectors = ops.take(self.table, labels, axis=0)  # (batch, hidden_dim)
        return self.project(vectors) if self.mlp else ops.cast(vectors, self.compute_dtype)

    def compute_output_shape(self, labels_shape, drop_shape=None):
        return (*labels_shape, self.hidden_dim)


def _bicubic_matrix(old, new):
    """Weights `(new, old)` of the cubic kernel with a = -0.5, at half-pixel centres.

    `keras.ops.image.resize` takes another kernel on PyTorch (a = -0.75), and features would depend on the backend.
    """
    centres = (np.arange(new) + 0.5) * old / new - 0.5
    return cubic_weights(np.abs(centres[:, None] - np.arange(old)))
