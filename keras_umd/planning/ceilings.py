"""How fast a step could be at most: its products at the rate of the device, the rest at the speed of its memory."""

import dataclasses

from keras_umd.planning.network import Network, views_of

# What a block of a transformer moves beside its products, in multiples of its width for each token.
NORMS = 4  # two LayerNorms with their modulation, each reads and writes the tokens once
SUMS = 6  # two sums of branch and stream: two are read, one is written
FUSED = 7  # the norms, and what is left of the sums where they and GELU run at the end of the products
TRAINING = 3.25  # the passes of a training step over those of its forward pass


@dataclasses.dataclass(frozen=True)
class Traffic:
    """Bytes that a training step moves beside its matrix products, on all devices.

    Attention counts as a fused kernel, whose matrices never reach the memory.

    Args:
        unfused: Float, elementwise passes one by one: LayerNorms, GELU, sums.
        fused: Float, with GELU and the sums at the end of the products.
        weights: Float, what the optimizer and the averages read and write, once a step on each device.
    """

    unfused: float
    fused: float
    weights: float


def step_traffic(model, batch_size, memory, num_devices=1):
    """The `Traffic` of a training step.

    Args:
        model: `UMD`.
        batch_size: Integer.
        memory: `Memory` of a device.
        num_devices: Integer.
    """
    network = Network(model)
    unfused, fused = 0.0, 0.0
    for view in views_of(model, batch_size):
        for name, shapes in network.block_shapes(view).items():
            stack = network.stacks[name]
            passes = TRAINING + stack.remat if stack.is_trained else 1
            numbers = passes * view.num_images * stack.width * sum(queries for _, queries in shapes)
            activation = (stack.mlp_inputs + 1) * stack.mlp_width / stack.width  # all are read, one is written
            unfused += numbers * (NORMS + SUMS + activation)
            fused += numbers * FUSED
    size = {"float64": 8, "float32": 4}.get(model.compute_dtype, 2)
    # Gradients are read; weights, the optimizer's state and averages are read and written.
    weights = memory.gradients + 2 * (memory.weights + memory.optimizer + memory.averages)
    return Traffic(size * unfused, size * fused, num_devices * weights)


@dataclasses.dataclass(frozen=True)
class Ceiling:
    """The best that a step can reach on given devices, by one way of counting; more needs another program.

    Args:
        seconds: Float, of a step.
        images_per_second: Float.
        utilization: Float, the share of the devices' peak that is left for the model's products (MFU).
    """

    seconds: float
    images_per_second: float
    utilization: float


def ceiling(plan, elementwise):
    """The `Ceiling` of a `Plan` with so many bytes of elementwise passes, or `None` where the bandwidth isn't known."""
    if plan.device is None or plan.device.bandwidth is None:
        return None
    products = plan.hardware_flops / (plan.device.product_share * plan.peak_flops)
    moved = (elementwise + plan.traffic.weights) / (plan.num_devices * plan.device.bandwidth)
    seconds = products + moved
    return Ceiling(seconds, plan.batch_size / seconds, plan.model_flops / (seconds * plan.peak_flops))
