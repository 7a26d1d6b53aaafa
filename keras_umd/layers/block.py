"""The settings of a transformer's blocks and of what lies around them, in one object."""

import keras

from keras_umd.layers.timesteps import as_timesteps
from keras_umd.utils.checks import check_bools, check_instances, check_integers, check_numbers, check_one_of, require
from keras_umd.utils.configurable import Configurable, revive

NORMS = ("layer", "rms")
MLPS = ("gelu", "exact_gelu", "swiglu")
POSITIONS = ("learned", "sincos")
CLS_TO_DECODER = ("mean", "all", "none")
LABELS = ("mlp", "table")
ENCODER_NORMS = ("plain", "adaln", None)
HEAD_BIASES = ("channel", "patch")
DECODER_POSITIONS = ("all", "masked")
IN_CONTEXT_OF = ("condition", "label")
# What a config names only where it is set, so that files and fingerprints of before stay as they are.
OPTIONAL = {
    "affine": True,
    "mlp_epsilon": None,
    "timesteps": None,
    "labels": "mlp",
    "in_context_of": "condition",
    "encoder_norm": "plain",
    "decoder_positions": "all",
    "head_bias": "channel",
}
MAX_TOKENS = 10_000  # each is a vector of the width
MAX_WIDTH = 1_000_000


