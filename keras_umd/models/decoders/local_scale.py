"""Decoders at several depths of the encoder, each for a scale of its own."""

import keras
from keras import ops

from keras_umd.layers.masking import restore, take_tokens
from keras_umd.layers.norms import make_norm
from keras_umd.layers.symbolic import BaseLayer
from keras_umd.models.decoders.decoder import Decoder
from keras_umd.models.decoders.kind import DecoderKind
from keras_umd.models.decoders.linear import NoBlocks, leave_out
from keras_umd.utils.checks import check_instances, check_integers, require


@keras.saving.register_keras_serializable("keras_umd")
class LocalScale(DecoderKind):
    """A small decoder for each prediction, behind a block of the encoder of its own (LocalMIM; Wang et al., 2023).

    Low blocks learn fine scales and high ones coarse scales, each from a loss that is near. Each decoder is one as the
    model's usual decoder would be, of `decoder_layers` blocks (the paper has 1, 256 wide), behind a norm of the tokens
    of its block; there is no other. The objective predicts nothing but what is named here, each with a head of its own:
    no x_0, and no noise. For pixels take `targets.Pixels()`.

    Example:

    >>> cells = {"fine": targets.HOG(cell=2), "coarse": targets.HOG(cell=4)}
    >>> terms = [Reconstruction("clean", targets.Cells(target, name)) for name, target in cells.items()]
    >>> sizes = {"hidden_dim": 32, "num_layers": 4, "num_heads": 2, "decoder_layers": 1, "corruption": Corruption.mae()}
    >>> decoder = decoders.LocalScale({"fine": 2, "coarse": -1})
    >>> model = UMD((16, 16, 1), 4, **sizes, objective=Objective(terms), decoder=decoder)

    Args:
        taps: Dictionary from the names of predictions to integers, the block of the encoder that each is made of: 1 is
            the first, -1 the last, which one of them must be.
        units: Dictionary from names among them to integers of at least 1, for targets of cells of patches,
            `targets.Cells`: the decoded tokens of so many patches along each axis are averaged, and predict as one.
    """

    can_denoise = False

    def __init__(self, taps, units=None):
        check_instances(dict, "a dictionary from predictions to blocks", taps=taps)
        check_instances(dict, "a dictionary from predictions to integers", optional=True, units=units)
        require(taps and all(isinstance(name, str) for name in taps), "`taps` must have names of predictions.", taps)
        for number in taps.values():
            check_integers(-10_000, 10_000, taps=number)
        for number in (units or {}).values():
            check_integers(1, 1000, units=number)
        require(set(units or {}) <= set(taps), "`units` must be of predictions in `taps`.", units=units)
        self.taps = {name: int(number) for name, number in taps.items()}
        self.units = {name: int(number) for name, number in (units or {}).items()}

    def make(self, encoder_layers, *args, heads=None, **settings):
        taps = {name: number + (encoder_layers + 1) * (number < 0) for name, number in self.taps.items()}
        require(
            min(taps.values()) >= 1 and max(taps.values()) == encoder_layers,
            f"`taps` must be blocks of the encoder, 1 to {encoder_layers} or from -1 down, and the last one of them: "
            "those behind would learn nothing.",
            taps=self.taps,
        )
        require(
            set(heads or {}) == set(taps),
            "`taps` must name all that the objective predicts with heads of their own.",
            f"taps={self.taps} for {sorted(heads or {})}",
        )
        return LocalScaleDecoder(
            *args, **settings, heads=heads, depths=taps, units=self.units, encoder_layers=encoder_layers
        )


class _NoHead(BaseLayer):
    """In place of a head for pixels, where none are predicted."""

    conditioning = None

    def build(self, tokens_shape, condition_shape=None):
        self.built = True


