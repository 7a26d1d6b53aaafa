"""The transformer block, conditioned by adaptive LayerNorm, by a token, or not at all."""

import keras
from keras import ops

from keras_umd.backend import attention
from keras_umd.layers.patches import modulate

CONDITIONINGS = ("adaln_zero", "token", None)


def layer_norm(name, dtype):
    return keras.layers.LayerNormalization(epsilon=1e-6, dtype=dtype, name=name)


@keras.saving.register_keras_serializable("keras_umd")
class SelfAttention(keras.layers.Layer):
    """Multi-head self-attention over all tokens, without mask or dropout.

    Three plain `Dense` projections, not `keras.layers.MultiHeadAttention`: its `EinsumDense` takes 1.7 times as long on
    TensorFlow (equal on JAX and PyTorch), and `enable_lora` and `quantize` work here too.

    Args:
        num_heads: Integer, a divisor of the tokens' width.

    Call arguments:
        tokens: Float tensor of shape `(batch, n, hidden_dim)`.

    Returns:
        Float tensor of the shape of `tokens`.
    """

    def __init__(self, num_heads, **kwargs):
        super().__init__(**kwargs)
        self.num_heads = num_heads

    def build(self, tokens_shape):
        hidden_dim = tokens_shape[-1]
        if hidden_dim % self.num_heads:
            raise ValueError(
                "The width of the tokens must be divisible by the number of heads. "
                f"Received: hidden_dim={hidden_dim}, num_heads={self.num_heads}"
            )
        for name in ("query", "key", "value", "output_projection"):
            projection = keras.layers.Dense(hidden_dim, dtype=self.dtype_policy, name=name)
            projection.build(tokens_shape)
            setattr(self, name, projection)

    def call(self, tokens):
        hidden_dim = tokens.shape[-1]
        heads = (-1, tokens.shape[1], self.num_heads, hidden_dim // self.num_heads)
        query = ops.reshape(self.query(tokens), heads)  # (batch, n, heads, head_dim)
        key = ops.reshape(self.key(tokens), heads)
        value = ops.reshape(self.value(tokens), heads)
        mixed = ops.reshape(attention(query, key, value), (-1, tokens.shape[1], hidden_dim))
        return self.output_projection(mixed)  # (batch, n, hidden_dim)

    def compute_output_shape(self, tokens_shape):
        return tokens_shape

    def get_config(self):
        return {**super().get_config(), "num_heads": self.num_heads}


@keras.saving.register_keras_serializable("keras_umd")
class TransformerBlock(keras.layers.Layer):
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
            applied once for all blocks). Not used where `conditioning` is `None`.
        modulation: Float tensor of shape `(batch or 1, 6 * hidden_dim)`, what the block's `modulation` layer makes of
            the condition, for those who know it already; with `"adaln_zero"`, instead of a condition.

    Returns:
        Float tensor of the shape of `tokens`.
    """

    def __init__(self, num_heads, mlp_ratio=4, conditioning="adaln_zero", **kwargs):
        super().__init__(**kwargs)
        if conditioning not in CONDITIONINGS:
            raise ValueError(f"`conditioning` must be one of {CONDITIONINGS}. Received: conditioning={conditioning!r}")
        self.num_heads = num_heads
        self.mlp_ratio = mlp_ratio
        self.conditioning = conditioning
        self.attention_norm = layer_norm("attention_norm", self.dtype_policy)
        self.attention = SelfAttention(num_heads, dtype=self.dtype_policy, name="attention")
        self.mlp_norm = layer_norm("mlp_norm", self.dtype_policy)

    def build(self, tokens_shape, condition_shape=None, modulation_shape=None):
        hidden_dim = tokens_shape[-1]
        mlp_dim = int(hidden_dim * self.mlp_ratio)
        small = keras.initializers.RandomNormal(stddev=1e-6)
        options = {"dtype": self.dtype_policy, "bias_initializer": small}
        self.mlp_hidden = keras.layers.Dense(mlp_dim, name="mlp_hidden", **options)
        self.mlp_output = keras.layers.Dense(hidden_dim, name="mlp_output", **options)
        for layer in (self.attention_norm, self.attention, self.mlp_norm, self.mlp_hidden):
            layer.build((*tokens_shape[:-1], hidden_dim))
        self.mlp_output.build((*tokens_shape[:-1], mlp_dim))
        if self.conditioning == "adaln_zero":
            self.modulation = keras.layers.Dense(
                6 * hidden_dim, kernel_initializer="zeros", dtype=self.dtype_policy, name="modulation"
            )
            self.modulation.build((None, hidden_dim))

    def call(self, tokens, condition=None, modulation=None):
        if self.conditioning is not None and condition is None and modulation is None:
            raise ValueError(f"A block with conditioning={self.conditioning!r} needs a `condition`. Received: None")
        if self.conditioning == "adaln_zero":
            return self._modulated(tokens, self.modulation(condition) if modulation is None else modulation)
        if self.conditioning == "token":
            condition = condition[:, None] + ops.zeros_like(tokens[:, :1])  # (batch, 1, hidden_dim)
            return self._plain(ops.concatenate([condition, tokens], axis=1))[:, 1:]
        return self._plain(tokens)

    def _plain(self, x):
        x = x + self.attention(self.attention_norm(x))
        return x + self._mlp(self.mlp_norm(x))

    def _modulated(self, x, modulation):
        # (batch, 1, hidden_dim) each
        shift0, scale0, gate0, shift1, scale1, gate1 = ops.split(modulation[:, None], 6, axis=-1)
        x = x + gate0 * self.attention(modulate(self.attention_norm(x), shift0, scale0))
        return x + gate1 * self._mlp(modulate(self.mlp_norm(x), shift1, scale1))

    def _mlp(self, x):
        return self.mlp_output(keras.activations.gelu(self.mlp_hidden(x), approximate=True))

    def compute_output_shape(self, tokens_shape, condition_shape=None, modulation_shape=None):
        return tokens_shape

    def get_config(self):
        config = {"num_heads": self.num_heads, "mlp_ratio": self.mlp_ratio, "conditioning": self.conditioning}
        return {**super().get_config(), **config}
