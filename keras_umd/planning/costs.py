"""What one training step takes, counted by hand: its matrix products, and what it keeps in memory."""

import dataclasses
import math

import keras
import numpy as np

from keras_umd.corruption.batch_split import BatchSplit


@dataclasses.dataclass(frozen=True)
class Branch:
    """The images of a batch that are trained alike, and how many of their patches the network sees and predicts."""

    name: str  # "clean" or "noisy"
    images: int
    visible: int
    masked: int  # those that are decoded
    losses: tuple[str, ...]  # "x0", "eps"

    @property
    def num_patches(self):
        return self.visible + self.masked

    @property
    def x0_patches(self):
        """Patches whose x_0 is predicted: the masked ones, or all where nothing is masked."""
        return (self.masked or self.visible) if "x0" in self.losses else 0

    @property
    def noise_patches(self):
        return self.visible if "eps" in self.losses else 0

    @property
    def read_patches(self):
        """Patches that the decoder's last block passes on: the last ones, as far as a loss reads something."""
        return self.num_patches if "eps" in self.losses else self.x0_patches


def branches(model, batch_size):
    """The `Branch`es of a batch, as the model's corruption splits and masks it."""
    corruption = model.corruption
    sizes = BatchSplit(batch_size, [view.share for view in corruption.views]).counts
    return [
        Branch(
            view.name,
            size,
            view.num_visible(model.grid),
            view.num_decoded(model.grid),
            tuple(model.objective.reads(view.name)),
        )
        for view, size in zip(corruption.views, sizes, strict=True)
        if size
    ]


# Matrix products


@dataclasses.dataclass(frozen=True)
class Products:
    """FLOPs of matrix products, by what their gradient takes; a multiplication and an addition are two FLOPs.

    Args:
        of_inputs: Products of weights and what no weight has touched: only the weights need a gradient.
        of_weights: Products of weights and activations: both need one, each a product of the same size.
        of_activations: Products of activations with each other, those of attention.
    """

    of_inputs: int = 0
    of_weights: int = 0
    of_activations: int = 0

    @property
    def forward(self):
        return self.of_inputs + self.of_weights + self.of_activations

    def backward(self, is_trained, is_passed):
        """FLOPs of the gradients, where the part `is_trained`, and where gradients `is_passed` on to what is before."""
        inputs = self.of_inputs * is_trained
        return inputs + self.of_weights * (is_trained + is_passed) + 2 * self.of_activations * is_passed


@dataclasses.dataclass(frozen=True)
class PartFlops:
    """FLOPs of one part of the network for one branch of the batch, in one training step."""

    branch: str
    part: str
    forward: int
    backward: int
    recomputed: int  # forward once more, in the backward pass

    @property
    def total(self):
        return self.forward + self.backward + self.recomputed


def step_flops(model, batch_size):
    """The matrix products of one training step: a list of `PartFlops`, by branch and part.

    Not counted are all other operations, the optimizer, moving averages, and what a fused attention kernel computes
    again. Encoder, decoder and condition embedding count as trained where one of their weights is.
    """
    condition, encoder, decoder = (
        layer is not None and bool(layer.trainable_variables)
        for layer in (model.condition_embedding, model.encoder, model.decoder)
    )
    before_decoder = condition or encoder
    gradients = {  # of a part's own weights, and of its inputs
        "condition": (condition, condition),
        "patch": (encoder, False),
        "encoder": (encoder, before_decoder),
        "decoder's": (decoder, before_decoder),
        "decoder": (decoder, before_decoder or decoder),
        "head": (decoder, before_decoder or decoder),
    }
    rows = []
    for branch in branches(model, batch_size):
        recomputed = _recomputed(model, branch)
        for part, products in _products(model, branch).items():
            is_trained, is_passed = gradients[part.split()[0]]
            again = recomputed.get(part, 0) if is_passed else 0
            rows.append(PartFlops(branch.name, part, products.forward, products.backward(is_trained, is_passed), again))
    return rows


