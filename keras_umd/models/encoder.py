"""The encoder: a ViT over the visible patches."""

import keras
from keras import ops

from keras_umd.backend.stack import run_blocks
from keras_umd.layers.embeddings import PositionEmbedding
from keras_umd.layers.masking import take_tokens
from keras_umd.layers.patches import PatchEmbedding, as_pair, patch_grid, patchify
from keras_umd.layers.transformer import LayerNorm, TransformerBlock


def _blocks(num_layers, num_heads, conditioning, dtype):
    return [
        TransformerBlock(num_heads, conditioning=conditioning, dtype=dtype, name=f"block_{i}")
        for i in range(num_layers)
    ]


@keras.saving.register_keras_serializable("keras_umd")
class Encoder(keras.layers.Layer):
    """ViT over the visible patches of an image, with class tokens in front.

    The representation of an image is the mean of the class tokens after the last LayerNorm (section 5).

    Args:
        patch_size: Integer or pair `(patch_height, patch_width)`.
        hidden_dim: Integer. Width of the tokens.
        num_layers: Integer. Number of transformer blocks.
        num_heads: Integer, a divisor of `hidden_dim`.
        num_cls_tokens: Integer, at least 1. The paper has 1; 4 in the authors' code act as one counted four times.
        conditioning: `"adaln_zero"`, `"token"` or `None`.
        scan_blocks, remat: Bools, how the blocks are run (see `UMD`). The attributes may be changed before `compile`.

    Call arguments:
        images: Float tensor of shape `(batch, height, width, channels)`.
        condition: Float tensor of shape `(batch or 1, hidden_dim)`, as `ConditionEmbedding` makes it.
        visible: Int tensor of shape `(batch, visible)`, the patches to look at. Without it: all.
        modulations: List of what `modulations(condition)` returns, instead of a condition.

    Returns:
        The representation `(batch, hidden_dim)` and the patches' tokens `(batch, visible, hidden_dim)`.
    """

    def __init__(
        self,
        patch_size,
        hidden_dim,
        num_layers,
        num_heads,
        num_cls_tokens=1,
        conditioning="adaln_zero",
        scan_blocks=False,
        remat=False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.patch_size = as_pair(patch_size)
        self.hidden_dim = hidden_dim
        self.num_layers = num_layers
        self.num_heads = num_heads
        self.num_cls_tokens = num_cls_tokens
        self.conditioning = conditioning
        self.scan_blocks = scan_blocks
        self.remat = remat
        dtype = self.dtype_policy
        self.patch_embedding = PatchEmbedding(self.patch_size, hidden_dim, dtype=dtype, name="patch_embedding")
        self.blocks = _blocks(num_layers, num_heads, conditioning, dtype)
        self.norm = LayerNorm(dtype=dtype, name="norm")

    def build(self, images_shape, condition_shape=None, visible_shape=None, modulations_shape=None):
        grid = patch_grid(images_shape[1:], self.patch_size)
        tokens_shape = (None, None, self.hidden_dim)
        self.position_embedding = PositionEmbedding(grid, dtype=self.dtype_policy, name="position_embedding")
        # Not zero: LayerNorm would make the first gradient of the class token up to 1000 times too large.
        self.cls_tokens = self.add_weight(
            shape=(self.num_cls_tokens, self.hidden_dim),
            initializer=keras.initializers.RandomNormal(stddev=0.02),
            name="cls_tokens",
        )
        self.patch_embedding.build((None, *images_shape[1:]))
        for layer in (self.position_embedding, *self.blocks, self.norm):
            layer.build(tokens_shape)

    def modulations(self, condition):
        """What each block makes of a condition `(..., hidden_dim)` with AdaLN: a list of `(..., 6 * hidden_dim)`."""
        return [block.modulation(condition) for block in self.blocks]

    def call(self, images, condition=None, visible=None, modulations=None):
        tokens = self._embedded(images, visible)
        tokens = run_blocks(self.blocks, tokens, condition, modulations, scan=self.scan_blocks, remat=self.remat)
        return self._split(self.norm(tokens))

    def layer_outputs(self, images, layers, condition=None):
        """What `call` returns, after each of some blocks instead of the last, with nothing masked.

        Args:
            images, condition: As of `call`.
            layers: List of integers in [1, num_layers]: 1 is the first block, and `num_layers` the last with the
                LayerNorm behind it.

        Returns:
            List of pairs `(batch, hidden_dim)` and `(batch, num_patches, hidden_dim)`.
        """
        tokens, outputs = self._embedded(images), {}
        for number, block in enumerate(self.blocks[: max(layers)], start=1):
            tokens = block(tokens, condition=condition)
            if number in layers:
                outputs[number] = self._split(self.norm(tokens) if number == self.num_layers else tokens)
        return [outputs[layer] for layer in layers]

    def _embedded(self, images, visible=None):
        patches = patchify(images, self.patch_size)  # (batch, num_patches, patch_dim)
        if visible is not None:
            patches = take_tokens(patches, visible)  # (batch, visible, patch_dim)
        tokens = self.position_embedding(self.patch_embedding(patches), indices=visible)  # (batch, visible, hidden_dim)
        cls_tokens = ops.broadcast_to(self.cls_tokens, (ops.shape(tokens)[0], self.num_cls_tokens, self.hidden_dim))
        return ops.concatenate([ops.cast(cls_tokens, tokens.dtype), tokens], axis=1)

    def _split(self, tokens):
        return ops.mean(tokens[:, : self.num_cls_tokens], axis=1), tokens[:, self.num_cls_tokens :]

    def get_config(self):
        config = {
            "patch_size": self.patch_size,
            "hidden_dim": self.hidden_dim,
            "num_layers": self.num_layers,
            "num_heads": self.num_heads,
            "num_cls_tokens": self.num_cls_tokens,
            "conditioning": self.conditioning,
            "scan_blocks": self.scan_blocks,
            "remat": self.remat,
        }
        return {**super().get_config(), **config}
