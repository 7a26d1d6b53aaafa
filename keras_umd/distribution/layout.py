"""Layouts of a model's weights on several devices, where they are too many for one."""

import math

import keras

from keras_umd.utils.checks import check_instances, require

# Dots stand for the slashes of a weight's path, and for the underscores in the name of its average.
COLUMNS = (".*attention.(query|key|value).{}", ".*mlp_(hidden|gate).{}")
ROWS = (".*attention.output_projection.kernel", ".*mlp_output.kernel")
# With one axis: matrices that `ModelParallel` doesn't shard by columns.
BY_ROWS = ".*head.projection.kernel"  # its columns are few, and any number
REPLICATED = (".*positions", ".*cls_tokens", ".*registers", ".*(patch|noise)_embedding.*kernel")  # small
SMALLEST_SHARDED = 256  # entries; a smaller matrix costs more to all-gather than to keep


def layout_map(mesh):
    """A `keras.distribution.LayoutMap` for a model's weights, their averages and the optimizer's moments.

    On a mesh of one axis, `keras_umd.distribution.ModelParallel` shards every matrix along that axis, over which the
    batch is sharded, too: each device keeps its part, with its moments and averages (as ZeRO 3 and FSDP). For a step
    the weights are all-gathered, and gradients are reduced to their parts. The map has only the exceptions.

    On a mesh of two axes, the batch is sharded over the first, and over the second each block's attention and MLP, by
    heads and hidden units (Megatron-LM): the devices add up activations twice a block, and their gradients as often.

    All other weights are replicated.

    Example:

    >>> mesh = keras.distribution.DeviceMesh((8,), ["batch"])                                           # doctest: +SKIP
    >>> parallelism = keras_umd.distribution.ModelParallel(layout_map=keras_umd.UMD.layout_map(mesh))   # doctest: +SKIP
    >>> keras.distribution.set_distribution(parallelism)    # then make the model                       # doctest: +SKIP

    Args:
        mesh: `keras.distribution.DeviceMesh` with one axis or two.

    Returns:
        `keras.distribution.LayoutMap`.
    """
    check_instances(keras.distribution.DeviceMesh, "a keras.distribution.DeviceMesh", mesh=mesh)
    axes = list(mesh.axis_names)
    require(len(axes) in (1, 2), "`mesh` must have one axis, or two.", mesh=mesh)
    layouts = keras.distribution.LayoutMap(mesh)
    if len(axes) == 1:
        layouts[BY_ROWS] = (axes[0], None)
        layouts.update(dict.fromkeys(REPLICATED, (None, None)))
        return layouts
    for columns in COLUMNS:
        layouts[columns.format("kernel")] = (None, axes[1])
        layouts[columns.format("bias")] = (axes[1],)
    layouts.update(dict.fromkeys(ROWS, (axes[1], None)))
    # Modulation kernels stay replicated: sharding their columns would shard the tokens, with an all-gather before every
    # matrix product.
    return layouts


class ModelParallel(keras.distribution.ModelParallel):
    """Keras' `ModelParallel`, which on a mesh of one axis also shards the matrices that the layout map doesn't name.

    By columns, or by rows where the mesh doesn't divide the columns: so layers of yours are sharded as those of UMD.
    Weights whose sizes the mesh doesn't divide are replicated, where Keras' own raises an error.

    Example:

    >>> mesh = keras.distribution.DeviceMesh((8,), ["model"])                                           # doctest: +SKIP
    >>> layout = keras_umd.distribution.layout_map(mesh)                                                # doctest: +SKIP
    >>> keras.distribution.set_distribution(ModelParallel(layout_map=layout))                           # doctest: +SKIP

    Args:
        layout_map: `keras.distribution.LayoutMap`, as from `layout_map(mesh)`.
        **kwargs: As of `keras.distribution.ModelParallel`.
    """

    def __init__(self, *, layout_map, **kwargs):
        check_instances(keras.distribution.LayoutMap, "a keras.distribution.LayoutMap", layout_map=layout_map)
        super().__init__(layout_map=layout_map, **kwargs)
        self._named_layouts = layout_map

    def get_variable_layout(self, variable):
        layout = super().get_variable_layout(variable)
        if getattr(variable, "_layout", None) is not None:  # it exists, or is a moment with the layout of its weight
            return layout
        axes, shape = layout.axes, tuple(variable.shape)
        axis, *others = self.device_mesh.axis_names
        choices = [tuple(axes)]
        is_named = self._named_layouts[variable.path] is not None or any(axes)
        if not is_named and not others and len(shape) == 2 and math.prod(shape) >= SMALLEST_SHARDED:
            choices = [(None, axis), (axis, None)]
        fitting = next((choice for choice in choices if self._divides(shape, choice)), (None,) * len(shape))
        return keras.distribution.TensorLayout(fitting, self.device_mesh)

    def _divides(self, shape, axes):
        sizes = {None: 1, **dict(zip(self.device_mesh.axis_names, self.device_mesh.shape, strict=True))}
        return all(size % sizes[axis] == 0 for size, axis in zip(shape, axes, strict=True))
