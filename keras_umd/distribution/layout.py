"""Where the weights of a model lie when they are too many for one device."""

import keras

# Dots stand for the slashes of a weight's path, and for the underscores in the name of its average.
COLUMNS = (".*attention.(query|key|value).{}", ".*mlp_hidden.{}")
ROWS = (".*attention.output_projection.kernel", ".*mlp_output.kernel")
OTHER_KERNELS = (".*modulation.kernel", ".*(timestep|label)_embedding.(hidden|output_projection).kernel")


def layout_map(mesh):
    """How `keras.distribution.ModelParallel` spreads a model's weights, their averages and what the optimizer keeps.

    On a mesh of one axis every large weight is cut along that axis, over which the batch is spread, too: each device
    keeps its part alone, with the optimizer's moments and the averages of it (as ZeRO 3 and FSDP). For a training step
    the weights are put together, and each device gets the gradients of its part.

    On a mesh of two axes, the batch is spread over the first, and over the second each block's attention and MLP, by
    heads and hidden units (Megatron-LM): the devices add up activations twice a block, and their gradients as often.

    What is small stays whole on all devices.

    Example:

    >>> mesh = keras.distribution.DeviceMesh((8,), ["batch"])
    >>> parallelism = keras_umd.distribution.ModelParallel(layout_map=keras_umd.UMD.layout_map(mesh))
    >>> keras.distribution.set_distribution(parallelism)    # then make the model

    Args:
        mesh: `keras.distribution.DeviceMesh` with one axis or two.

    Returns:
        `keras.distribution.LayoutMap`.
    """
    axes = list(mesh.axis_names)
    if len(axes) not in (1, 2):
        raise ValueError(f"`mesh` must have one axis, or two. Received: mesh={mesh}")
    layouts = keras.distribution.LayoutMap(mesh)
    if len(axes) == 1:
        for path in (*(columns.format("kernel") for columns in COLUMNS), *ROWS, *OTHER_KERNELS):
            layouts[path] = (None, axes[0])
        layouts[".*label_embedding.table"] = (None, axes[0])
        layouts[".*head.projection.kernel"] = (axes[0], None)  # its columns are few, and any number
        return layouts
    for columns in COLUMNS:
        layouts[columns.format("kernel")] = (None, axes[1])
        layouts[columns.format("bias")] = (axes[1],)
    for path in ROWS:
        layouts[path] = (axes[1], None)
    # Not the modulations: with their columns, all tokens would be cut, and gathered again before each product.
    return layouts


class ModelParallel(keras.distribution.ModelParallel):
    """Keras' `ModelParallel`, with the weights whole on every device whose sizes the mesh doesn't divide.

    Keras' own raises an error there; otherwise it is the same.
    """

    def get_variable_layout(self, variable):
        layout = super().get_variable_layout(variable)
        sizes = dict(zip(self.device_mesh.axis_names, self.device_mesh.shape, strict=True))
        parts = [1 if axis is None else sizes[axis] for axis in layout.axes]
        if all(size % part == 0 for size, part in zip(variable.shape, parts, strict=True)):
            return layout
        return keras.distribution.TensorLayout([None] * len(variable.shape), self.device_mesh)