def _products(model, branch):
    """The `Products` of each part of the network, for all images of a branch."""
    images, patch_dim = branch.images, math.prod(model.patch_size) * model.image_shape[-1]
    width, decoder_width = _widths(model)
    head = 2 * patch_dim * decoder_width * (branch.x0_patches + branch.noise_patches)
    head += _modulation(model, 2, decoder_width)
    return {
        "condition embedding": _condition_products(model, branch),
        "patch embedding": Products(of_inputs=images * 2 * branch.visible * patch_dim * width),
        "decoder's embedding": Products(of_weights=images * _embedding(model, branch)),
        **_block_products(model, branch),
        "head": Products(of_weights=images * head),
    }


def _condition_products(model, branch):
    if model.condition_embedding is None:
        return Products()
    layer = 4 * model.hidden_dim**2  # each of the two of an embedding, to twice the width and back
    labels = 0
    if model.num_classes is not None:
        labels = branch.images if branch.name == "noisy" else 1  # the null label, once for all
    return Products(of_inputs=branch.images * layer, of_weights=branch.images * layer + labels * 2 * layer)


def _block_products(model, branch):
    """Of the blocks of encoder and decoder: their weights', and apart from those what attention makes of activations.

    A block makes keys and values of all tokens; queries, the output projection and the MLP are of the `queries`.
    """
    per_query = 2 + 2 * _mlp_ratio(model)
    products = {}
    for name, shapes in _block_shapes(model, branch).items():
        weights, attention = 0, 0
        for tokens, queries, width in shapes:
            weights += int(2 * width**2 * (2 * tokens + per_query * queries)) + _modulation(model, 6, width)
            attention += 2 * 2 * tokens * queries * width
        products[f"{name} blocks"] = Products(of_weights=branch.images * weights)
        products[f"{name} attention"] = Products(of_activations=branch.images * attention)
    return products


def _recomputed(model, branch):
    """FLOPs that the backward pass computes again, by part: the blocks', but for what no gradient needs.

    (With `scan_blocks`, not the modulations: 0.5% of a block with 100 tokens.)
    """
    recomputed, products = {}, _block_products(model, branch)
    for name, shapes in _block_shapes(model, branch).items():
        if getattr(model, name).remat:
            parts = (f"{name} blocks", f"{name} attention")
            recomputed.update({part: products[part].forward for part in parts})
            if model.conditioning != "adaln_zero":  # a gate's gradient would need what the MLP's last layer gave
                last = sum(int(2 * queries * width**2 * _mlp_ratio(model)) for _, queries, width in shapes)
                recomputed[f"{name} blocks"] -= branch.images * last
    return recomputed


def _block_shapes(model, branch):
    """Of every block: the tokens attended to, the tokens that go on, and their width.

    A condition's token is attended to in each block, and doesn't go on. Of the last block of the decoder, only what a
    loss reads goes on.
    """
    width, decoder_width = _widths(model)
    condition = int(model.conditioning == "token")
    seen, placed = model.encoder.num_cls_tokens + branch.visible, 1 + branch.num_patches
    return {
        "encoder": [(seen + condition, seen, width)] * model.encoder.num_layers,
        "decoder": [
            *[(placed + condition, placed, decoder_width)] * (model.decoder.num_layers - 1),
            (placed + condition, branch.read_patches, decoder_width),
        ],
    }


def _embedding(model, branch):
    """What takes an image's tokens, and the condition where it is one, to the width of another decoder."""
    width, decoder_width = _widths(model)
    if width == decoder_width:
        return 0
    return 2 * width * decoder_width * (1 + branch.visible + (model.conditioning == "token"))


def _widths(model):
    """Of the encoder and of the decoder."""
    return model.hidden_dim, model.decoder.hidden_dim or model.hidden_dim


def _mlp_ratio(model):
    return model.encoder.blocks[0].mlp_ratio


def _modulation(model, outputs, width):
    """What makes `outputs` vectors of an image's condition, with AdaLN."""
    return 2 * outputs * width * model.hidden_dim if model.conditioning == "adaln_zero" else 0


