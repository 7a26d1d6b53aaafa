"""The encoder: a ViT over the visible patches."""

import math

import keras
from keras import ops

from keras_umd.layers import segments
from keras_umd.layers.attention_maps import attention_of_first
from keras_umd.layers.block import as_block
from keras_umd.layers.embeddings import PositionEmbedding
from keras_umd.layers.masking import take_tokens
from keras_umd.layers.modulations import Modulations, build_modulation
from keras_umd.layers.norms import make_norm
from keras_umd.layers.patches import PatchEmbedding, as_tuple, patch_grid, patchify
from keras_umd.layers.rotary import check_rotation, grid_positions, take_positions
from keras_umd.layers.stack import BlockNetwork, BlockStack, parted
from keras_umd.utils.checks import check_bools, check_integers, check_positive_integers, require


def pooled(representation):
    """The representation `(batch, hidden_dim)`, also where it is given as the class tokens whose mean it is."""
    return ops.mean(representation, axis=1) if len(representation.shape) == 3 else representation


@keras.saving.register_keras_serializable("keras_umd")
class Encoder(BlockNetwork):
    """ViT over the visible patches of an image, with class tokens in front.

    The representation of an image is the mean of the class tokens after the last LayerNorm (section 5).

    Example:

    >>> encoder = Encoder(2, hidden_dim=32, num_layers=1, num_heads=2, conditioning=None)
    >>> representation, tokens = encoder(np.zeros((3, 8, 8, 1), "float32"))
    >>> representation.shape, tokens.shape
    ((3, 32), (3, 16, 32))

    Args:
        patch_size: Integer or a tuple of integers, one for each space axis.
        hidden_dim: Integer. Width of the tokens.
        num_layers: Integer. Number of transformer blocks.
        num_heads: Integer, a divisor of `hidden_dim`.
        num_cls_tokens: Integer, at least 0. The paper has 1; 4 in the authors' code act as one counted four times.
            Without any the representation is the mean of the patches' tokens.
        conditioning: `"adaln_zero"`, `"token"` or `None`.
        scan_blocks, remat: Bools, how the blocks are run, see `BlockStack`. They are attributes of `blocks`, and may be
            changed there before `compile`.
        block: `Block`, what the blocks and the network around them are made of. Defaults to the paper's.
        has_mask_token, has_place_token: Bools. Whether it can be called with `hidden` and with `unplaced`.

    Call arguments:
        images: Float tensor of shape `(batch, *space, channels)`, with one to four space axes.
        condition: Float tensor of shape `(batch or 1, hidden_dim)`, as `ConditionEmbedding` makes it, or the
            `Modulations` that `modulations(condition)` makes of it.
        visible: Int tensor of shape `(batch, visible)`, the patches to look at. Without it: all.
        hidden: Bool tensor of shape `(batch, visible)`, of which patches to see nothing but the place: a mask token
            stands for them.
        unplaced: Bool tensor of shape `(batch, visible)`, of which patches not to know the place: a token stands for
            it.
        told: Float tensor of shape `(batch, visible, hidden_dim)`, what each patch is told beside its place.
        collect: Tuple of integers in [1, num_layers], the blocks whose outputs are wanted too: 1 is the first, and
            `num_layers` the last with the LayerNorm behind it.
        depth: Integer in [1, num_layers], how many of the blocks to run; the LayerNorm follows the last only. Defaults
            to all.
        for_decoder: Bool. Whether the first output is what the decoder takes: with `cls_to_decoder="all"` the class
            tokens `(batch, num_cls_tokens, hidden_dim)`, whose mean is the representation.

    `images` may be a list of tensors, and `visible` then is one, too: image k of each of them is in row k, through
    which the dense layers run once, while tokens attend to those of their own image. Then the condition has the shape
    `(batch * images, hidden_dim)`, the images of a row one after the other, and there is no `collect`.

    Returns:
        The representation `(batch, hidden_dim)` and the patches' tokens `(batch, visible, hidden_dim)`; with `collect`,
        also a list of such pairs, one for each of these blocks. Of rows, a list of pairs, one for each of `images`.
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
        block=None,
        has_mask_token=False,
        has_place_token=False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_bools(has_mask_token=has_mask_token, has_place_token=has_place_token)
        self.has_mask_token = has_mask_token
        self.has_place_token = has_place_token
        check_positive_integers(hidden_dim=hidden_dim, num_heads=num_heads, num_layers=num_layers)
        check_integers(0, num_cls_tokens=num_cls_tokens)
        self.patch_size = as_tuple(patch_size)
        self.hidden_dim = int(hidden_dim)
        self.num_layers = num_layers
        self.num_heads = int(num_heads)
        self.num_cls_tokens = int(num_cls_tokens)
        self.conditioning = conditioning
        self.block = as_block(block)
        self._check_block()
        self.patch_embedding = PatchEmbedding(
            self.patch_size, hidden_dim, self.block.bottleneck, dtype=self.dtype_policy, name="patch_embedding"
        )
        self.blocks = BlockStack(
            num_layers,
            num_heads,
            conditioning=conditioning,
            scan_blocks=scan_blocks,
            remat=remat,
            block=self.block,
            dtype=self.dtype_policy,
            name="blocks",
        )
        self.norm = None
        if self.block.encoder_norm is not None:
            self.norm = make_norm(self.block, dtype=self.dtype_policy, name="norm")

    def _check_block(self):
        require(
            self.block.encoder_norm != "adaln" or self.conditioning == "adaln_zero",
            "A norm that the condition shifts and scales needs conditioning 'adaln_zero'.",
            conditioning=self.conditioning,
            block=self.block,
        )

    def build(self, images_shape, condition_shape=None, visible_shape=None):
        grid = patch_grid(images_shape[1:], self.patch_size)
        self.position_embedding = PositionEmbedding(
            grid, self.block.positions, dtype=self.dtype_policy, name="position_embedding"
        )
        if self.block.rope:
            check_rotation(self.hidden_dim // self.num_heads, len(grid))
            self.places = grid_positions(grid)
        if self.num_cls_tokens:
            self.cls_tokens = self._learned_tokens("cls_tokens", (self.num_cls_tokens,))
        self.mask_token = self._learned_tokens("mask_token", (1, 1)) if self.has_mask_token else None
        self.place_token = self._learned_tokens("place_mask_token", (1, 1)) if self.has_place_token else None
        self.patch_embedding.build((None, *images_shape[1:]))
        # Each block before the stack: so their variables have the paths that files with frozen layers name.
        norms = [] if self.norm is None else [self.norm]
        for layer in (self.position_embedding, *self.blocks, self.blocks, *norms):
            layer.build((None, None, self.hidden_dim))
        if self.block.encoder_norm == "adaln":
            build_modulation(self, 2, self.hidden_dim, None)

    def _learned_tokens(self, name, shape):
        return self.add_weight(
            shape=(*shape, self.hidden_dim),
            # Not zero: LayerNorm would make the first gradient of the class token up to 1000 times too large.
            initializer=keras.initializers.RandomNormal(stddev=0.02),
            autocast=False,  # its gradient, a sum over the tokens of a batch, stays float32
            name=name,
        )

    def modulations(self, condition):
        """The `Modulations` of the blocks, and of a norm that has one, for a condition `(..., hidden_dim)`."""
        modulations = self.blocks.modulations(condition)
        if self.block.encoder_norm != "adaln":
            return modulations
        return Modulations((*modulations.of_layers, self.modulation(parted(self.block, condition)[0])))

    def _normed(self, tokens, condition, depth):
        """What lies behind the last block: a norm, one that the condition shifts and scales, or nothing."""
        if self.norm is None or depth not in (None, self.num_layers):
            return tokens
        if self.block.encoder_norm == "plain":
            return self.norm(tokens)
        is_given = isinstance(condition, Modulations)
        of_norm = condition.of_layers[-1] if is_given else self.modulation(parted(self.block, condition)[0])
        shift, scale = ops.split(of_norm[:, None], 2, axis=-1)
        return self.norm(tokens, shift, scale)

    def _of_blocks(self, condition):
        """The part of given `Modulations` that is the blocks'; a condition as it is."""
        if isinstance(condition, Modulations) and self.block.encoder_norm == "adaln":
            return Modulations(condition.of_layers[:-1])
        return condition

    def call(
        self,
        images,
        condition=None,
        visible=None,
        collect=(),
        depth=None,
        for_decoder=False,
        hidden=None,
        unplaced=None,
        told=None,
    ):
        if isinstance(images, (list, tuple)):
            return self._rows(images, condition, visible, depth)
        tokens = self.blocks(
            self._embedded(images, visible, hidden, unplaced, told),
            condition=self._of_blocks(condition),
            collect=collect,
            depth=depth,
            positions=take_positions(self.places, visible) if self.block.rope else None,
        )
        tokens, collected = tokens if len(collect) else (tokens, [])
        tokens = self._normed(tokens, condition, depth)
        outputs = self._split(tokens, is_pooled=not for_decoder or self.block.cls_to_decoder != "all")
        if not len(collect):
            return outputs
        pairs = zip(collect, collected, strict=True)
        return *outputs, [outputs if number == self.num_layers else self._split(tokens) for number, tokens in pairs]

    def class_attention(self, images, condition=None):
        """How much the class tokens look at each patch in the last block, `(batch, num_patches)`, float32.

        Args:
            images, condition: As of the call.
        """
        require(self.num_cls_tokens > 0, "Without class tokens there is nothing that looks.", "num_cls_tokens=0")
        tokens, positions = self._embedded(images), take_positions(self.places) if self.block.rope else None
        if self.num_layers > 1:
            tokens = self.blocks(tokens, condition=condition, depth=self.num_layers - 1, positions=positions)
        given = Modulations(condition.of_layers[-1:]) if isinstance(condition, Modulations) else condition
        maps = attention_of_first(self.blocks[-1], tokens, self.num_cls_tokens, given, positions)
        return maps[:, self.num_cls_tokens :]

    def _rows(self, images, condition, visible, depth):
        embedded = [self._embedded(*given) for given in zip(images, visible, strict=True)]
        lengths = tuple(tokens.shape[1] for tokens in embedded)
        tokens = self.blocks(ops.concatenate(embedded, axis=1), condition=condition, depth=depth, lengths=lengths)
        tokens = self._normed(tokens, condition, depth)
        return [self._split(part) for part in segments.split(tokens, lengths)]

    def _embedded(self, images, visible=None, hidden=None, unplaced=None, told=None):
        patches = patchify(images, self.patch_size)  # (batch, num_patches, patch_dim)
        if visible is not None:
            patches = take_tokens(patches, visible)  # (batch, visible, patch_dim)
        tokens = self.patch_embedding.embed(patches)
        if hidden is not None:
            require(self.has_mask_token, "Patches are `hidden` by an encoder with has_mask_token=True.", "without it")
            tokens = ops.where(hidden[:, :, None], ops.cast(self.mask_token, tokens.dtype), tokens)
        placed = self.position_embedding(tokens, indices=visible)
        if unplaced is not None:
            require(
                self.has_place_token, "Patches are `unplaced` by an encoder with has_place_token=True.", "without it"
            )
            placed = ops.where(unplaced[:, :, None], tokens + ops.cast(self.place_token, tokens.dtype), placed)
        tokens = placed if told is None else placed + ops.cast(told, placed.dtype)
        if not self.num_cls_tokens:
            return tokens
        cls_tokens = ops.broadcast_to(self.cls_tokens, (ops.shape(tokens)[0], self.num_cls_tokens, self.hidden_dim))
        return ops.concatenate([ops.cast(cls_tokens, tokens.dtype), tokens], axis=1)

    def _split(self, tokens, is_pooled=True):
        cls_tokens = tokens[:, : self.num_cls_tokens] if self.num_cls_tokens else ops.mean(tokens, axis=1)
        return pooled(cls_tokens) if is_pooled else cls_tokens, tokens[:, self.num_cls_tokens :]

    def compute_output_shape(self, images_shape, condition_shape=None, visible_shape=None):
        grid = patch_grid(images_shape[1:], self.patch_size)
        num_patches = math.prod(grid) if visible_shape is None else visible_shape[1]
        return (images_shape[0], self.hidden_dim), (images_shape[0], num_patches, self.hidden_dim)
