"""Sizes of the networks that are written out in plain frameworks."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Sizes:
    """A network and its patches, of keras_umd's presets.

    Args:
        width, heads: Integers.
        encoder, decoder: Integers, their blocks.
        patches: Integer, of an image.
        halves: Pair of integers, the visible patches of a clean and of a noisy image.
        values: Integer, the numbers in a patch.
    """

    width: int
    heads: int
    encoder: int
    decoder: int
    patches: int
    halves: tuple[int, int]
    values: int


SIZES = {
    "base_patch4_64": Sizes(768, 12, 12, 4, 256, (64, 160), 48),
    "tiny": Sizes(32, 2, 1, 1, 16, (4, 10), 12),
}


def views(method, sizes, batch_size):
    """Pairs of the images and the visible patches of each view of a batch, of `"umd"` or `"dit"`."""
    if method == "dit":
        return [(batch_size, sizes.patches)]
    return [(batch_size // 2, visible) for visible in sizes.halves]