# Memory


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes that one training step needs on a device.

    The weights' part is exact. What is kept for the backward pass is an estimate by hand, of an implementation that
    keeps the inputs of every matrix product and of every LayerNorm, and what GELU, gates and softmax need. Compilers
    compute some of that again instead, and hold other things for a moment.
    """

    weights: int
    gradients: int
    optimizer: int
    averages: int
    weight_copies: int  # in the compute type, where that is another; with `scan_blocks` stacked, as the gradients
    activations: int
    attention: int  # attention matrices; fused kernels (PyTorch, JAX on GPUs in 16 bits) never make them

    @property
    def total(self):
        return sum(dataclasses.astuple(self))


def step_memory(model, batch_size, weight_shards=1):
    """The `Memory` of a training step on a device with `batch_size` images and one of `weight_shards` of the weights.

    The small weights, which each device holds anyway, count as spread, too.
    """
    compute, trainable = _itemsize(model.compute_dtype), num_bytes(model.trainable_variables)
    activations, attention, rerun = 0, 0, [(0, 0)]
    for branch in branches(model, batch_size):
        activations += branch.images * _other_bytes(model, branch, compute)
        for name, shapes in _block_shapes(model, branch).items():
            stack = getattr(model, name)
            for tokens, queries, width in shapes:
                block = branch.images * compute * _block_values(model, tokens, queries, width)
                matrices = branch.images * 4 * stack.num_heads * tokens * queries  # softmax is in float32
                if stack.remat:
                    rerun.append((block, matrices))
                    block, matrices = branch.images * compute * tokens * width, 0
                activations, attention = activations + block, attention + matrices
    block, matrices = max(rerun)  # one at a time
    return Memory(
        weights=num_bytes(model.network_weights) // weight_shards,
        gradients=trainable // weight_shards,
        optimizer=_optimizer_bytes(model, trainable) // weight_shards,
        averages=sum(num_bytes(average.variables) for average in model.averages) // weight_shards,
        weight_copies=_weight_copies(model, compute),
        activations=activations + block,
        attention=attention + matrices,
    )


def _weight_copies(model, compute):
    copies = 0
    if model.compute_dtype != model.variable_dtype:
        copies += compute * sum(math.prod(variable.shape) for variable in model.network_weights)
    for stack in (model.encoder, model.decoder):
        if stack.scan_blocks and keras.backend.backend() == "jax":
            copies += 2 * num_bytes([variable for block in stack.blocks for variable in block.variables])
    return copies


def num_bytes(variables):
    """Bytes of a list of Keras variables, without reading them."""
    return sum(math.prod(variable.shape) * _itemsize(variable.dtype) for variable in variables)


def _itemsize(dtype):
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize


def _block_values(model, tokens, queries, width):
    """Numbers that a block keeps for its backward pass, the attention matrix apart (Korthikanti et al., 2022)."""
    adaln = model.conditioning == "adaln_zero"
    per_token = 4 + adaln  # input, normalised, (modulated,) key, value
    # query, attended, (projected,) sum, normalised, (modulated,) the MLP before GELU, its tanh, behind it, (its output)
    per_query = 4 + 3 * adaln + 3 * _mlp_ratio(model)
    return int(width * (per_token * tokens + per_query * queries)) + 6 * width * adaln


def _other_bytes(model, branch, compute):
    """Bytes that an image keeps outside of the blocks: images and errors in float32, patches, and the last norms."""
    image, patch_dim = math.prod(model.image_shape), math.prod(model.patch_size) * model.image_shape[-1]
    images = image * (1 if branch.name == "clean" else 3)  # x_0; x_t and the noise
    predictions = patch_dim * (branch.x0_patches + branch.noise_patches)
    width, decoder_width = _widths(model)
    norms = 2 * width * (model.encoder.num_cls_tokens + branch.visible)
    norms += (2 + (model.conditioning == "adaln_zero")) * decoder_width * branch.read_patches
    return 4 * (images + 2 * predictions) + compute * (branch.visible * patch_dim + norms)


def _optimizer_bytes(model, trainable_bytes):
    """Of the model's optimizer; where that has no state yet, of one like it; of AdamW where the model has none."""
    optimizer = getattr(model, "optimizer", None)
    if optimizer is None:
        return 2 * trainable_bytes
    if optimizer.built:
        return num_bytes(optimizer.variables)
    weight = keras.Variable(np.zeros((2, 3)), dtype="float32")
    copy = type(optimizer).from_config(optimizer.get_config())
    copy.build([weight])
    slots = sum(tuple(variable.shape) == (2, 3) for variable in copy.variables)
    return slots * trainable_bytes
