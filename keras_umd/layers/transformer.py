"""The transformer block, conditioned by adaptive LayerNorm, by a token, or not at all."""

import typing

import keras
from keras import ops

from keras_umd.backend.kernels import attention, layer_norm, project
from keras_umd.layers.dense import Dense
from keras_umd.layers.symbolic import BaseLayer
from keras_umd.utils.checks import check_numbers, check_one_of, check_positive_integers, require

CONDITIONINGS = ("adaln_zero", "token", None)


class Modulations(typing.NamedTuple):
    """Modulations of layers with adaptive LayerNorm, computed in advance and passed as their `condition`.

    A sampler computes them once for all steps and labels. A named tuple, since Keras' calls, functional models, remat
    and compiled loops pass nested tensors on, and would lose those inside of another object.

    Args:
        of_layers: Tuple of float tensors `(batch or 1, units)`, one for each layer in the order of their calls.
    """

    of_layers: tuple


def modulation_of(layer, condition):
    """The modulation of a single layer: `layer.modulation(condition)`, or the first of given `Modulations`."""
    return condition.of_layers[0] if isinstance(condition, Modulations) else layer.modulation(condition)


def build_modulation(layer, num_vectors, hidden_dim, condition_shape):
    """Make `layer.modulation`, which starts at zero, for a condition whose width is `hidden_dim` unless given."""
    layer.modulation = Dense(
        num_vectors * hidden_dim, kernel_initializer="zeros", dtype=layer.dtype_policy, name="modulation"
    )
    is_given = condition_shape is not None and not isinstance(condition_shape, Modulations)
    layer.modulation.build((None, condition_shape[-1] if is_given else hidden_dim))


@keras.saving.register_keras_serializable("keras_umd")
class LayerNorm(keras.layers.LayerNormalization):
    """LayerNorm and, behind it, the shift and scale of adaptive LayerNorm (DiT, section 3.2), in float32.

    `LN(x) * (1 + scale) + shift`, where both scales and both offsets become one each: a pass over the tokens less.

    Args:
        epsilon: Float.

    Call arguments:
        tokens: Float tensor of shape `(batch, n, hidden_dim)`.
        shift, scale: Float tensors of shape `(batch or 1, 1, hidden_dim)`, or neither.

    Returns:
        Float tensor of the shape of `tokens`.
    """

    def __init__(self, epsilon=1e-6, **kwargs):
        check_numbers("[0, 1]", epsilon=epsilon)
        super().__init__(epsilon=epsilon, **kwargs)

    def build(self, tokens_shape, shift_shape=None, scale_shape=None):
        super().build(tokens_shape)

    def call(self, tokens, shift=None, scale=None):
        gamma, beta = ops.cast(self.gamma, "float32"), ops.cast(self.beta, "float32")
        if scale is not None:
            scale = 1 + ops.cast(scale, "float32")
            gamma, beta = gamma * scale, beta * scale + ops.cast(shift, "float32")
        return ops.cast(layer_norm(tokens, gamma, beta, self.epsilon), self.compute_dtype)

    def compute_output_shape(self, tokens_shape, shift_shape=None, scale_shape=None):
        return tokens_shape


