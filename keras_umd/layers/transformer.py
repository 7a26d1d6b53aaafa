"""The transformer block, conditioned by adaptive LayerNorm, by a token, or not at all."""

import typing

import keras
from keras import ops

from keras_umd.backend.attention import attention
from keras_umd.backend.kernels import layer_norm, project
from keras_umd.layers import segments
from keras_umd.layers.block import as_block
from keras_umd.layers.dense import Dense
from keras_umd.layers.norms import RMSNorm
from keras_umd.layers.rotary import rotate, rotation
from keras_umd.layers.symbolic import BaseLayer
from keras_umd.utils.checks import check_bools, check_numbers, check_one_of, check_positive_integers, require

CONDITIONINGS = ("adaln_zero", "token", None)


class Modulations(typing.NamedTuple):
    """Modulations of layers with adaptive LayerNorm, computed in advance and passed as their `condition`.

    A sampler computes them once for all steps and labels. A named tuple, since Keras' calls, functional models, remat
    and compiled loops pass nested tensors on, and would lose those inside of another object.

    Example:

    >>> stack = layers.BlockStack(num_layers=2, num_heads=2)
    >>> stack.build((None, None, 32))
    >>> modulations = stack.modulations(np.ones((4, 32), "float32"))
    >>> stack(np.ones((4, 5, 32), "float32"), condition=modulations).shape
    (4, 5, 32)

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


def make_norm(block, **kwargs):
    """The normalisation of tokens that a `Block` asks for."""
    options = {"epsilon": block.epsilon, **kwargs}
    return RMSNorm(**options) if block.norm == "rms" else LayerNorm(affine=block.affine, **options)


@keras.saving.register_keras_serializable("keras_umd")
class SelfAttention(BaseLayer):
    """Multi-head self-attention over all tokens, without mask or dropout.

    Three plain `Dense` projections, not `keras.layers.MultiHeadAttention`: its `EinsumDense` takes 1.7 times as long on
    TensorFlow (equal on JAX and PyTorch), and `enable_lora` and `quantize` work here too.

    Example:

    >>> layers.SelfAttention(num_heads=2)(np.ones((4, 5, 32), "float32")).shape
    (4, 5, 32)

    Args:
        num_heads: Integer, a divisor of the tokens' width.
        block: `Block`, whose `qk_norm`, `rope` and `value_residual` are read. Defaults to none of them.

    Call arguments:
        tokens: Float tensor of shape `(batch, n, hidden_dim)`.
        num_outputs: Integer, how many tokens at the end are wanted; the others are only attended to. Defaults to all.
        lengths, with a tuple as `num_outputs`: As of `TransformerBlock`.
        positions: Int tensor of shape `(batch or 1, m, axes)`, the places of the last m tokens, which `rope` needs.
        first_value: Float tensor `(batch, m, heads, head_dim)`, the values of the last m tokens in the first block, for
            `value_residual`; tokens before them have joined since, and keep their own.
        return_value: Bool. Whether to return the values, too.

    Returns:
        Float tensor of shape `(batch, num_outputs or n, hidden_dim)`; with `return_value` a pair of it and of the
        values `(batch, n, heads, head_dim)`.
    """

    def __init__(self, num_heads, block=None, **kwargs):
        super().__init__(**kwargs)
        check_positive_integers(num_heads=num_heads)
        self.num_heads = int(num_heads)
        self.block = as_block(block)

    def build(self, tokens_shape):
        self._build_projections(tokens_shape, tokens_shape)

    def _build_projections(self, tokens_shape, context_shape):
        hidden_dim = tokens_shape[-1]
        require(
            hidden_dim % self.num_heads == 0,
            "The width of the tokens must be divisible by the number of heads.",
            hidden_dim=hidden_dim,
            num_heads=self.num_heads,
        )
        for name in ("query", "key", "value", "output_projection"):
            projection = Dense(hidden_dim, dtype=self.dtype_policy, name=name)
            projection.build(context_shape if name in ("key", "value") else tokens_shape)
            setattr(self, name, projection)
        if self.block.qk_norm:
            self.query_norm = RMSNorm(dtype=self.dtype_policy, name="query_norm")
            self.key_norm = RMSNorm(dtype=self.dtype_policy, name="key_norm")
            for norm in (self.query_norm, self.key_norm):
                norm.build((hidden_dim // self.num_heads,))
        if self.block.value_residual:
            self.value_mix = self.add_weight(shape=(), initializer=keras.initializers.Constant(0.5), name="value_mix")

    def call(self, tokens, num_outputs=None, positions=None, first_value=None, return_value=False, lengths=None):
        last = segments.last(tokens, num_outputs, lengths)
        query = self._heads(project(self.query, last))  # (batch, num_outputs, heads, head_dim)
        key = self._heads(project(self.key, tokens))  # (batch, n, heads, head_dim)
        value = self._heads(project(self.value, tokens))
        if self.block.qk_norm:
            query, key = self.query_norm(query), self.key_norm(key)
        if self.block.rope:
            query, key = self._rotated(query, key, positions)
        if first_value is not None:
            value = self._mixed(value, first_value)
        mixed = ops.reshape(_attended(query, key, value, num_outputs, lengths), (-1, query.shape[1], tokens.shape[-1]))
        mixed = project(self.output_projection, mixed)  # (batch, num_outputs, hidden_dim)
        return (mixed, value) if return_value else mixed

    def _rotated(self, query, key, positions):
        require(positions is not None, "Attention with `rope` needs the `positions` of the tokens.", "None")
        cosines, sines = rotation(positions, key.shape[1], key.shape[-1], self.block.rope_theta)
        queries = query.shape[1]
        return rotate(query, cosines[:, -queries:], sines[:, -queries:]), rotate(key, cosines, sines)

    def _mixed(self, value, first_value):
        """`a v_1 + (1 - a) v` (Zhou et al., 2024) for the tokens that were there in the first block."""
        joined = value.shape[1] - first_value.shape[1]
        share = ops.cast(self.value_mix, value.dtype)
        mixed = share * first_value + (1 - share) * value[:, joined:]
        return ops.concatenate([value[:, :joined], mixed], axis=1) if joined else mixed

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
        block: `Block`, whose settings of a block are read, the first group. Defaults to the paper's block.

    Call arguments:
        tokens: Float tensor of shape `(batch, n, hidden_dim)`.
        condition: Float tensor of shape `(batch or 1, hidden_dim)`, already activated (with `"adaln_zero"`, SiLU is
            applied once for all blocks, and the width may be another). Not used where `conditioning` is `None`. With
            `"adaln_zero"` it may be `Modulations`, with what the block's `modulation` layer makes of the condition.
        num_outputs: Integer, how many tokens at the end are wanted; the others are only attended to. Defaults to all.
        lengths: Tuple of positive integers, for rows that hold several images: the numbers of their tokens, in every
            row alike. Tokens attend to those of their own image. Then `num_outputs` is a tuple, too, and the condition
            has the shape `(batch * images, hidden_dim)`, the images of a row one after the other.
        positions, first_value, return_value: As of `SelfAttention`.

    Returns:
        Float tensor of shape `(batch, num_outputs or n, hidden_dim)`; with `return_value` a pair of it and of the
        values of attention `(batch, n, heads, head_dim)`.
    """

    attention_class = SelfAttention

    def __init__(self, num_heads, mlp_ratio=4, conditioning="adaln_zero", block=None, **kwargs):
        super().__init__(**kwargs)
        check_one_of(CONDITIONINGS, conditioning=conditioning)
        check_positive_integers(num_heads=num_heads)
        check_numbers("(0, 1000]", mlp_ratio=mlp_ratio)
        self.num_heads = int(num_heads)
        self.mlp_ratio = mlp_ratio
        self.conditioning = conditioning
        self.block = as_block(block)
        self.attention_norm = make_norm(self.block, dtype=self.dtype_policy, name="attention_norm")
        self.attention = self.attention_class(num_heads, self.block, dtype=self.dtype_policy, name="attention")
        epsilon = {} if self.block.mlp_epsilon is None else {"epsilon": self.block.mlp_epsilon}
        self.mlp_norm = make_norm(self.block, **epsilon, dtype=self.dtype_policy, name="mlp_norm")
        self.drop_path = None  # a `DropPath`, for fine-tuning

    def build(self, tokens_shape, condition_shape=None):
        hidden_dim = tokens_shape[-1]
        mlp_dim = self.block.mlp_width(hidden_dim, self.mlp_ratio)
        options = {"dtype": self.dtype_policy, "bias_initializer": keras.initializers.RandomNormal(stddev=1e-6)}
        self.mlp_hidden = Dense(mlp_dim, name="mlp_hidden", **options)
        self.mlp_output = Dense(hidden_dim, name="mlp_output", **options)
        for layer in (self.attention_norm, self.attention, self.mlp_norm, self.mlp_hidden):
            if not layer.built:  # that of `CrossBlock` is: its keys are of other tokens
                layer.build((*tokens_shape[:-1], hidden_dim))
        self.mlp_output.build((*tokens_shape[:-1], mlp_dim))
        if self.block.mlp == "swiglu":
            self.mlp_gate = Dense(mlp_dim, name="mlp_gate", **options)
            self.mlp_gate.build((*tokens_shape[:-1], hidden_dim))
        if self.block.layer_scale is not None:
            start = {"initializer": keras.initializers.Constant(self.block.layer_scale)}
            self.attention_scale = self.add_weight(shape=(hidden_dim,), **start, name="attention_scale")
            self.mlp_scale = self.add_weight(shape=(hidden_dim,), **start, name="mlp_scale")
        if self.conditioning == "adaln_zero":
            build_modulation(self, 6, hidden_dim, condition_shape)

    def call(
        self,
        tokens,
        condition=None,
        num_outputs=None,
        positions=None,
        first_value=None,
        return_value=False,
        lengths=None,
    ):
        require(
            self.conditioning is None or condition is not None,
            f"A block with conditioning={self.conditioning!r} needs a `condition`.",
            "None",
        )
        if segments.have_one_length(lengths, num_outputs):  # then nothing has to be spread over tokens
            images = segments.as_images(tokens, lengths)
            return segments.as_rows(self.call(images, condition, num_outputs and num_outputs[0]), lengths)
        number = tokens.shape[1]
        given = {"positions": positions, "first_value": first_value, "return_value": return_value}
        if self.conditioning == "adaln_zero":
            return self._modulated(tokens, modulation_of(self, condition), num_outputs, given, lengths)
        if self.conditioning == "token":
            num_outputs = num_outputs or lengths or number
            tokens, lengths = _with_condition(tokens, condition, lengths)
        x = segments.last(tokens, num_outputs, lengths)
        mixed, *value = self._attend(self.attention_norm(tokens), num_outputs, given, lengths)
        x = x + self._kept(mixed)
        x = x + self._kept(self._mlp(self.mlp_norm(x)))
        return (x, value[0][:, -number:]) if value else x  # without the condition's own

    def _modulated(self, x, modulation, num_outputs, given, lengths):
        # (batch, 1 or segments, hidden_dim) each
        shift0, scale0, gate0, shift1, scale1, gate1 = ops.split(segments.of_segments(modulation, lengths), 6, axis=-1)
        of, of_outputs = ({}, {}) if lengths is None else ({"lengths": lengths}, {"lengths": num_outputs or lengths})
        tokens, x = x, segments.last(x, num_outputs, lengths)
        mixed, *value = self._attend(self.attention_norm(tokens, shift0, scale0, **of), num_outputs, given, lengths)
        x = x + segments.spread(gate0, **of_outputs) * self._kept(mixed)
        change = self._kept(self._mlp(self.mlp_norm(x, shift1, scale1, **of_outputs)))
        x = x + segments.spread(gate1, **of_outputs) * change
        return (x, *value) if value else x

    def _attend(self, tokens, num_outputs, given, lengths):
        """A tuple of what attention returns."""
        mixed = self.attention(tokens, num_outputs=num_outputs, **given, lengths=lengths)
        mixed, *value = mixed if given["return_value"] else (mixed,)
        return self._scaled(mixed, "attention_scale"), *value

    def _scaled(self, branch, name):
        """A branch times its LayerScale, the weight called `name`, where the block has one."""
        return branch if self.block.layer_scale is None else branch * ops.cast(getattr(self, name), branch.dtype)

    def _kept(self, branch):
        return branch if self.drop_path is None else self.drop_path(branch)

    def _mlp(self, x):
        if self.block.mlp == "swiglu":
            gate = keras.activations.silu(project(self.mlp_gate, x))
            hidden = gate * project(self.mlp_hidden, x)
        else:
            hidden = keras.activations.gelu(project(self.mlp_hidden, x), approximate=self.block.mlp == "gelu")
        return self._scaled(project(self.mlp_output, hidden), "mlp_scale")


def _with_condition(tokens, condition, lengths):
    """Tokens with the condition as one more in front, of each image in a row, and the lengths with it."""
    if lengths is None:
        condition = condition[:, None] + ops.zeros_like(tokens[:, :1])  # (batch, 1, hidden_dim)
        return ops.concatenate([condition, tokens], axis=1), None
    conditions = ops.split(segments.of_segments(condition, lengths), len(lengths), axis=1)
    pairs = zip(conditions, segments.split(tokens, lengths), strict=True)
    return ops.concatenate([x for pair in pairs for x in pair], axis=1), tuple(n + 1 for n in lengths)


def _attended(query, key, value, num_outputs, lengths):
    """Attention in rows of several images, whose queries may be fewer than their keys, or in rows of one."""
    if lengths is None or num_outputs is None:
        return attention(query, key, value, lengths)
    parts = segments.split(query, num_outputs), segments.split(key, lengths), segments.split(value, lengths)
    return ops.concatenate([attention(*part) for part in zip(*parts, strict=True)], axis=1)
