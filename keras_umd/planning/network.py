"""Sizes of a network and of the views of a batch: all that the counts of this folder read of a model's parts."""

import dataclasses
import math

from keras_umd.corruption.batch_split import BatchSplit
from keras_umd.layers.block import Block


@dataclasses.dataclass(frozen=True)
class View:
    """Images of a batch that are corrupted alike.

    Args:
        name: String.
        num_images: Integer.
        visible: Integer, patches that the encoder sees.
        decoded: Integer, masked patches that the decoder adds.
        predicted: Integer, numbers that the losses compare, summed over the predictions.
        read: Integer, patches that the decoder's last block returns.
        is_noisy: Bool. Noisy images have a timestep, noise, and a label where the model has classes.
        hints: Tuple of names, what the mask reads of a teacher.
        other: Integer, patches of another image that the encoder sees.
        encoded_again: Integer, masked patches that the encoder sees for a target.
        shows_noise: Bool. Whether the decoder alone sees the noise, that of masked patches.
    """

    name: str
    num_images: int
    visible: int
    decoded: int
    predicted: int
    read: int
    is_noisy: bool
    hints: tuple = ()
    other: int = 0
    encoded_again: int = 0
    shows_noise: bool = False


@dataclasses.dataclass(frozen=True)
class Stack:
    """The blocks of an encoder or a decoder.

    Args:
        width, num_layers, num_heads: Integers.
        mlp_width: Integer, the hidden width of the MLP.
        mlp_inputs: Integer, matrices of the MLP that make it: 2 with a gate.
        registers, in_context: Integers, tokens that the blocks add.
        in_context_from: Integer, the blocks that run before those in context join.
        projects_context: Bool. Whether tokens in context have another width than the condition.
        block: `Block`.
        remat: Bool.
        is_trained: Bool. Whether one of the weights is.
        context_width: Integer, the width of the tokens that blocks of cross-attention look at; `None` for
            self-attention.
        taps: Integer, the encoder's outputs of which each block mixes its context.
        is_modulated: Bool. Whether the condition may modulate the blocks.
    """

    width: int
    num_layers: int
    num_heads: int
    mlp_width: int
    mlp_inputs: int
    registers: int
    in_context: int
    in_context_from: int
    projects_context: bool
    block: Block
    remat: bool
    is_trained: bool
    context_width: int | None = None
    taps: int = 0
    is_modulated: bool = True

    @property
    def key_width(self):
        """The width of the tokens of which keys and values are made."""
        return self.width if self.context_width is None else self.context_width

    def shapes(self, tokens, outputs, alone):
        """Of each block the tokens attended to and returned, where `tokens` go in and `outputs` come out.

        Args:
            tokens, outputs: Integers.
            alone: Integer, tokens that each block makes for itself.
        """
        if not self.num_layers:
            return []
        numbers = [
            tokens + self.registers + self.in_context * (number >= self.in_context_from)
            for number in range(self.num_layers)
        ]
        return list(zip([number + alone for number in numbers], [*numbers[:-1], outputs], strict=True))


