"""RMSNorm, beside the LayerNorm of `transformer`."""

import keras
from keras import ops

from keras_umd.layers.symbolic import BaseLayer
from keras_umd.utils.checks import check_numbers


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
