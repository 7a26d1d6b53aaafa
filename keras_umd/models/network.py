"""The asymmetric ViT encoder-decoder and its condition. It knows nothing of training."""

import keras
from keras import ops

from keras_umd.backend.kernels import project
from keras_umd.backend.stack import run_blocks
from keras_umd.layers.embeddings import LabelEmbedding, PositionEmbedding, TimestepEmbedding
from keras_umd.layers.masking import take_tokens
from keras_umd.layers.patches import PatchEmbedding, PatchHead, as_pair, patch_grid, patchify
from keras_umd.layers.transformer import LayerNorm, TransformerBlock


@keras.saving.register_keras_serializable("keras_umd")
class ConditionEmbedding(keras.layers.Layer):
    """Timestep and label as one vector: the sum of both embeddings.

    With `"adaln_zero"` SiLU is applied here, once for all blocks.

    Args:
        hidden_dim: Integer. Width of the vector.
        num_classes: Integer, or `None` for a model without labels.
        conditioning: `"adaln_zero"` or `"token"`.

    Call arguments:
        timesteps: Int tensor of shape `(batch or 1,)`.
        labels: Int tensor of shape `(batch or 1,)` in `[0, num_classes]`, `None` for the null label.
        drop: Bool tensor of the shape of `labels`, `True` where the null label takes the place of the label.

    Returns:
        Float tensor of shape `(batch or 1, hidden_dim)`.
    """

    def __init__(self, hidden_dim, num_classes=None, conditioning="adaln_zero", **kwargs):
        super().__init__(**kwargs)
        self.hidden_dim = hidden_dim
        self.num_classes = num_classes
        self.conditioning = conditioning
        self.timestep_embedding = TimestepEmbedding(hidden_dim, dtype=self.dtype_policy, name="timestep_embedding")
        self.label_embedding = None
        if num_classes is not None:
            self.label_embedding = LabelEmbedding(
                num_classes, hidden_dim, dtype=self.dtype_policy, name="label_embedding"
            )

    def build(self, timesteps_shape, labels_shape=None, drop_shape=None):
        self.timestep_embedding.build(timesteps_shape)
        if self.label_embedding is not None:
            self.label_embedding.build(timesteps_shape)

    def call(self, timesteps, labels=None, drop=None):
        condition = self.timestep_embedding(timesteps)
        if self.label_embedding is not None:
            if labels is None:
                labels = ops.full((1,), self.num_classes, dtype="int32")
            condition = condition + self.label_embedding(labels, drop=drop)
        return self._activated(condition)

    def table(self, timesteps, labels):
        """The conditions of all pairs of `timesteps` `(n,)` and `labels` `(m,)`: `(n, m, hidden_dim)`."""
        condition = self.timestep_embedding(timesteps)[:, None]
        if self.label_embedding is not None:
            condition = condition + self.label_embedding(labels)
        return self._activated(condition)  # (n, m or 1, hidden_dim)

    def _activated(self, condition):
        return ops.silu(condition) if self.conditioning == "adaln_zero" else condition

    def get_config(self):
        config = {"hidden_dim": self.hidden_dim, "num_classes": self.num_classes, "conditioning": self.conditioning}
        return {**super().get_config(), **config}


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