class Network:
    """Sizes of a model's network.

    Attributes:
        image_size: Integer, numbers in an image.
        patch_size: Integer, numbers in a patch.
        num_patches: Integer.
        num_cls_tokens: Integer.
        num_decoder_cls_tokens: Integer, those that reach the decoder.
        hands_over_tokens: Bool. Whether the decoder's blocks get tokens from the encoder.
        code: Integer, the numbers of a bottleneck that is all they get.
        convolutions: Integer, FLOPs of the convolutions that are the decoder's blocks, of an image.
        bottleneck: Integer or `None`, numbers to which patches are projected first.
        self_conditioning: Bool.
        projects_visible: Bool. Whether the decoder maps visible patches to its width.
        encoder, decoder: `Stack`s.
        stacks: Dictionary of all stacks by name; those of a decoder of several begin with "decoder", too.
        parts: Dictionary of the decoders of single predictions, by the names of their stacks.
        gives_latents: Bool. Whether the decoder predicts the encoder's tokens of masked patches, too, for `Alignment`.
        head_vectors: Integer, those that the condition gives to the head for pixels.
        has_labels: Bool.
        timestep_inputs, timestep_hidden: Integers, widths of the two layers that embed a timestep.
        label_hidden: Integer, the width of the layer behind the table of labels, or 0 for a table alone.
        norm_vectors: Integer, those that the condition gives to the norm behind the encoder.
        adaln, condition_tokens: 1 where the condition modulates the blocks or is a token of each, else 0.
        condition_is_trained: Bool, or `None` for a network without a condition.
    """

    def __init__(self, model):
        embedding = model.condition_embedding
        self.image_size = math.prod(model.image_shape)
        self.patch_size = math.prod(model.patch_size) * model.image_shape[-1]
        self.num_patches = model.num_patches
        self.num_cls_tokens = model.encoder.num_cls_tokens
        self.hands_over_tokens = model.decoder.hands_over_tokens
        of_cls_tokens = {"none": 0, "mean": 1, "all": self.num_cls_tokens or 1}  # without any, the mean of the patches
        self.num_decoder_cls_tokens = of_cls_tokens[model.block.cls_to_decoder] if self.hands_over_tokens else 0
        self.code = getattr(model.decoder, "dim", 0)
        blocks = model.decoder.blocks
        self.convolutions = blocks.products() if hasattr(blocks, "products") else 0
        self.bottleneck = model.block.bottleneck
        self.self_conditioning = model.block.self_conditioning
        self.encoder = _stack(model.encoder, model.hidden_dim)
        self.decoder = _stack(model.decoder, model.decoder.hidden_dim or model.hidden_dim)
        if getattr(model.decoder, "takes_other", False):  # its own attention is to its own tokens
            self.decoder = dataclasses.replace(self.decoder, context_width=None)
        self.parts = {f"decoder {name}": part for name, part in getattr(model.decoder, "parts", {}).items()}
        self.stacks = {"encoder": self.encoder, "decoder": self.decoder, **self._beside(model.decoder)}
        self.gives_latents = getattr(model.decoder, "gives_latents", False)
        self.head_vectors = 2 if model.decoder.head.conditioning == "adaln_zero" else 0
        self.projects_visible = model.decoder.embedding is not None
        self.has_labels = model.num_classes is not None
        own, width = model.block.timesteps, model.hidden_dim
        self.timestep_inputs, self.timestep_hidden = (width, 2 * width) if own is None else (own.width, width)
        self.label_hidden = 2 * width if model.block.labels == "mlp" else 0
        self.norm_vectors = 2 if model.block.encoder_norm == "adaln" else 0
        self.adaln = int(model.conditioning == "adaln_zero")
        self.condition_tokens = int(model.conditioning == "token")
        self.condition_is_trained = None if embedding is None else bool(embedding.trainable_variables)

    def _beside(self, decoder):
        """The decoder's stacks beside the one that is called so, by name."""
        found = {name: _stack(part, self.decoder.width) for name, part in self.parts.items()}
        if hasattr(decoder, "regressor"):
            found["decoder regressor"] = _stack(decoder, self.decoder.width, decoder.regressor)
        if getattr(decoder, "takes_other", False):
            looking = {"context_width": self.encoder.width, "mlp_width": 0, "is_modulated": False}
            found["decoder cross"] = dataclasses.replace(self.decoder, **looking)
        return found

    def block_shapes(self, view):
        """Sizes of every block, by stack: lists of pairs of the tokens attended to and of the tokens returned.

        Each block attends to a condition's token and returns none. The decoder's last block returns only what a loss
        reads.
        """
        seen = self.num_cls_tokens + view.visible
        placed = self.num_decoder_cls_tokens + view.visible
        if self.decoder.context_width is None:
            decoder = self.decoder.shapes(placed + view.decoded, view.read, self.condition_tokens)
        else:
            decoder = [(placed + self.condition_tokens, view.read)] * self.decoder.num_layers
        encoder = self.encoder.shapes(seen, seen, self.condition_tokens)
        if view.other:
            whole = self.num_cls_tokens + view.other
            encoder = [*encoder, *self.encoder.shapes(whole, whole, self.condition_tokens)]
        return {"encoder": encoder, "decoder": decoder, **self._shapes_beside(view, placed)}

    def _shapes_beside(self, view, placed):
        """Those of the decoder's other stacks, and of its own where it gets other tokens than the placed ones."""
        found, alone, first = {}, self.condition_tokens, max(1, self.num_decoder_cls_tokens)
        for name, part in self.parts.items():
            read = view.read if part.unit == 1 else view.visible + view.decoded
            found[name] = self.stacks[name].shapes(placed + view.decoded, read, alone)
        if "decoder cross" in self.stacks:
            context = first + (view.other or view.visible)
            found["decoder cross"] = [(context, placed + view.decoded)] * self.decoder.num_layers
        if "decoder regressor" in self.stacks:
            stack, tokens = self.stacks["decoder regressor"], first + view.visible + view.decoded + alone
            found["decoder regressor"] = [(tokens, view.decoded)] * stack.num_layers
            found["decoder"] = self.decoder.shapes(view.decoded, view.decoded, alone)
        return found

    def num_projected(self, view):
        """The tokens of an image that are mapped to the decoder's width."""
        if self.encoder.width == self.decoder.width:
            return 0
        if not self.hands_over_tokens:
            return self.condition_tokens
        if self.convolutions:
            return view.visible
        if "decoder regressor" in self.stacks:
            inputs = max(1, self.num_decoder_cls_tokens) + view.visible + self.condition_tokens
            return inputs + view.decoded * self.gives_latents
        if self.decoder.context_width is None:
            return self.num_decoder_cls_tokens + view.visible + self.condition_tokens
        return view.visible * (self.projects_visible and view.read != view.decoded)


