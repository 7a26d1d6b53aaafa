"""The decoder: self-attention over the encoder's tokens and mask tokens."""

import math

import keras
from keras import ops

from keras_umd.backend.kernels import project
from keras_umd.layers import segments
from keras_umd.layers.block import as_block
from keras_umd.layers.dense import Dense
from keras_umd.layers.embeddings import PositionEmbedding, checked_grid
from keras_umd.layers.masking import take_tokens
from keras_umd.layers.modulations import Modulations
from keras_umd.layers.norms import LayerNorm, make_norm
from keras_umd.layers.patches import PatchEmbedding, PatchHead, as_tuple, patchify
from keras_umd.layers.rotary import check_rotation, grid_positions, take_positions
from keras_umd.layers.stack import BlockNetwork, BlockStack, parted
from keras_umd.models.decoders.tokens import behind_cls_tokens, num_outputs_of
from keras_umd.models.encoder import pooled
from keras_umd.utils.checks import (
    check_bools,
    check_instances,
    check_integers,
    check_positive_integers,
    is_size,
    require,
)

PATCHES = ("masked", "visible", "all")


@keras.saving.register_keras_serializable("keras_umd")
class Decoder(BlockNetwork):
    """Predicts what is read of every patch, from the encoder's tokens and a mask token for each masked patch.

    Attention doesn't care about order and every token carries its position, so the patches stay in the order visible,
    masked; `keras_umd.layers.restore` puts them back where a picture is wanted.

    Example:

    >>> model.decoder.grid, model.decoder.pixel_predictions
    ((4, 4), ('x0', 'eps'))
    >>> decoder = Decoder(2, (4, 4), 1, num_layers=1, num_heads=2, conditioning=None, pixel_predictions=("x0",))
    >>> decoder(np.zeros((3, 32), "float32"), np.zeros((3, 16, 32), "float32"))["x0"].shape
    (3, 16, 4)

    Args:
        patch_size: Integer or a tuple of integers, one for each space axis.
        grid: Tuple of integers, the number of patches along each space axis.
        channels: Integer. Channels of the image.
        num_layers: Integer, at least 0: a network that is one stack has all of its blocks in the encoder.
        num_heads: Integer, a divisor of the blocks' width.
        conditioning: `"adaln_zero"`, `"token"` or `None`.
        scan_blocks, remat: As of `Encoder`.
        hidden_dim: Integer, the width of the blocks. Another than the encoder's is reached by a linear map of its
            tokens (MAE, section 3). Defaults to the encoder's, without a map.
        pixel_predictions: Tuple of names. For each, one head predicts `channels` values for each pixel of a patch.
        heads: Dictionary of names and widths. Each other prediction has a linear map of its own, to so many values for
            a patch.
        block: `Block`, what the blocks and the network around them are made of. Defaults to the paper's.
        has_noise_embedding: Bool. Whether it can be called with `noisy_images`.

    Call arguments:
        representation: Float tensor of shape `(batch, hidden_dim)`, from the encoder; or the class tokens whose mean it
            is, `(batch, num_cls_tokens, hidden_dim)`, for a `block` with `cls_to_decoder="all"`.
        tokens: Float tensor of shape `(batch, visible, hidden_dim)`, from the encoder.
        condition: Float tensor of shape `(batch or 1, hidden_dim)`, or the `Modulations` that `modulations(condition)`
            makes of it, where the network doesn't need the condition itself (`needs_condition`).
        visible, masked: Int tensors, the patches that `tokens` stand for `(batch, visible)`, and the others
            `(batch, masked)`. Without them: all patches, in row-major order.
        read: Dictionary of names of predictions and of the patches that they are wanted for, `"masked"`, `"visible"`
            or `"all"`; only that is computed. All patches are meant where none is masked. Defaults to the pixel
            predictions of all patches.
        noisy_images: Float tensor of shape `(batch, *space, channels)`, of which it sees the masked patches: their
            embedding is added to the mask token.

    Rows of several images are lists of all these, but for the condition, as of `Encoder`; it returns a list, too.

    Returns:
        Dictionary of float tensors `(batch, n, values)`, for all patches in the order visible, masked. The values of
        pixel predictions are `prod(patch_size) * channels`, for `unpatchify`.
    """

    taps: tuple[int, ...] = ()  # blocks of the encoder whose outputs it wants, too, as `features`
    hands_over_tokens = True  # whether the blocks get tokens from the encoder
    takes_rows = True  # whether it can run several images as one row
    takes_other = False  # whether it looks at another image, which a view's change gives

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
        *,
        pixel_predictions,
        heads=None,
        block=None,
        has_noise_embedding=False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_bools(has_noise_embedding=has_noise_embedding)
        self.has_noise_embedding = has_noise_embedding
        check_positive_integers(channels=channels, num_heads=num_heads)
        check_integers(0, num_layers=num_layers)
        check_integers(1, optional=True, hidden_dim=hidden_dim)
        self.grid = checked_grid(grid)
        self.patch_size = as_tuple(patch_size, len(self.grid))
        self.channels = int(channels)
        self.num_layers = num_layers
        self.num_heads = num_heads
        self.conditioning = conditioning
        self.hidden_dim = None if hidden_dim is None else int(hidden_dim)
        self.pixel_predictions, widths = _checked_predictions(pixel_predictions, heads)
        self.block = as_block(block)
        require(
            conditioning is not None or not self.block.self_conditioning,
            "With `self_conditioning` the representation is added to the condition: it needs conditioning 'adaln_zero' "
            "or 'token'.",
            conditioning=conditioning,
            block=self.block,
        )
        dtype = self.dtype_policy
        self.embedding = self.condition_projection = None
        self.position_embedding = PositionEmbedding(
            self.grid, self.block.positions, dtype=dtype, name="position_embedding"
        )
        self.blocks = self._make_blocks(num_layers, scan_blocks=scan_blocks, remat=remat)
        self.norm = make_norm(self.block, dtype=dtype, name="norm")
        self.head = self._make_head()
        self.heads = {
            name: Dense(
                width,
                kernel_initializer=keras.initializers.RandomNormal(stddev=0.02),  # as of the head for pixels
                dtype=dtype,
                name=f"{name}_head",
            )
            for name, width in widths.items()
        }

    def _make_head(self):
        return PatchHead(
            self.patch_size,
            self.channels * len(self.pixel_predictions),
            "adaln_zero" if self.conditioning == "adaln_zero" else None,
            self.block.head_bias,
            dtype=self.dtype_policy,
            name="head",
        )

    def _make_blocks(self, num_layers, **how):
        return BlockStack(
            num_layers,
            self.num_heads,
            conditioning=self.conditioning,
            **how,
            block=self.block if num_layers else self.block.without_tokens(),
            in_context_from=0,  # a third of the depth lies behind it
            dtype=self.dtype_policy,
            name="blocks",
        )

    def build(self, representation_shape, tokens_shape, condition_shape=None, visible_shape=None, masked_shape=None):
        encoder_dim = representation_shape[-1]
        hidden_dim = encoder_dim if self.hidden_dim is None else self.hidden_dim
        self._build_inputs(encoder_dim, hidden_dim)
        if self.block.rope:
            check_rotation(hidden_dim // self.num_heads, len(self.grid))
            self.places = grid_positions(self.grid)
        if self.block.self_conditioning:
            self.self_conditioning_norm = LayerNorm(dtype=self.dtype_policy, name="self_conditioning_norm")
            self.self_conditioning_norm.build((None, encoder_dim))
            self.self_conditioning = self._dense(
                encoder_dim, encoder_dim, "self_conditioning", kernel_initializer="zeros", use_bias=False
            )
        self.mask_token = self.add_weight(
            shape=(hidden_dim,),
            initializer=keras.initializers.RandomNormal(stddev=0.02),
            autocast=False,  # its gradient, a sum over the tokens of a batch, stays float32
            name="mask_token",
        )
        self.noise_embedding = self._make_noise_embedding(hidden_dim) if self.has_noise_embedding else None
        for layer in (self.position_embedding, self.norm, *self.heads.values()):
            layer.build((None, None, hidden_dim))
        self._build_blocks(hidden_dim, encoder_dim)
        self.head.build((None, None, hidden_dim), (None, encoder_dim))

    def _make_noise_embedding(self, hidden_dim):
        """The embedding of noisy patches, made and begun as the encoder's of clean ones, and built."""
        embedding = PatchEmbedding(
            self.patch_size, hidden_dim, self.block.bottleneck, dtype=self.dtype_policy, name="noise_embedding"
        )
        space = (number * size for number, size in zip(self.grid, self.patch_size, strict=True))
        embedding.build((None, *space, self.channels))
        return embedding

    def _build_blocks(self, hidden_dim, encoder_dim):
        # Each block before the stack, as in the encoder.
        for layer in (*self.blocks, self.blocks):
            layer.build((None, None, hidden_dim), (None, encoder_dim))

    def _build_inputs(self, encoder_dim, hidden_dim):
        """The maps of what comes from the encoder to the width of the blocks."""
        if hidden_dim != encoder_dim:
            self.embedding = self._dense(encoder_dim, hidden_dim, "embedding")
            if self.conditioning == "token":
                self.condition_projection = self._dense(encoder_dim, hidden_dim, "condition_projection")

    def _dense(self, input_dim, units, name, **options):
        dense = Dense(units, dtype=self.dtype_policy, name=name, **options)
        dense.build((None, input_dim))
        return dense

    def modulations(self, condition):
        """The `Modulations` of blocks and head for a condition `(..., hidden_dim)`, with AdaLN."""
        of_head = self.head.modulations(parted(self.block, condition)[0]).of_layers
        return Modulations(self.blocks.modulations(self._of_blocks(condition)).of_layers + of_head)

    def _of_blocks(self, condition):
        """The condition as the blocks take it: without the label's embedding, where nothing in them reads it."""
        reads_label = self.blocks.block.in_context_of == self.block.in_context_of
        return condition if reads_label else parted(self.block, condition)[0]

    def call(self, representation, tokens, condition=None, visible=None, masked=None, read=None, noisy_images=None):
        if isinstance(tokens, (list, tuple)):
            return self._rows(representation, tokens, condition, visible, masked, read)
        read = self._checked(read)
        of_blocks, of_head = self._conditions(self._self_conditioned(condition, representation))
        shown = {} if noisy_images is None else {"noisy_images": noisy_images}
        tokens = self._decoded(representation, tokens, of_blocks, visible, masked, read, **shown)
        return self._predictions(self.norm(tokens), of_head, masked, read)

    def _decoded(self, representation, tokens, condition, visible, masked, read, noisy_images=None):
        """The tokens of the patches that are read, behind the blocks: at least these, the masked ones last."""
        num_outputs = num_outputs_of(tokens, masked, read)
        # (batch, 1 + num_patches, hidden_dim)
        tokens, order = self._placed(representation, tokens, visible, masked, noisy_images)
        positions = take_positions(self.places, order) if self.block.rope else None
        return self.blocks(tokens, condition=condition, num_outputs=num_outputs, positions=positions)

    @property
    def num_patches(self):
        """The number of patches in an image."""
        return math.prod(self.grid)

    def settle(self, objective, corruption):
        """Freeze what gets no gradient in these settings, which some backends warn of.

        Where nothing is ever masked, the mask token gets none, and where no pixels are read, their head gets none.
        """
        has_masks = any(view.mask is not None for view in corruption.views)
        self.mask_token.trainable = has_masks
        if self.block.decoder_positions == "masked" and not has_masks:
            self.position_embedding.trainable = False
        self.head.trainable = not set(self.pixel_predictions).isdisjoint(objective.heads())

    def _rows(self, representation, tokens, condition, visible, masked, read):
        read = [self._checked(wanted) for wanted in read]
        of_blocks, of_head = self._conditions(condition)
        numbers = tuple(num_outputs_of(*given) for given in zip(tokens, masked, read, strict=True))
        placed = [self._placed(*given)[0] for given in zip(representation, tokens, visible, masked, strict=True)]
        lengths = tuple(part.shape[1] for part in placed)
        tokens = ops.concatenate(placed, axis=1)
        tokens = self.norm(self.blocks(tokens, condition=of_blocks, num_outputs=numbers, lengths=lengths))
        heads = [None] * len(lengths)
        if of_head is not None:
            modulations = segments.of_segments(of_head.of_layers[0], lengths)  # (batch, images, 2 * hidden_dim)
            heads = [Modulations((modulations[:, i],)) for i in range(len(lengths))]
        parts = zip(segments.split(tokens, numbers), heads, masked, read, strict=True)
        return [self._predictions(*part) for part in parts]

    def _checked(self, read):
        """What is read, as given or by default."""
        read = dict.fromkeys(self.pixel_predictions, "all") if read is None else read
        names = (*self.pixel_predictions, *self.heads)
        require(
            read and set(read) <= set(names) and set(read.values()) <= set(PATCHES),
            f"`read` must be a dictionary with some of the predictions {names} as keys, and one of {PATCHES} for each.",
            read=read,
        )
        return read

    def _placed(self, representation, tokens, visible, masked, noisy_images=None):
        """The tokens of all patches at their places, behind those of the representation, and the order of patches."""
        has_cls_tokens = self.block.cls_to_decoder != "none"
        if self.embedding is not None:
            representation = self.embedding(representation) if has_cls_tokens else None
            tokens = project(self.embedding, tokens)
        order, places_masked = None, self.block.decoder_positions == "masked"
        if masked is not None:
            mask_tokens = self._tokens_of_masked(masked, noisy_images)
            if places_masked:
                mask_tokens = self.position_embedding(mask_tokens, indices=masked)
            tokens = ops.concatenate([tokens, mask_tokens], axis=1)
            order = ops.concatenate([visible, masked], axis=1)
        if not places_masked:
            tokens = self.position_embedding(tokens, indices=order)  # (batch, num_patches, hidden_dim)
        return behind_cls_tokens(representation, tokens) if has_cls_tokens else tokens, order

    def _mask_tokens(self, shape):
        """`(*shape, hidden_dim)`, of the type of the tokens."""
        mask_tokens = ops.broadcast_to(self.mask_token, (*shape, self.mask_token.shape[-1]))
        return ops.cast(mask_tokens, self.compute_dtype)

    def _tokens_of_masked(self, masked, noisy_images=None):
        """What stands for masked patches, `(batch, masked, hidden_dim)`: mask tokens, and what noise leaves of them."""
        mask_tokens = self._mask_tokens(ops.shape(masked))
        if noisy_images is None:
            return mask_tokens
        require(
            self.has_noise_embedding, "A decoder gets `noisy_images` with has_noise_embedding=True.", "one without it"
        )
        patches = take_tokens(patchify(noisy_images, self.patch_size), masked)
        return mask_tokens + self.noise_embedding.embed(patches)

    def _predictions(self, tokens, of_head, masked, read):
        """What is read, of the tokens that the last block returns."""
        patches = dict.fromkeys(PATCHES, tokens)
        if masked is not None:
            num_masked = masked.shape[1]
            patches.update(masked=tokens[:, -num_masked:], visible=tokens[:, :-num_masked])
        if all(read.get(name) == "all" for name in self.pixel_predictions):
            predictions = self._all_pixels(tokens, of_head)
        else:
            predictions = self._some_pixels({name: patches[where] for name, where in read.items()}, of_head)
        return {
            name: predictions[name] if name in predictions else project(self.heads[name], patches[where])
            for name, where in read.items()
        }

    @property
    def needs_condition(self):
        return super().needs_condition or self.block.self_conditioning

    def _self_conditioned(self, condition, representation):
        """`condition + W LN(representation)`, where the block says so (DDAE++)."""
        if not self.block.self_conditioning:
            return condition
        require(
            condition is not None and not isinstance(condition, Modulations),
            "A decoder with `self_conditioning` needs the `condition` itself.",
            type(condition).__name__,
        )
        return condition + self.self_conditioning(self.self_conditioning_norm(pooled(representation)))

    def _conditions(self, condition):
        """The condition of the blocks and that of the head, whose modulation serves all pixel predictions."""
        if isinstance(condition, Modulations):
            return Modulations(condition.of_layers[:-1]), Modulations(condition.of_layers[-1:])
        is_modulated = self.head.conditioning == "adaln_zero" and condition is not None
        of_head = self.head.modulations(parted(self.block, condition)[0]) if is_modulated else None
        condition = self._of_blocks(condition)
        return condition if self.condition_projection is None else self.condition_projection(condition), of_head

    def _some_pixels(self, tokens, condition):
        """Of a dictionary of tokens, the pixel predictions that are named in it."""
        first = {name: i * self.channels for i, name in enumerate(self.pixel_predictions) if name in tokens}
        return {
            name: self.head(tokens[name], condition=condition, channel_range=(start, start + self.channels))
            for name, start in first.items()
        }

    def _all_pixels(self, tokens, condition):
        """All pixel predictions of the same patches, by one product."""
        pixels, number = math.prod(self.patch_size), len(self.pixel_predictions)
        shape = (-1, tokens.shape[1], pixels, number * self.channels)
        parts = ops.split(ops.reshape(self.head(tokens, condition=condition), shape), number, axis=-1)
        shape = (-1, tokens.shape[1], pixels * self.channels)
        return {name: ops.reshape(part, shape) for name, part in zip(self.pixel_predictions, parts, strict=True)}

    def compute_output_shape(
        self, representation_shape, tokens_shape, condition_shape=None, visible_shape=None, masked_shape=None
    ):
        # Of `build` alone, the number of visible patches isn't known, and Keras' summary asks all the same.
        num_visible = math.prod(self.grid) if tokens_shape[1] is None else tokens_shape[1]
        num_patches = num_visible + (0 if masked_shape is None else masked_shape[1])
        shape = (tokens_shape[0], num_patches, math.prod(self.patch_size) * self.channels)
        return dict.fromkeys(self.pixel_predictions, shape)

    def get_config(self):
        return {**super().get_config(), "heads": {name: head.units for name, head in self.heads.items()}}


def _checked_predictions(pixel_predictions, heads):
    """The names of the pixel predictions, a tuple, and the widths of the others by name."""
    is_list = isinstance(pixel_predictions, (tuple, list)) and pixel_predictions
    require(
        is_list and all(isinstance(name, str) for name in pixel_predictions),
        "`pixel_predictions` must be a tuple of names, at least one.",
        pixel_predictions=pixel_predictions,
    )
    check_instances(dict, "a dictionary from names to widths", optional=True, heads=heads)
    heads = dict(heads or {})
    require(
        set(heads).isdisjoint(pixel_predictions) and all(map(is_size, heads.values())),
        "`heads` must be positive integers by other names than `pixel_predictions`.",
        pixel_predictions=tuple(pixel_predictions),
        heads=heads,
    )
    return tuple(pixel_predictions), heads
