"""The matrix products of one training step, counted by hand."""

import dataclasses

from keras_umd.corruption.masks.hints import ATTENTION, DIFFICULTY
from keras_umd.planning.network import Network, views_of


@dataclasses.dataclass(frozen=True)
class Products:
    """FLOPs of matrix products, by the gradients that they need; a multiplication and an addition are two FLOPs.

    Args:
        of_inputs: Integer, products of weights and constants: only the weights need a gradient.
        of_weights: Integer, products of weights and activations: both need one, each a product of the same size.
        of_activations: Integer, products of activations with each other, those of attention.
    """

    of_inputs: int = 0
    of_weights: int = 0
    of_activations: int = 0

    @property
    def forward(self):
        return self.of_inputs + self.of_weights + self.of_activations

    def backward(self, needs_weight_grad, needs_input_grad):
        """FLOPs of the gradients.

        Args:
            needs_weight_grad: Bool. Whether the layer is trainable.
            needs_input_grad: Bool. Whether a layer before it is.
        """
        return (
            self.of_inputs * needs_weight_grad
            + self.of_weights * (needs_weight_grad + needs_input_grad)
            + self.of_activations * 2 * needs_input_grad
        )


@dataclasses.dataclass(frozen=True)
class PartFlops:
    """FLOPs of one part of the network for one view of the batch, in one training step.

    Args:
        view: String, the view's name.
        part: String.
        forward, backward: Integers.
        recomputed: Integer, what `remat` computes a second time in the backward pass.
    """

    view: str
    part: str
    forward: int
    backward: int
    recomputed: int

    @property
    def total(self):
        return self.forward + self.backward + self.recomputed


def step_flops(model, batch_size):
    """The matrix products of one training step: a list of `PartFlops`, by view and part.

    Not counted are all other operations, the optimizer, moving averages, and what a fused attention kernel computes
    again. Encoder, decoder and condition embedding count as trained where one of their weights is.
    """
    network = Network(model)
    gradients = _gradients(network)
    rows = []
    for view in views_of(model, batch_size):
        recomputed = _recomputed(network, view)
        for part, products in _products(network, view).items():
            needs_weight_grad, needs_input_grad = gradients[part.split()[0]]
            backward = products.backward(needs_weight_grad, needs_input_grad)
            rows.append(
                PartFlops(view.name, part, products.forward, backward, needs_input_grad * recomputed.get(part, 0))
            )
        if looked := _looked(network, view):
            rows.append(PartFlops(view.name, "teacher", looked, 0, 0))
        rows += [_policy(term, view) for term in model.objective.terms if _has_policy(term, view)]
    return rows


def _gradients(network):
    """Whether the weights of a part need a gradient, and whether its inputs do, by the first word of its name."""
    condition, encoder, decoder = (
        bool(network.condition_is_trained),
        network.encoder.is_trained,
        network.decoder.is_trained,
    )
    before_decoder = condition or encoder
    return {
        "condition": (condition, condition),
        "patch": (encoder, encoder),  # behind a bottleneck
        "encoder": (encoder, before_decoder),
        "decoder's": (decoder, before_decoder),
        "decoder": (decoder, before_decoder or decoder),
        "head": (decoder, before_decoder or decoder),
        "noise": (decoder, decoder),  # behind a bottleneck
    }


def _products(network, view):
    """The `Products` of each part of the network, for all images of a view."""
    n, width, decoder_width = view.num_images, network.encoder.width, network.decoder.width
    # The embeddings of timestep and label: each of two layers, by default to twice the width and back.
    has_condition = network.condition_is_trained is not None
    first, second = (2 * has_condition * network.timestep_hidden * units for units in (network.timestep_inputs, width))
    of_labels = 2 * 2 * has_condition * network.label_hidden * width
    # Clean images share one null label. Where the decoder alone sees noise, it has a condition of its own.
    conditions = n * (1 + view.shows_noise)
    labels = network.has_labels * ((n if view.is_noisy else 1) + view.shows_noise)
    # To a decoder of another width, tokens and condition token are projected.
    projected = network.num_projected(view) + network.decoder.projects_context
    before_decoder = 2 * width * (decoder_width * projected + width * network.self_conditioning)
    before_decoder *= max(1, len(network.parts))
    tapped = network.num_decoder_cls_tokens + view.visible
    before_decoder += 2 * width * network.decoder.num_layers * network.decoder.taps * tapped
    before_decoder += _modulation(network, network.norm_vectors, width) * (1 + (view.other > 0))
    before_decoder += 2 * 2 * width * network.code
    head = 2 * decoder_width * view.predicted + _modulation(network, network.head_vectors, decoder_width)
    return {
        "condition embedding": Products(
            of_inputs=conditions * first, of_weights=conditions * second + labels * of_labels
        ),
        "patch embedding": _patch_embedding(network, n * (view.visible + view.other), width),
        **({"noise embedding": _patch_embedding(network, n * view.decoded, decoder_width)} if view.shows_noise else {}),
        "decoder's embedding": Products(of_weights=n * before_decoder),
        **_blocks(network, view),
        **({"decoder blocks": Products(of_weights=n * network.convolutions)} if network.convolutions else {}),
        "head": Products(of_weights=n * head),
    }


