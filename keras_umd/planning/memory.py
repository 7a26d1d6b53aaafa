"""The memory of one training step on a device: exact for weights and their like, estimated for activations."""

import dataclasses
import math

import keras
import numpy as np

from keras_umd.backend.kernels import can_scan
from keras_umd.planning.network import Network, views_of


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes that one training step needs on a device.

    The weights' part is exact. What is saved for the backward pass is an estimate, for an implementation that saves
    the inputs of every matrix product and of every LayerNorm, and what GELU, gates and softmax need. Compilers compute
    some of that again instead, and hold other things for a moment.

    Args:
        weights, gradients, optimizer, averages: Integers.
        weight_copies: Integer, weights in the compute type, where that is another; with `scan_blocks` the stacked
            weights and gradients.
        activations: Integer.
        attention: Integer, attention matrices. Fused kernels (PyTorch; JAX on TPUs, and on GPUs in 16 bits) never make
            them, TensorFlow on GPUs keeps none.
    """

    weights: int
    gradients: int
    optimizer: int
    averages: int
    weight_copies: int
    activations: int
    attention: int

    @property
    def total(self):
        return sum(dataclasses.astuple(self))


def step_memory(model, batch_size, weight_shards=1):
    """The `Memory` of a training step on a device with `batch_size` images and one of `weight_shards` of the weights.

    The small weights, which each device holds whole, count as spread, too.
    """
    trainable = num_bytes(model.trainable_variables)
    activations, attention = _saved_bytes(model, batch_size)
    return Memory(
        weights=num_bytes(model.network_weights) // weight_shards,
        gradients=trainable // weight_shards,
        optimizer=_optimizer_bytes(model, trainable) // weight_shards,
        averages=sum(num_bytes(average.variables) for average in (*model.averages, *model.teacher_averages))
        // weight_shards,
        weight_copies=_weight_copies(model),
        activations=activations,
        attention=attention,
    )


def num_bytes(variables):
    """Bytes of a list of Keras variables, without reading them."""
    return sum(math.prod(variable.shape) * _itemsize(variable.dtype) for variable in variables)


def _itemsize(dtype):
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize


# Activations


def _saved_bytes(model, batch_size):
    """Bytes that are saved for the backward pass, and those of the attention matrices."""
    network, itemsize = Network(model), _itemsize(model.compute_dtype)
    activations, attention, rerun = 0, 0, [(0, 0)]
    for view in views_of(model, batch_size):
        activations += view.num_images * _outside_blocks(network, view, itemsize)
        for name, shapes in network.block_shapes(view).items():
            stack = network.stacks[name]
            for tokens, queries in shapes:
                block = view.num_images * itemsize * _saved_by_block(network, stack, tokens, queries)
                matrices = view.num_images * 4 * stack.num_heads * tokens * queries  # softmax is in float32
                if stack.remat:
                    rerun.append((block, matrices))
                    block, matrices = view.num_images * itemsize * tokens * stack.width, 0
                activations, attention = activations + block, attention + matrices
    block, matrices = max(rerun)  # the backward pass reruns one block at a time
    return activations + block, attention + matrices


def _saved_by_block(network, stack, tokens, queries):
    """Numbers that a block saves for its backward pass, without the attention matrix (Korthikanti et al., 2022)."""
    adaln, mlp, has_gate = network.adaln, stack.mlp_width / stack.width, stack.mlp_inputs - 1
    turned = stack.block.qk_norm + stack.block.rope
    looking = tokens if stack.context_width is None else queries
    saved = {  # rows, and the width of each over the block's
        "input": (looking, 1),
        "normalized": (looking, 1),
        "modulated": (looking, adaln),
        "context": (tokens, (stack.key_width / stack.width) * (stack.taps > 0) * 2),  # mixed, and normalized
        "keys": (tokens, 1),
        "values": (tokens, 1),
        "queries": (queries, 1),
        "queries and keys, normalized, turned": (tokens + queries, turned),
        "values, mixed": (tokens, stack.block.value_residual),
        "attended": (queries, 1),
        "projected, before the gate": (queries, adaln),
        "first sum": (queries, 1),
        "first sum, normalized": (queries, 1),
        "first sum, modulated": (queries, adaln),
        "MLP, before GELU": (queries, mlp),
        "MLP, tanh in GELU": (queries, mlp),
        "MLP, after GELU": (queries, mlp),
        "MLP, before the product with the gate": (queries, mlp * has_gate),
        "MLP, before the gate": (queries, adaln),
        "modulations": (6, adaln),
    }
    return int(stack.width * sum(rows * width for rows, width in saved.values()))


def _outside_blocks(network, view, itemsize):
    """Bytes that an image saves outside of the blocks: images and errors in float32, patches, and the last norms."""
    images = network.image_size * (3 if view.is_noisy else 1)  # x_0; in noisy views x_t and the noise, too
    errors = 2 * view.predicted
    norms = 2 * network.encoder.width * (network.num_cls_tokens + view.visible)
    norms += (2 + network.adaln) * network.decoder.width * view.read
    return 4 * (images + errors) + itemsize * (view.visible * network.patch_size + norms)


# Weights


def _weight_copies(model):
    itemsize = _itemsize(model.compute_dtype) if model.compute_dtype != model.variable_dtype else 0
    scanned = [layer for layer in (model.encoder, model.decoder) if layer.scan_blocks and can_scan()]
    stacked = [variable for layer in scanned for block in layer.blocks for variable in block.variables]
    return itemsize * sum(math.prod(weight.shape) for weight in model.network_weights) + 2 * num_bytes(stacked)


def _optimizer_bytes(model, trainable_bytes):
    """Bytes of the model's optimizer: where it has no state yet, by its number of slots; without one, AdamW's."""
    optimizer = getattr(model, "optimizer", None)
    if optimizer is None:
        return 2 * trainable_bytes
    if optimizer.built:
        return num_bytes(optimizer.variables)
    copy = type(optimizer).from_config(optimizer.get_config())
    copy.build([keras.Variable(np.zeros((2, 3)), dtype="float32")])
    slots = sum(tuple(variable.shape) == (2, 3) for variable in copy.variables)
    return slots * trainable_bytes