@keras.saving.register_keras_serializable("keras_umd")
class SelfAttention(BaseLayer):
    """Multi-head self-attention over all tokens, without mask or dropout.

    Three plain `Dense` projections, not `keras.layers.MultiHeadAttention`: its `EinsumDense` takes 1.7 times as long on
    TensorFlow (equal on JAX and PyTorch), and `enable_lora` and `quantize` work here too.

    Args:
        num_heads: Integer, a divisor of the tokens' width.

    Call arguments:
        tokens: Float tensor of shape `(batch, n, hidden_dim)`.
        num_outputs: Integer, how many tokens at the end are wanted; the others are only attended to. Defaults to all.

    Returns:
        Float tensor of shape `(batch, num_outputs or n, hidden_dim)`.
    """

    def __init__(self, num_heads, **kwargs):
        super().__init__(**kwargs)
        check_positive_integers(num_heads=num_heads)
        self.num_heads = int(num_heads)

    def build(self, tokens_shape):
        hidden_dim = tokens_shape[-1]
        require(
            hidden_dim % self.num_heads == 0,
            "The width of the tokens must be divisible by the number of heads.",
            hidden_dim=hidden_dim,
            num_heads=self.num_heads,
        )
        for name in ("query", "key", "value", "output_projection"):
            projection = Dense(hidden_dim, dtype=self.dtype_policy, name=name)
            projection.build(tokens_shape)
            setattr(self, name, projection)

    def call(self, tokens, num_outputs=None):
        query = self._heads(project(self.query, _last(tokens, num_outputs)))  # (batch, num_outputs, heads, head_dim)
        key = self._heads(project(self.key, tokens))  # (batch, n, heads, head_dim)
        value = self._heads(project(self.value, tokens))
        mixed = ops.reshape(attention(query, key, value), (-1, query.shape[1], tokens.shape[-1]))
        return project(self.output_projection, mixed)  # (batch, num_outputs, hidden_dim)

    def _heads(self, x):
        return ops.reshape(x, (-1, x.shape[1], self.num_heads, x.shape[-1] // self.num_heads))


@keras.saving.register_keras_serializable("keras_umd")
class TransformerBlock(BaseLayer):
    """Pre-norm transformer block: attention and MLP, each behind a LayerNorm and around a residual connection.

    The condition enters in one of two ways. `"adaln_zero"` (DiT, section 3.2): a Dense that starts at zero turns it
    into shift, scale and gate for both parts, so that the block starts as the identity. `"token"`: it is one more token
    at the start of the sequence, cut off again at the end of the block.

    Example:

    >>> block = TransformerBlock(num_heads=3)
    >>> block(keras.random.normal((2, 16, 192)), keras.random.normal((2, 192))).shape
    (2, 16, 192)

    Args:
        num_heads: Integer, a divisor of the tokens' width.
        mlp_ratio: Number. Width of the MLP as a multiple of the tokens' width.
        conditioning: `"adaln_zero"`, `"token"` or `None`.

    Call arguments:
        tokens: Float tensor of shape `(batch, n, hidden_dim)`.
        condition: Float tensor of shape `(batch or 1, hidden_dim)`, already activated (with `"adaln_zero"`, SiLU is
            applied once for all blocks, and the width may be another). Not used where `conditioning` is `None`. With
            `"adaln_zero"` it may be `Modulations`, with what the block's `modulation` layer makes of the condition.
        num_outputs: Integer, how many tokens at the end are wanted; the others are only attended to. Defaults to all.

    Returns:
        Float tensor of shape `(batch, num_outputs or n, hidden_dim)`.
    """

    def __init__(self, num_heads, mlp_ratio=4, conditioning="adaln_zero", **kwargs):
        super().__init__(**kwargs)
        check_one_of(CONDITIONINGS, conditioning=conditioning)
        check_positive_integers(num_heads=num_heads)
        check_numbers("(0, 1000]", mlp_ratio=mlp_ratio)
        self.num_heads = int(num_heads)
        self.mlp_ratio = mlp_ratio
        self.conditioning = conditioning
        self.attention_norm = LayerNorm(dtype=self.dtype_policy, name="attention_norm")
        self.attention = SelfAttention(num_heads, dtype=self.dtype_policy, name="attention")
        self.mlp_norm = LayerNorm(dtype=self.dtype_policy, name="mlp_norm")
        self.drop_path = None  # a `DropPath`, for fine-tuning

    def build(self, tokens_shape, condition_shape=None):
        hidden_dim = tokens_shape[-1]
        mlp_dim = int(hidden_dim * self.mlp_ratio)
        options = {"dtype": self.dtype_policy, "bias_initializer": keras.initializers.RandomNormal(stddev=1e-6)}
        self.mlp_hidden = Dense(mlp_dim, name="mlp_hidden", **options)
        self.mlp_output = Dense(hidden_dim, name="mlp_output", **options)
        for layer in (self.attention_norm, self.attention, self.mlp_norm, self.mlp_hidden):
            layer.build((*tokens_shape[:-1], hidden_dim))
        self.mlp_output.build((*tokens_shape[:-1], mlp_dim))
        if self.conditioning == "adaln_zero":
            build_modulation(self, 6, hidden_dim, condition_shape)

    def call(self, tokens, condition=None, num_outputs=None):
        require(
            self.conditioning is None or condition is not None,
            f"A block with conditioning={self.conditioning!r} needs a `condition`.",
            "None",
        )
        if self.conditioning == "adaln_zero":
            return self._modulated(tokens, modulation_of(self, condition), num_outputs)
        if self.conditioning == "token":
            num_outputs = num_outputs or tokens.shape[1]
            condition = condition[:, None] + ops.zeros_like(tokens[:, :1])  # (batch, 1, hidden_dim)
            tokens = ops.concatenate([condition, tokens], axis=1)
        x = _last(tokens, num_outputs) + self._kept(
            self.attention(self.attention_norm(tokens), num_outputs=num_outputs)
        )
        return x + self._kept(self._mlp(self.mlp_norm(x)))

    def _modulated(self, x, modulation, num_outputs):
        # (batch, 1, hidden_dim) each
        shift0, scale0, gate0, shift1, scale1, gate1 = ops.split(modulation[:, None], 6, axis=-1)
        x = _last(x, num_outputs) + gate0 * self._kept(
            self.attention(self.attention_norm(x, shift0, scale0), num_outputs=num_outputs)
        )
        return x + gate1 * self._kept(self._mlp(self.mlp_norm(x, shift1, scale1)))

    def _kept(self, branch):
        return branch if self.drop_path is None else self.drop_path(branch)

    def _mlp(self, x):
        return project(self.mlp_output, keras.activations.gelu(project(self.mlp_hidden, x), approximate=True))


def _last(tokens, number):
    """The last `number` tokens; all of them, and no slice to take a gradient of, for `None`."""
    return tokens if number is None else tokens[:, -number:]