def _looked(network, view):
    """FLOPs of a teacher that looks at all patches, of their attention, of their difficulty; or at masked ones.

    The condition, which all images share, counts for each of them: less than a hundredth of the rest.
    """
    whole = dataclasses.replace(view, visible=network.num_patches, decoded=0, predicted=network.num_patches)
    whole = dataclasses.replace(whole, read=network.num_patches, is_noisy=False, other=0, shows_noise=False)
    products, flops = {name: part.forward for name, part in _products(network, whole).items()}, 0
    parts = ("condition embedding", "patch embedding", "encoder blocks", "encoder attention")
    if view.encoded_again:
        masked = _products(network, dataclasses.replace(whole, visible=view.encoded_again))
        flops += sum(masked[part].forward for part in parts)
    if DIFFICULTY in view.hints:
        flops += sum(products.values())
    if ATTENTION in view.hints:
        # Of the last block, only queries of the class tokens, keys and what they make.
        stack, (tokens, queries) = network.encoder, network.block_shapes(whole)["encoder"][-1]
        mlp = 2 * stack.width * stack.mlp_width * (stack.mlp_inputs + 1) * queries
        left_out = 2 * stack.width**2 * (2 * tokens + 2 * queries) + mlp + 4 * tokens * queries * stack.width
        seen, looking = queries, network.num_cls_tokens
        read = 2 * stack.width**2 * (seen + looking) + 2 * looking * seen * stack.width
        flops += sum(products[part] for part in parts) + view.num_images * (read - left_out)
    return flops


def _has_policy(term, view):
    return term.view == view.name and hasattr(term, "products")


def _policy(term, view):
    """The `PartFlops` of a term's own network, which runs for the mask and for the loss."""
    products = Products(*(view.num_images * flops for flops in term.products()))
    is_trained = bool(term.trainable_variables)
    forward = products.forward * (1 + bool(set(view.hints) & set(term.hint_names)))
    return PartFlops(view.name, term.name, forward, products.backward(is_trained, is_trained), 0)


def _patch_embedding(network, patches, width):
    bottleneck = network.bottleneck
    if bottleneck is None:
        return Products(of_inputs=2 * patches * network.patch_size * width)
    first, second = (2 * patches * bottleneck * units for units in (network.patch_size, width))
    return Products(of_inputs=first, of_weights=second)


def _blocks(network, view):
    """The blocks' `Products`, those of weights and those of attention apart.

    Keys and values are made of all tokens; queries, output projection and MLP of the `queries` that a block returns.
    """
    products = {}
    for name, stack in network.stacks.items():
        weights, attention = 0, 0
        for tokens, queries in network.block_shapes(view)[name]:
            mlp = 2 * stack.width * stack.mlp_width * (stack.mlp_inputs + 1) * queries
            projections = 2 * stack.width * (2 * tokens * stack.key_width + 2 * queries * stack.width)
            weights += projections + mlp + _modulation(network, 6 * stack.is_modulated, stack.width)
            attention += 2 * 2 * tokens * queries * stack.width
        products[f"{name} blocks"] = Products(of_weights=view.num_images * weights)
        products[f"{name} attention"] = Products(of_activations=view.num_images * attention)
    return products


def _recomputed(network, view):
    """FLOPs that `remat` computes again, by part: the blocks', without the last product where no gradient reads it.

    (With `scan_blocks`, not the modulations: 0.5% of a block with 100 tokens.)
    """
    recomputed, products = {}, _blocks(network, view)
    for name, stack in network.stacks.items():
        if stack.remat:
            recomputed |= {part: products[part].forward for part in (f"{name} blocks", f"{name} attention")}
            if not network.adaln:  # a gate's gradient would read the output of the MLP's last layer
                shapes = network.block_shapes(view)[name]
                last = sum(2 * queries * stack.width * stack.mlp_width for _, queries in shapes)
                recomputed[f"{name} blocks"] -= view.num_images * last
    return recomputed


def _modulation(network, outputs, width):
    """FLOPs of the layer that makes `outputs` vectors of an image's condition, with AdaLN."""
    return 2 * outputs * width * network.encoder.width * network.adaln
