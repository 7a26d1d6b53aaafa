"""The settings of a transformer's blocks and of what lies around them, in one object."""

import keras

from keras_umd.utils.checks import check_bools, check_instances, check_integers, check_numbers, check_one_of
from keras_umd.utils.configurable import Configurable, revive

NORMS = ("layer", "rms")
MLPS = ("gelu", "swiglu")
CLS_TO_DECODER = ("mean", "all")
MAX_TOKENS = 10_000  # each is a vector of the width
MAX_WIDTH = 1_000_000


# A package of its own: a mask of rectangles may be registered under the same name.
@keras.saving.register_keras_serializable("keras_umd.layers")
class Block(Configurable):
    """What the network's blocks are made of, and which tokens they see; every default is the paper's network.

    The first group of settings is read by each block, the second by a stack of blocks, which adds tokens in front and
    drops them at its end, the third by the encoder and the decoder around their stacks. `docs/block.md` has the formula
    of each, where it is from, and what it costs.

    Example:

    >>> sizes = {"hidden_dim": 32, "num_layers": 1, "num_heads": 2, "decoder_layers": 1}
    >>> model = UMD((8, 8, 1), 2, **sizes, block=layers.Block.modern(registers=4))
    >>> deeper = layers.BlockStack(num_layers=24, num_heads=16, block=layers.Block(qk_norm=True))

    Args:
        qk_norm: Bool. RMSNorm of the queries and the keys of each head, before any rotation (Dehghani et al., 2023):
            attention can't saturate however large the weights grow, which bfloat16 needs at large batches.
        norm: `"layer"`, or `"rms"` for RMSNorm (Zhang and Sennrich, 2019).
        rope: Bool. Rotary positions (Su et al., 2021) by the patch's place along each space axis, which share the pairs
            of a head. Class tokens, registers and tokens of the condition aren't rotated.
        rope_theta: Float, greater than 1. The longest period of a rotation is below `2 pi rope_theta` patches.
        mlp: `"gelu"`, or `"swiglu"` (Shazeer, 2020) of two thirds of the width: as many weights and FLOPs.
        value_residual: Bool. The values of attention are mixed with those of the first block, by a weight that each
            block learns from 0.5 (Zhou et al., 2024).
        registers: Integer, at least 0. Learned tokens beside the others, in encoder and decoder (Darcet et al., 2023).
        in_context: Integer, at least 0. Copies of the condition, each with a learned position, that join from a third
            of the encoder's depth on, and in all of the decoder (JiT; Li and He, 2025).
        bottleneck: Integer or `None`. Patches are embedded by way of so many numbers, without bias (JiT).
        cls_to_decoder: `"mean"`, where the class tokens reach the decoder as one, or `"all"` (Pixio; 2025), where each
            does: only then do several of them learn different things. `num_cls_tokens` is the model's, 8 in Pixio.
        self_conditioning: Bool. The representation is added to the condition of the decoder, by a linear map that
            starts at zero (DDAE++; Xiang et al., 2025).
    """

    def __init__(
        self,
        *,
        qk_norm=False,
        norm="layer",
        rope=False,
        rope_theta=10_000.0,
        mlp="gelu",
        value_residual=False,
        registers=0,
        in_context=0,
        bottleneck=None,
        cls_to_decoder="mean",
        self_conditioning=False,
    ):
        check_bools(qk_norm=qk_norm, rope=rope, value_residual=value_residual, self_conditioning=self_conditioning)
        check_one_of(NORMS, norm=norm)
        check_one_of(MLPS, mlp=mlp)
        check_one_of(CLS_TO_DECODER, cls_to_decoder=cls_to_decoder)
        check_numbers("(1, 1e9]", rope_theta=rope_theta)
        check_integers(0, MAX_TOKENS, registers=registers, in_context=in_context)
        check_integers(1, MAX_WIDTH, optional=True, bottleneck=bottleneck)
        self.qk_norm = bool(qk_norm)
        self.norm = str(norm)
        self.rope = bool(rope)
        self.rope_theta = float(rope_theta)
        self.mlp = str(mlp)
        self.value_residual = bool(value_residual)
        self.registers = int(registers)
        self.in_context = int(in_context)
        self.bottleneck = None if bottleneck is None else int(bottleneck)
        self.cls_to_decoder = str(cls_to_decoder)
        self.self_conditioning = bool(self_conditioning)

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

    def __eq__(self, other):
        return type(self) is type(other) and self.get_config() == other.get_config()

    def __hash__(self):
        return hash(tuple(self.get_config().items()))


def as_block(block):
    """The `Block` that an argument stands for: one, Keras' description of one, or `None` for the default."""
    block = revive(block)
    check_instances(Block, "a keras_umd.layers.Block", optional=True, block=block)
    return Block() if block is None else block
