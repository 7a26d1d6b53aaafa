"""The transformer block, conditioned by adaptive LayerNorm, by a token, or not at all."""

import keras
from keras import ops

from keras_umd.backend.kernels import project
from keras_umd.layers import segments
from keras_umd.layers.block import as_block
from keras_umd.layers.dense import Dense
from keras_umd.layers.modulations import build_modulation, modulation_of
from keras_umd.layers.norms import make_norm
from keras_umd.layers.self_attention import SelfAttention
from keras_umd.layers.symbolic import BaseLayer
from keras_umd.utils.checks import check_numbers, check_one_of, check_positive_integers, require

CONDITIONINGS = ("adaln_zero", "token", None)


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
            tokens, lengths = with_condition(tokens, condition, lengths)
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


def with_condition(tokens, condition, lengths):
    """Tokens with the condition as one more in front, of each image in a row, and the lengths with it."""
    if lengths is None:
        condition = condition[:, None] + ops.zeros_like(tokens[:, :1])  # (batch, 1, hidden_dim)
        return ops.concatenate([condition, tokens], axis=1), None
    conditions = ops.split(segments.of_segments(condition, lengths), len(lengths), axis=1)
    pairs = zip(conditions, segments.split(tokens, lengths), strict=True)
    return ops.concatenate([x for pair in pairs for x in pair], axis=1), tuple(n + 1 for n in lengths)
