"""The rotations that JiT's files hold beside its weights: tables, which are made anew here."""

import re

import numpy as np

from keras_umd.layers.rotary import grid_positions
from keras_umd.utils.checks import require
from keras_umd.weights.dit_names import square_grid

THETA = 10_000.0
_TABLE = re.compile(r"feat_rope(_incontext)?\.freqs_(cos|sin)")


def without_rotations(arrays):
    """The arrays without the tables of rotations.

    Raises:
        ValueError: for tables of other angles than those of `Block(rope=True)`.
    """
    context = np.shape(arrays.get("in_context_posemb", np.zeros((1, 0, 0))))[1]
    for name, table in arrays.items():
        if match := _TABLE.fullmatch(name):
            number = context if match[1] else 0
            is_table = np.ndim(table) == 2 and len(table) > number and table.shape[1] % 4 == 0
            require(is_table, f"The weights aren't those of a JiT.\nshape of {name}", np.shape(table))
            function = {"cos": np.cos, "sin": np.sin}[match[2]]
            expected = function(_angles(len(table) - number, table.shape[1], number, name))
            is_equal = np.allclose(table, expected, atol=1e-4)
            require(is_equal, f"`{name}` must hold rotations by the row and the column, of theta 10,000.", "others")
    return {name: value for name, value in arrays.items() if not _TABLE.fullmatch(name)}


def _angles(places, head_dim, context, name):
    """The angle of each number of a head, `(context + places, head_dim)`; those in context don't turn."""
    pairs = head_dim // 4
    angles = grid_positions(square_grid(places, name))[..., None] * THETA ** (-np.arange(pairs) / pairs)
    angles = np.repeat(angles.reshape(places, -1), 2, axis=1)
    return np.concatenate([np.zeros((context, head_dim)), angles])