def _stack(layer, width, blocks=None):
    blocks = layer.blocks if blocks is None else blocks
    return Stack(
        width=width,
        num_layers=len(blocks),
        num_heads=layer.num_heads,
        mlp_width=layer.block.mlp_width(width, blocks.mlp_ratio),
        mlp_inputs=2 if layer.block.mlp == "swiglu" else 1,
        registers=layer.block.registers,
        in_context=layer.block.in_context,
        in_context_from=blocks.in_context_from,
        projects_context=getattr(blocks, "context_projection", None) is not None,
        block=layer.block,
        context_width=getattr(blocks, "context_width", None),
        taps=len(getattr(layer, "taps", ())),
        remat=layer.remat,
        is_trained=bool(layer.trainable_variables),
    )


def _encodes_masked(term, view):
    return term.view == view.name and getattr(term, "encodes_masked", False)


def views_of(model, batch_size):
    """The `View`s of a batch, as the model's corruption splits and masks it."""
    views = model.corruption.views
    shares = [view.share for view in views]
    sizes = [batch_size] * len(views) if shares[0] is None else BatchSplit(batch_size, shares).counts
    rows, patch_dim = [], math.prod(model.patch_size) * model.image_shape[-1]
    for view, size in zip(views, sizes, strict=True):
        visible, decoded = view.num_visible(model.grid), view.num_decoded(model.grid)
        wanted, heads = model.objective.reads(view.name), model.objective.heads()
        places = wanted.values()
        # Where nothing is masked, all patches are visible, and "masked" means them, too.
        read = {"masked": decoded or visible, "visible": visible, "all": visible + decoded}
        rows.append(
            View(
                name=view.name,
                num_images=size,
                visible=visible,
                decoded=decoded,
                predicted=sum(read[place] * heads[name].num_values(patch_dim) for name, place in wanted.items()),
                # The decoder's last block returns the end of the sequence, which begins with the visible patches.
                read=read["masked"] if set(places) == {"masked"} else visible + decoded,
                is_noisy=view.noise is not None,
                hints=() if view.mask is None else tuple(view.mask.reads),
                other=model.num_patches if view.change is not None and view.change.gives_other else 0,
                encoded_again=decoded * any(_encodes_masked(term, view) for term in model.objective.terms),
                shows_noise=view.shows_noise,
            )
        )
    return [row for row in rows if row.num_images]
