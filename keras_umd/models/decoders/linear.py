"""The decoder that is a linear map."""

import keras

from keras_umd.layers.modulations import Modulations
from keras_umd.layers.symbolic import BaseLayer
from keras_umd.models.decoders.decoder import Decoder
from keras_umd.models.decoders.kind import DecoderKind
from keras_umd.utils.checks import require


@keras.saving.register_keras_serializable("keras_umd")
class Linear(DecoderKind):
    """A linear map of each of the encoder's tokens (SimMIM; Xie et al., 2022; MaskFeat; Wei et al., 2022).

    The encoder must see all patches, changed, noisy or behind a mask token: with `masks.InPlace`, `changes` or noise
    and no mask. It has no blocks, and `decoder_layers` doesn't count. `reconstruct` and `impute`, which leave patches
    out, can't work with it.

    Example:

    >>> view = View("clean", mask=masks.InPlace(masks.Block(0.4)))
    >>> learns = {"corruption": Corruption(views=[view])}
    >>> learns["objective"] = Objective([Reconstruction("clean", targets.HOG(), "unseen")])
    >>> model = keras_umd.UMD((32, 32, 3), patch_size=8, **learns, decoder=decoders.Linear())
    """

    def make(self, encoder_layers, *args, **settings):
        return LinearDecoder(*args, **settings)


class NoBlocks(BaseLayer):
    """A stack of no blocks, for what counts them.

    Args:
        block: `Block` of the decoder.
    """

    scan_blocks, remat, mlp_ratio, in_context_from = False, False, 4, 0

    def __init__(self, block, **kwargs):
        super().__init__(**kwargs)
        self.block = block

    def __len__(self):
        return 0

    def __iter__(self):
        return iter(())

    def modulations(self, condition):
        """Those of no layers."""
        return Modulations(())


def leave_out(*layers):
    """Mark layers that a decoder never calls as built.

    To build them, Keras would run the model on a batch, which is of indices where the images are on the device.
    """
    for layer in layers:
        layer.built = True


@keras.saving.register_keras_serializable("keras_umd")
class LinearDecoder(Decoder):
    """The layer that `Linear` makes; arguments and call arguments as of `Decoder`."""

    takes_rows = False

    def _make_blocks(self, num_layers, **how):
        return NoBlocks(self.block, name="blocks")

    def build(self, representation_shape, tokens_shape, condition_shape=None, visible_shape=None, masked_shape=None):
        width = representation_shape[-1]
        require(
            self.hidden_dim in (None, width), "A linear decoder is as wide as the encoder.", hidden_dim=self.hidden_dim
        )
        for layer in self.heads.values():
            layer.build((None, None, width))
        self.head.build((None, None, width), (None, width))
        leave_out(self.position_embedding, self.norm, self.blocks)

    def settle(self, objective, corruption):
        dropped = [view.name for view in corruption.views if view.num_visible(self.grid) < self.num_patches]
        require(not dropped, "A linear decoder needs views of which the encoder sees all patches.", dropped)
        self.head.trainable = not set(self.pixel_predictions).isdisjoint(objective.heads())

    def call(self, representation, tokens, condition=None, visible=None, masked=None, read=None):
        require(
            masked is None or masked.shape[1] == 0,
            "A linear decoder knows nothing of patches that the encoder hasn't seen.",
            "masked patches",
        )
        _, of_head = self._conditions(condition)
        return self._predictions(tokens, of_head, None, self._checked(read))
