"""The decoder: self-attention over the encoder's tokens and mask tokens."""

import keras
from keras import ops

from keras_umd.backend.kernels import project
from keras_umd.backend.stack import run_blocks
from keras_umd.layers.embeddings import PositionEmbedding
from keras_umd.layers.patches import PatchHead, as_pair
from keras_umd.layers.transformer import LayerNorm, TransformerBlock


def _blocks(num_layers, num_heads, conditioning, dtype):
    return [
        TransformerBlock(num_heads, conditioning=conditioning, dtype=dtype, name=f"block_{i}")
        for i in range(num_layers)
    ]


@keras.saving.register_keras_serializable("keras_umd")
class Decoder(keras.layers.Layer):
    """Predicts x_0 and noise for every patch, from the encoder's tokens and a mask token for each masked patch.

    Attention doesn't care about order and every token carries its position, so the patches stay in the order visible,
    masked; `keras_umd.layers.restore` puts them back where a picture is wanted.

    Args:
        patch_size: Integer or pair `(patch_height, patch_width)`.
        grid: Pair `(rows, columns)` of patches in an image.
        channels: Integer. Channels of the image; the head predicts twice as many.
        num_layers: Integer. Number of transformer blocks.
        num_heads: Integer, a divisor of the blocks' width.
        conditioning: `"adaln_zero"`, `"token"` or `None`.
        scan_blocks, remat: As of `Encoder`.
        hidden_dim: Integer, the width of the blocks. Another than the encoder's is reached by a linear map of its
            tokens (MAE, section 3). Defaults to the encoder's, without a map.

    Call arguments:
        representation: Float tensor of shape `(batch, hidden_dim)`, from the encoder.
        tokens: Float tensor of shape `(batch, visible, hidden_dim)`, from the encoder.
        condition: Float tensor of shape `(batch or 1, hidden_dim)`.
        visible, masked: Int tensors, the patches that `tokens` stand for `(batch, visible)`, and the others
            `(batch, masked)`. Without them: all patches, in row-major order.
        modulations: List of what `modulations(condition)` returns, instead of a condition.
        targets: Tuple of what losses compare with, of `"x0"` and `"noise"`: then only that is computed which a loss
            reads.

    Returns:
        Float tensor of shape `(batch, num_patches, patch_height * patch_width * 2 * channels)`. With `targets`, a
        dictionary of tensors `(batch, n, patch_height * patch_width * channels)`: `x0` of the masked patches and
        `noise` of the visible ones, both of all patches where none is masked.
    """

    def __init__(
        self,
        patch_size,
        grid,
        channels,
        num_layers,
        num_heads,
        conditioning="adaln_zero",
        scan_blocks=False,
        remat=False,
        hidden_dim=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.patch_size = as_pair(patch_size)
        self.grid = tuple(grid)
        self.channels = channels
        self.num_layers = num_layers
        self.num_heads = num_heads
        self.conditioning = conditioning
        self.scan_blocks = scan_blocks
        self.remat = remat
        self.hidden_dim = hidden_dim
        dtype = self.dtype_policy
        self.embedding = self.condition_projection = None
        self.position_embedding = PositionEmbedding(self.grid, dtype=dtype, name="position_embedding")
        self.blocks = _blocks(num_layers, num_heads, conditioning, dtype)
        self.norm = LayerNorm(dtype=dtype, name="norm")
        head_conditioning = "adaln_zero" if conditioning == "adaln_zero" else None
        self.head = PatchHead(self.patch_size, 2 * channels, head_conditioning, dtype=dtype, name="head")

    def build(
        self,
        representation_shape,
        tokens_shape,
        condition_shape=None,
        visible_shape=None,
        masked_shape=None,
        modulations_shape=None,
    ):
        encoder_dim = representation_shape[-1]
        hidden_dim = encoder_dim if self.hidden_dim is None else self.hidden_dim
        if hidden_dim != encoder_dim:
            self.embedding = self._dense(encoder_dim, hidden_dim, "embedding")
            if self.conditioning == "token":
                self.condition_projection = self._dense(encoder_dim, hidden_dim, "condition_projection")
        self.mask_token = self.add_weight(
            shape=(hidden_dim,),
            initializer=keras.initializers.RandomNormal(stddev=0.02),
            name="mask_token",
        )
        for layer in (self.position_embedding, self.norm):
            layer.build((None, None, hidden_dim))
        for layer in (*self.blocks, self.head):
            layer.build((None, None, hidden_dim), (None, encoder_dim))

    def _dense(self, input_dim, units, name):
        dense = keras.layers.Dense(units, dtype=self.dtype_policy, name=name)
        dense.build((None, input_dim))
        return dense

    def modulations(self, condition):
        """What blocks and head make of a condition `(..., hidden_dim)` with AdaLN, as of `Encoder`."""
        return [layer.modulation(condition) for layer in (*self.blocks, self.head)]

    def call(self, representation, tokens, condition=None, visible=None, masked=None, modulations=None, targets=None):
        if self.embedding is not None:
            representation, tokens = self.embedding(representation), project(self.embedding, tokens)
        block_condition = condition if self.condition_projection is None else self.condition_projection(condition)
        order = None
        if masked is not None:
            mask_tokens = ops.broadcast_to(self.mask_token, (*ops.shape(masked), tokens.shape[-1]))
            tokens = ops.concatenate([tokens, ops.cast(mask_tokens, tokens.dtype)], axis=1)
            order = ops.concatenate([visible, masked], axis=1)
        tokens = self.position_embedding(tokens, indices=order)  # (batch, num_patches, hidden_dim)
        num_outputs = tokens.shape[1] if masked is None or targets != ("x0",) else masked.shape[1]
        tokens = ops.concatenate([representation[:, None], tokens], axis=1)
        *of_blocks, of_head = modulations or (None,)
        how = {"num_outputs": num_outputs, "scan": self.scan_blocks, "remat": self.remat}
        tokens = self.norm(run_blocks(self.blocks, tokens, block_condition, of_blocks or None, **how))
        if of_head is None and self.head.conditioning == "adaln_zero":
            of_head = self.head.modulation(condition)  # once for both predictions
        given = {"condition": condition, "modulation": of_head}
        if targets is None:
            return self.head(tokens, **given)  # (batch, num_patches, patch_dim)
        num_masked = tokens.shape[1] if masked is None else masked.shape[1]
        read = {"x0": tokens[:, -num_masked:], "noise": tokens if masked is None else tokens[:, :-num_masked]}
        channels = {"x0": (0, self.channels), "noise": (self.channels, 2 * self.channels)}
        return {name: self.head(read[name], channels=channels[name], **given) for name in targets}

    def get_config(self):
        config = {
            "patch_size": self.patch_size,
            "grid": self.grid,
            "channels": self.channels,
            "num_layers": self.num_layers,
            "num_heads": self.num_heads,
            "conditioning": self.conditioning,
            "scan_blocks": self.scan_blocks,
            "remat": self.remat,
            "hidden_dim": self.hidden_dim,
        }
        return {**super().get_config(), **config}
