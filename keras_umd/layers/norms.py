"""Normalisation of tokens, with the shift and scale of adaptive LayerNorm behind it."""

import keras
from keras import ops

from keras_umd.backend.kernels import layer_norm
from keras_umd.layers import segments
from keras_umd.layers.symbolic import BaseLayer
from keras_umd.utils.checks import check_bools, check_numbers


@keras.saving.register_keras_serializable("keras_umd")
class LayerNorm(keras.layers.LayerNormalization):
    """LayerNorm and, behind it, the shift and scale of adaptive LayerNorm (DiT, section 3.2), in float32.

    `LN(x) * (1 + scale) + shift`, where both scales and both offsets become one each: a pass over the tokens less.

    Example:

    >>> layer = layers.LayerNorm()
    >>> layer(np.ones((2, 5, 16), "float32")).shape
    (2, 5, 16)

    Args:
        epsilon: Float.
        affine: Bool. Whether it has a scale and an offset of its own; in DiT it has none.

    Call arguments:
        tokens: Float tensor of shape `(batch, n, hidden_dim)`.
        shift, scale: Float tensors of shape `(batch or 1, 1, hidden_dim)`, or neither. Of rows of several images,
            `(batch, segments, hidden_dim)`.
        lengths: As of `TransformerBlock`, for shift and scale.

    Returns:
        Float tensor of the shape of `tokens`.
    """

    def __init__(self, epsilon=1e-6, affine=True, **kwargs):
        check_numbers("[0, 1]", epsilon=epsilon)
        check_bools(affine=affine)
        self.affine = bool(affine)
        super().__init__(epsilon=epsilon, **(kwargs if affine else {**kwargs, "center": False, "scale": False}))

    def build(self, tokens_shape, shift_shape=None, scale_shape=None):
        super().build(tokens_shape)

    def get_config(self):
        return {**super().get_config(), "affine": self.affine}

    def call(self, tokens, shift=None, scale=None, lengths=None):
        if self.affine:
            gamma, beta = ops.cast(self.gamma, "float32"), ops.cast(self.beta, "float32")
        else:
            gamma, beta = ops.ones((tokens.shape[-1],)), ops.zeros((tokens.shape[-1],))
        if scale is not None:
            scale = 1 + ops.cast(scale, "float32")
            gamma, beta = gamma * scale, beta * scale + ops.cast(shift, "float32")
            gamma, beta = segments.spread(gamma, lengths), segments.spread(beta, lengths)
        return ops.cast(layer_norm(tokens, gamma, beta, self.epsilon), self.compute_dtype)

    def compute_output_shape(self, tokens_shape, shift_shape=None, scale_shape=None):
        return tokens_shape


@keras.saving.register_keras_serializable("keras_umd")
class RMSNorm(BaseLayer):
    """Divides by the root of the mean square, without taking the mean off (Zhang and Sennrich, 2019), in float32.

    `x / sqrt(mean(x^2) + epsilon) * scale`, and behind it the shift and scale of adaptive normalisation, as `LayerNorm`
    has them. Weight decay leaves its weight alone.

    Example:

    >>> RMSNorm()(keras.random.normal((2, 16, 192))).shape
    (2, 16, 192)

    Args:
        epsilon: Float.

    Call arguments:
        tokens: Float tensor of shape `(..., dim)`.
        shift, scale: Float tensors that broadcast to that shape, or neither.

    Returns:
        Float tensor of the shape of `tokens`.
    """

    def __init__(self, epsilon=1e-6, **kwargs):
        check_numbers("[0, 1]", epsilon=epsilon)
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def build(self, tokens_shape, shift_shape=None, scale_shape=None):
        self.scale = self.add_weight(shape=(tokens_shape[-1],), initializer="ones", name="scale")

    def call(self, tokens, shift=None, scale=None):
        x, gain = ops.cast(tokens, "float32"), ops.cast(self.scale, "float32")
        if scale is not None:
            gain = gain * (1 + ops.cast(scale, "float32"))
        x = x * ops.rsqrt(ops.mean(ops.square(x), axis=-1, keepdims=True) + self.epsilon) * gain
        x = x if shift is None else x + ops.cast(shift, "float32")
        return ops.cast(x, self.compute_dtype)


def make_norm(block, **kwargs):
    """The normalisation of tokens that a `Block` asks for."""
    options = {"epsilon": block.epsilon, **kwargs}
    return RMSNorm(**options) if block.norm == "rms" else LayerNorm(affine=block.affine, **options)