class _Part(Decoder):
    """The decoder of one prediction: a norm of the tokens of a block, and averages over cells, where asked for."""

    takes_rows = False

    def __init__(self, *args, is_behind_norm, unit, **settings):
        super().__init__(*args, **settings)
        self.unit = unit
        self.input_norm = None
        if not is_behind_norm:
            self.input_norm = make_norm(self.block, dtype=self.dtype_policy, name="input_norm")

    def _make_head(self):
        return _NoHead(name="head")

    def _build_inputs(self, encoder_dim, hidden_dim):
        super()._build_inputs(encoder_dim, hidden_dim)
        if self.input_norm is not None:
            self.input_norm.build((None, None, encoder_dim))

    def call(self, representation, tokens, condition=None, visible=None, masked=None, read=None):
        if self.input_norm is not None:
            representation, tokens = self.input_norm(representation), self.input_norm(tokens)
        return super().call(representation, tokens, condition, visible, masked, read)

    def _decoded(self, representation, tokens, condition, visible, masked, read):
        if self.unit == 1:
            return super()._decoded(representation, tokens, condition, visible, masked, read)
        everything = dict.fromkeys(read, "all")
        tokens = super()._decoded(representation, tokens, condition, visible, masked, everything)
        require(
            tokens.shape[1] == self.num_patches,
            "Predictions of cells need all patches decoded: a view with decoded_ratio=1.",
            f"{tokens.shape[1]} of {self.num_patches} patches",
        )
        if masked is None:
            return self._averaged(tokens)
        tokens = self._averaged(restore(tokens, visible, masked))
        return take_tokens(tokens, ops.concatenate([visible, masked], axis=1))

    def _averaged(self, tokens):
        """Each token of a patch as the mean of its cell, `(batch, num_patches, hidden_dim)`, in row-major order."""
        axes, width = len(self.grid), tokens.shape[-1]
        split = [size for length in self.grid for size in (length // self.unit, self.unit)]
        cells = ops.reshape(tokens, (-1, *split, width))
        within = tuple(range(2, 2 * axes + 1, 2))
        means = ops.broadcast_to(ops.mean(cells, axis=within, keepdims=True), ops.shape(cells))
        return ops.reshape(means, (-1, self.num_patches, width))


@keras.saving.register_keras_serializable("keras_umd")
class LocalScaleDecoder(Decoder):
    """The layer that `LocalScale` makes.

    Args:
        *args: As of `Decoder`.
        heads: Dictionary of names and widths, as of `Decoder`.
        depths: Dictionary from these names to the blocks of the encoder that they are made of.
        units: As of `LocalScale`.
        encoder_layers: Integer, the blocks of the encoder.
        **settings: As of `Decoder`.

    Call arguments: as of `Decoder`, and
        features: List of pairs, the representation and the tokens behind each of the `taps`, as of `Encoder`.
    """

    takes_rows = False
    needs_condition = True

    def __init__(self, *args, heads, depths, units, encoder_layers, **settings):
        super().__init__(*args, **settings)
        self.depths = dict(depths)
        self.units = dict(units)
        self.encoder_layers = encoder_layers
        self.taps = tuple(sorted(set(self.depths.values())))
        for name, unit in self.units.items():
            require(
                all(length % unit == 0 for length in self.grid),
                "`units` must be divisors of the patches along each axis.",
                f"{name!r} of {unit} for a grid of {self.grid}",
            )
        self.parts = {
            name: _Part(
                *args,
                **{**settings, "name": f"of_{name}"},
                heads={name: values},
                is_behind_norm=self.depths[name] == encoder_layers,
                unit=self.units.get(name, 1),
            )
            for name, values in heads.items()
        }

    def _make_blocks(self, num_layers, **how):
        return NoBlocks(self.block, name="blocks")

    def _make_head(self):
        return _NoHead(name="head")

    def build(self, representation_shape, tokens_shape, condition_shape=None, visible_shape=None, masked_shape=None):
        for part in self.parts.values():
            part.build(representation_shape, tokens_shape)
        leave_out(self.position_embedding, self.norm, self.blocks, self.head)

    def settle(self, objective, corruption):
        others = sorted(set(objective.heads()) - set(self.parts))
        require(not others, "`taps` of the decoder must name all that the objective predicts.", others)
        for part in self.parts.values():
            part.settle(objective, corruption)

    def call(self, representation, tokens, condition=None, visible=None, masked=None, read=None, features=()):
        names = [*self.parts]
        require(read and set(read) <= set(names), f"`read` must have some of the predictions {names}.", read=read)
        require(len(features) == len(self.taps), "The decoder needs `features` of all its taps.", f"{len(features)}")
        behind, outputs = dict(zip(self.taps, features, strict=True)), {}
        for name, where in read.items():
            inputs = *behind[self.depths[name]], condition, visible, masked
            outputs |= self.parts[name](*inputs, read={name: where})
        return outputs

    def get_config(self):
        config = super().get_config()
        heads = {name: part.heads[name].units for name, part in self.parts.items()}
        return {
            **config,
            "heads": heads,
            "depths": self.depths,
            "units": self.units,
            "encoder_layers": self.encoder_layers,
        }