# A package of its own: a mask of rectangles may be registered under the same name.
@keras.saving.register_keras_serializable("keras_umd.layers")
class Block(Configurable):
    """What the network's blocks are made of, and which tokens they see; every default is the paper's network.

    The first group of settings, up to `value_residual`, is read by each block; the second, up to `in_context_of`, by a
    stack of blocks, which adds tokens in front and drops them at its end; the third by the encoder and the decoder
    around their stacks. `docs/block.md` has the formula of each, where it is from, and what it costs.

    Example:

    >>> sizes = {"hidden_dim": 32, "num_layers": 1, "num_heads": 2, "decoder_layers": 1}
    >>> model = UMD((8, 8, 1), 2, **sizes, block=layers.Block.modern(registers=4))
    >>> deeper = layers.BlockStack(num_layers=24, num_heads=16, block=layers.Block(qk_norm=True))

    Args:
        qk_norm: Bool. RMSNorm of the queries and the keys of each head, before any rotation (Dehghani et al., 2023):
            attention can't saturate however large the weights grow, which bfloat16 needs at large batches.
        norm: `"layer"`, or `"rms"` for RMSNorm (Zhang and Sennrich, 2019).
        epsilon: Float in [0, 1], added to the variance, or the mean square, by every `norm`.
        affine: Bool. Whether LayerNorms have a scale and an offset of their own; DiT's have those of the condition.
        rope: Bool. Rotary positions (Su et al., 2021) by the patch's place along each space axis, which share the pairs
            of a head. Class tokens, registers and tokens of the condition aren't rotated.
        rope_theta: Float, greater than 1. The longest period of a rotation is below `2 pi rope_theta` patches.
        mlp: `"gelu"`, approximated by a hyperbolic tangent; `"exact_gelu"`, with the error function, as ViT, MAE and
            DINOv2 have it; or `"swiglu"` (Shazeer, 2020) of two thirds of the width: as many weights and FLOPs.
        mlp_epsilon: Float in [0, 1], or `None` for `epsilon`, of the norm before the MLP; diffusers' DiT has 1e-5.
        layer_scale: Float or `None`. Each branch is multiplied by a learned vector that starts at this number (CaiT;
            Touvron et al., 2021; DINOv2 from 1e-5).
        value_residual: Bool. The values of attention are mixed with those of the first block, by a weight that each
            block learns from 0.5 (Zhou et al., 2024).
        registers: Integer, at least 0. Learned tokens beside the others, in encoder and decoder (Darcet et al., 2023).
        in_context: Integer, at least 0. Copies of the condition, each with a learned position, that join from a third
            of the encoder's depth on, and in all of the decoder (JiT; Li and He, 2025).
        in_context_of: `"condition"`, or `"label"` for tokens in context that are copies of the label's embedding alone,
            as in JiT. It needs `conditioning="adaln_zero"` and classes.
        positions: `"learned"`, or `"sincos"` for sines and cosines of the place along each axis that stay as they are
            (MAE, DiT), in encoder and decoder.
        bottleneck: Integer or `None`. Patches are embedded by way of so many numbers, without bias (JiT).
        cls_to_decoder: `"mean"`, where the class tokens reach the decoder as one, `"all"` (Pixio; 2025), where each
            does: only then do several of them learn different things. `num_cls_tokens` is the model's, 8 in Pixio. Or
            `"none"`, where the decoder gets the patches alone (VideoMAE, DiT).
        self_conditioning: Bool. The representation is added to the condition of the decoder, by a linear map that
            starts at zero (DDAE++; Xiang et al., 2025).
        timesteps: `Timesteps`, how the network is told the timestep, or `None` for the paper's way.
        labels: `"mlp"`, where an MLP follows the table of labels, or `"table"` for the table alone (DiT).
        encoder_norm: The norm between the encoder and the decoder: `"plain"`, the paper's; `"adaln"`, one that the
            condition shifts and scales (MaskDiT); `None` for none, where both are parts of one stack (DiT).
        decoder_positions: `"all"`, or `"masked"`, where the decoder adds positions to its mask tokens alone: those of
            the other tokens are then the encoder's (DiT).
        head_bias: `"channel"`, or `"patch"` for a bias for each value of a patch (DiT).
    """

    def __init__(
        self,
        *,
        qk_norm=False,
        norm="layer",
        epsilon=1e-6,
        affine=True,
        rope=False,
        rope_theta=10_000.0,
        mlp="gelu",
        mlp_epsilon=None,
        layer_scale=None,
        value_residual=False,
        registers=0,
        in_context=0,
        in_context_of="condition",
        positions="learned",
        bottleneck=None,
        cls_to_decoder="mean",
        self_conditioning=False,
        timesteps=None,
        labels="mlp",
        encoder_norm="plain",
        decoder_positions="all",
        head_bias="channel",
    ):
        self._set_norms(norm, epsilon, affine, mlp_epsilon)
        self._set_blocks(qk_norm, rope, rope_theta, mlp, layer_scale, value_residual)
        self._set_tokens(registers, in_context, in_context_of)
        self._set_condition(self_conditioning, timesteps, labels)
        self._set_network(positions, bottleneck, cls_to_decoder, encoder_norm, decoder_positions, head_bias)

    def _set_norms(self, norm, epsilon, affine, mlp_epsilon):
        check_one_of(NORMS, norm=norm)
        check_numbers("[0, 1]", epsilon=epsilon)
        check_bools(affine=affine)
        check_numbers("[0, 1]", optional=True, mlp_epsilon=mlp_epsilon)
        require(affine or norm == "layer", "RMSNorm always has its scale.", affine=affine, norm=norm)
        self.norm = str(norm)
        self.epsilon = float(epsilon)
        self.affine = bool(affine)
        self.mlp_epsilon = None if mlp_epsilon is None else float(mlp_epsilon)

    def _set_blocks(self, qk_norm, rope, rope_theta, mlp, layer_scale, value_residual):
        check_bools(qk_norm=qk_norm, rope=rope, value_residual=value_residual)
        check_numbers("(1, 1e9]", rope_theta=rope_theta)
        check_one_of(MLPS, mlp=mlp)
        check_numbers("[-1e6, 1e6]", optional=True, layer_scale=layer_scale)
        self.qk_norm = bool(qk_norm)
        self.rope = bool(rope)
        self.rope_theta = float(rope_theta)
        self.mlp = str(mlp)
        self.layer_scale = None if layer_scale is None else float(layer_scale)
        self.value_residual = bool(value_residual)

    def _set_tokens(self, registers, in_context, in_context_of):
        check_integers(0, MAX_TOKENS, registers=registers, in_context=in_context)
        check_one_of(IN_CONTEXT_OF, in_context_of=in_context_of)
        self.registers = int(registers)
        self.in_context = int(in_context)
        self.in_context_of = str(in_context_of)

    def _set_condition(self, self_conditioning, timesteps, labels):
        check_bools(self_conditioning=self_conditioning)
        check_one_of(LABELS, labels=labels)
        require(
            self.in_context_of == "condition" or (self.in_context and not self_conditioning),
            "Copies of the label are the tokens in context, `in_context`, and go without `self_conditioning`.",
            in_context_of=self.in_context_of,
            in_context=self.in_context,
            self_conditioning=self_conditioning,
        )
        self.self_conditioning = bool(self_conditioning)
        self.timesteps = as_timesteps(timesteps)
        self.labels = str(labels)

    def _set_network(self, positions, bottleneck, cls_to_decoder, encoder_norm, decoder_positions, head_bias):
        check_one_of(POSITIONS, positions=positions)
        check_integers(1, MAX_WIDTH, optional=True, bottleneck=bottleneck)
        check_one_of(CLS_TO_DECODER, cls_to_decoder=cls_to_decoder)
        check_one_of(ENCODER_NORMS, encoder_norm=encoder_norm)
        check_one_of(DECODER_POSITIONS, decoder_positions=decoder_positions)
        check_one_of(HEAD_BIASES, head_bias=head_bias)
        self.positions = str(positions)
        self.bottleneck = None if bottleneck is None else int(bottleneck)
        self.cls_to_decoder = str(cls_to_decoder)
        self.encoder_norm = encoder_norm
        self.decoder_positions = str(decoder_positions)
        self.head_bias = str(head_bias)

    @classmethod
    def modern(cls, **settings):
        """JiT's network (Li and He, 2025): QK-norm, RMSNorm, RoPE, SwiGLU, 32 tokens in context, a bottleneck of 128.

        Args:
            **settings: Arguments of `Block` that replace these, or are added to them.

        Returns:
            `Block`.
        """
        jit = {"qk_norm": True, "norm": "rms", "rope": True, "mlp": "swiglu", "in_context": 32, "bottleneck": 128}
        return cls(**{**jit, **settings})

    @property
    def extra_tokens(self):
        """How many tokens a stack adds in front of those that it gets, at its end."""
        return self.registers + self.in_context

    def mlp_width(self, hidden_dim, mlp_ratio):
        """The hidden width of the MLP; that of SwiGLU, which has three matrices, is two thirds of the other."""
        return int(hidden_dim * mlp_ratio * 2 / 3) if self.mlp == "swiglu" else int(hidden_dim * mlp_ratio)

    def replaced(self, **settings):
        """The same settings but for those given."""
        return type(self)(**{**self.get_config(), **settings})

    def without_tokens(self):
        """The same settings without added tokens, for a stack of no blocks: they would be weights without a use."""
        return self.replaced(registers=0, in_context=0, in_context_of="condition")

    def get_config(self):
        config = super().get_config()
        return {name: value for name, value in config.items() if name not in OPTIONAL or value != OPTIONAL[name]}

    def __eq__(self, other):
        return type(self) is type(other) and self.get_config() == other.get_config()

    def __hash__(self):
        return hash(tuple(self.get_config().items()))


def as_block(block):
    """The `Block` that an argument stands for: one, Keras' description of one, or `None` for the default."""
    block = revive(block)
    check_instances(Block, "a keras_umd.layers.Block", optional=True, block=block)
    return Block() if block is None else block
