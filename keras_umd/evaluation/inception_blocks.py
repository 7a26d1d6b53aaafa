"""The blocks of the Inception v3 network of "inception-2015-12-05", as a table."""

import dataclasses
import functools

from keras import ops


@dataclasses.dataclass(frozen=True)
class Convolution:
    """A convolution with BatchNorm and ReLU; `name` is unique within its block."""

    name: str
    filters: int
    kernel_size: int | tuple[int, int] = 1
    strides: int = 1
    padding: str = "same"


# The means leave out the padding.
average_pool = functools.partial(ops.average_pool, pool_size=3, strides=1, padding="same", data_format="channels_last")
max_pool = functools.partial(ops.max_pool, pool_size=3, strides=1, padding="same", data_format="channels_last")
halve = functools.partial(ops.max_pool, pool_size=3, strides=2, padding="valid", data_format="channels_last")


# In a block, the steps of a list run in sequence; those of a tuple run on the same input, and are concatenated.


def row(name, *sizes):
    """Convolutions of these sizes in sequence; several are numbered, as in the weights file."""
    names = [name] if len(sizes) == 1 else [f"{name}_{i + 1}" for i in range(len(sizes))]
    return [Convolution(name, *size) for name, size in zip(names, sizes, strict=True)]


def mixed_35(pool_filters):
    """A block on 35x35 pixels (Szegedy et al., figure 5)."""
    return (
        row("branch1x1", (64, 1)),
        row("branch5x5", (48, 1), (64, 5)),
        row("branch3x3dbl", (64, 1), (96, 3), (96, 3)),
        [average_pool, *row("branch_pool", (pool_filters, 1))],
    )


def mixed_17(filters):
    """A block on 17x17 pixels, with 7x7 convolutions split into 1x7 and 7x1 (figure 6)."""
    wide, tall = (1, 7), (7, 1)
    return (
        row("branch1x1", (192, 1)),
        row("branch7x7", (filters, 1), (filters, wide), (192, tall)),
        row("branch7x7dbl", (filters, 1), (filters, tall), (filters, wide), (filters, tall), (192, wide)),
        [average_pool, *row("branch_pool", (192, 1))],
    )


def mixed_8(pool):
    """A block on 8x8 pixels, with 3x3 convolutions split into 1x3 and 3x1 side by side (figure 7)."""

    def split(name):
        return row(f"{name}a", (384, (1, 3))), row(f"{name}b", (384, (3, 1)))

    return (
        row("branch1x1", (320, 1)),
        [*row("branch3x3_1", (384, 1)), split("branch3x3_2")],
        [*row("branch3x3dbl", (448, 1), (384, 3)), split("branch3x3dbl_3")],
        [pool, *row("branch_pool", (192, 1))],
    )


NETWORK = {
    "Conv2d_1a_3x3": Convolution("", 32, 3, 2, "valid"),  # (batch, 149, 149, 32)
    "Conv2d_2a_3x3": Convolution("", 32, 3, padding="valid"),  # (batch, 147, 147, 32)
    "Conv2d_2b_3x3": Convolution("", 64, 3),
    "MaxPool_1": halve,  # (batch, 73, 73, 64)
    "Conv2d_3b_1x1": Convolution("", 80),
    "Conv2d_4a_3x3": Convolution("", 192, 3, padding="valid"),  # (batch, 71, 71, 192)
    "MaxPool_2": halve,  # (batch, 35, 35, 192)
    "Mixed_5b": mixed_35(pool_filters=32),  # (batch, 35, 35, 256)
    "Mixed_5c": mixed_35(pool_filters=64),  # (batch, 35, 35, 288)
    "Mixed_5d": mixed_35(pool_filters=64),
    "Mixed_6a": (  # from 35x35 to 17x17 pixels (figure 10): (batch, 17, 17, 768)
        row("branch3x3", (384, 3, 2, "valid")),
        row("branch3x3dbl", (64, 1), (96, 3), (96, 3, 2, "valid")),
        [halve],
    ),
    "Mixed_6b": mixed_17(filters=128),
    "Mixed_6c": mixed_17(filters=160),
    "Mixed_6d": mixed_17(filters=160),
    "Mixed_6e": mixed_17(filters=192),
    "Mixed_7a": (  # from 17x17 to 8x8 pixels: (batch, 8, 8, 1280)
        row("branch3x3", (192, 1), (320, 3, 2, "valid")),
        row("branch7x7x3", (192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3, 2, "valid")),
        [halve],
    ),
    "Mixed_7b": mixed_8(average_pool),  # (batch, 8, 8, 2048)
    "Mixed_7c": mixed_8(max_pool),
}


def path_of(block, convolution):
    return f"{block}.{convolution.name}".rstrip(".")
