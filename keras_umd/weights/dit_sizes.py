"""The sizes of a diffusion transformer, read off its arrays, and the shapes that all of them must have then."""

import dataclasses
import math

from keras_umd.utils.checks import check_integers, require
from keras_umd.weights.dit_names import array_of, block_shapes, linear_shapes, repeated_shapes, square_grid
from keras_umd.weights.vit_names import num_blocks

HEADS = {384: 6, 768: 12, 1024: 16, 1152: 16, 1280: 16}  # of the published sizes, by width
DEFAULT_SIDE = 32  # of latents for images of 256, where the file doesn't tell


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Sizes of a network; `decoder_...` of MaskDiT's, or `None`.

    Args:
        width, depth, num_heads: Integers.
        grid, patch_size: Pairs of integers.
        channels, outputs: Integers, channels of the images and of the last layer.
        frequencies: Integer, numbers of the timestep's sinusoid.
        table: Integer, rows of the table of labels, or 0 without one.
        bottleneck: Integer or `None`.
        in_context: Integer.
        head_dim: Integer or `None`, the width of a head where its queries are normalised.
        decoder_width, decoder_depth: Integers or `None`.
    """

    width: int
    depth: int
    num_heads: int
    grid: tuple
    patch_size: tuple
    channels: int
    outputs: int
    frequencies: int
    table: int
    bottleneck: int | None = None
    in_context: int = 0
    head_dim: int | None = None
    decoder_width: int | None = None
    decoder_depth: int | None = None

    @property
    def image_shape(self):
        """The shape of an image, or of its latents."""
        return (*(count * size for count, size in zip(self.grid, self.patch_size, strict=True)), self.channels)


def sizes_of(arrays, names, what, num_heads=None, image_size=None):
    """The `Sizes` of a network.

    Args:
        arrays: Dictionary of arrays.
        names: `Names`.
        what: String, what it must be, for errors.
        num_heads, image_size: As of `from_dit`.
    """
    parts = names.parts
    first = array_of(arrays, f"{parts.get('reduction', parts.get('patch'))}.weight", 4, what)
    bottleneck = len(first) if "reduction" in parts else None
    embedding = array_of(arrays, f"{parts['projection']}.weight", 4, what) if bottleneck else first
    width, patch_size = len(embedding), tuple(first.shape[2:])
    decoder = _decoder(arrays, parts, what)
    head = array_of(arrays, f"{parts['head']}.weight", 2, what)
    require(
        len(head) in (math.prod(patch_size) * first.shape[1] * number for number in (1, 2)),
        "The last layer must predict as many channels as the images have, or twice as many, with variances.",
        f"{parts['head']}.weight of shape {head.shape} for patches of shape {first.shape[1:]}",
    )
    head_dim = None
    if "query_norm" in names.block:
        name = f"{names.blocks}0.{names.block['query_norm']}"
        head_dim = len(array_of(arrays, name, 1, what))
    context = parts.get("context_positions")
    return Sizes(
        width=width,
        depth=num_blocks(arrays, names.blocks),
        num_heads=_num_heads(width, head_dim, num_heads),
        grid=_grid(arrays, parts["positions"], patch_size, image_size, what),
        patch_size=patch_size,
        channels=first.shape[1],
        outputs=len(head) // math.prod(patch_size),
        frequencies=array_of(arrays, f"{parts['time_hidden']}.weight", 2, what).shape[1],
        table=_table(arrays, parts, what),
        bottleneck=bottleneck,
        in_context=array_of(arrays, context, 3, what).shape[1] if context in arrays else 0,
        head_dim=head_dim,
        **decoder,
    )


def _table(arrays, parts, what):
    """The rows of the table of labels; a MaskDiT may be one without."""
    name = parts["labels"]
    return 0 if name not in arrays and "between" in parts else len(array_of(arrays, name, 2, what))


def _num_heads(width, head_dim, given):
    check_integers(1, optional=True, num_heads=given)
    if head_dim is not None:
        require(width % head_dim == 0, "The width must be a multiple of that of a head.", width=width, head=head_dim)
        require(given in (None, width // head_dim), f"The file has {width // head_dim} heads.", num_heads=given)
        return width // head_dim
    require(
        given is not None or width in HEADS,
        f"Nothing in the file tells the number of heads; give `num_heads`. It is known for the widths {[*HEADS]}.",
        f"a width of {width}",
    )
    number = HEADS[width] if given is None else given
    require(width % number == 0, "`num_heads` must be a divisor of the width.", num_heads=number, width=width)
    return number


def _grid(arrays, positions, patch_size, image_size, what):
    check_integers(1, optional=True, image_size=image_size)
    if positions in arrays:
        grid = square_grid(array_of(arrays, positions, 3, what).shape[1], positions)
    else:
        side = DEFAULT_SIDE if image_size is None else image_size
        require(
            not any(side % size for size in patch_size),
            "`image_size` must be divisible by the patch size.",
            image_size=side,
            patch_size=patch_size,
        )
        grid = tuple(side // size for size in patch_size)
    side = grid[0] * patch_size[0]
    require(image_size in (None, side), f"The file's images have a size of {side}.", image_size=image_size)
    return grid


def _decoder(arrays, parts, what):
    if "between" not in parts or f"{parts['between']}.weight" not in arrays:
        return {}
    width = len(array_of(arrays, f"{parts['between']}.weight", 2, what))
    return {"decoder_width": width, "decoder_depth": num_blocks(arrays, "decoder_blocks.")}


def shapes_of(sizes, names, arrays):
    """The shape of every array that a network of these sizes has, by name."""
    parts, width, places = names.parts, sizes.width, math.prod(sizes.grid)
    last, patches = sizes.decoder_width or width, math.prod(sizes.patch_size)
    shapes = {
        **linear_shapes(parts["time_hidden"], width, sizes.frequencies),
        **linear_shapes(parts["time_output"], width, width),
        **linear_shapes(parts["head_modulation"], 2 * last, width),
        **linear_shapes(parts["head"], patches * sizes.outputs, last),
        **_patch_shapes(sizes, parts),
        **repeated_shapes(names, arrays, sizes.depth),
    }
    optional = {
        parts["labels"]: (sizes.table, width),
        parts["positions"]: (1, places, width),
        parts.get("context_positions"): (1, sizes.in_context, width),
        parts.get("head_norm"): (width,),
    }
    is_written = names.repeated or parts["positions"] in arrays  # diffusers makes them anew
    required = set() if is_written else {parts["positions"]}
    shapes |= {name: shape for name, shape in optional.items() if name in {*arrays, *required, parts.get("head_norm")}}
    shapes.pop(None, None)
    hidden = int(width * 4 * 2 / 3) if "gate_and_hidden" in names.block else 4 * width
    for i in range(sizes.depth):
        shapes |= block_shapes(names, f"{names.blocks}{i}.", width, width, hidden, sizes.head_dim)
    return shapes | _decoder_shapes(sizes, names, arrays)


def _patch_shapes(sizes, parts):
    of_patch = (sizes.channels, *sizes.patch_size)
    if sizes.bottleneck is None:
        name = parts["patch"]
        return {f"{name}.weight": (sizes.width, *of_patch), f"{name}.bias": (sizes.width,)}
    return {
        f"{parts['reduction']}.weight": (sizes.bottleneck, *of_patch),
        f"{parts['projection']}.weight": (sizes.width, sizes.bottleneck, 1, 1),
        f"{parts['projection']}.bias": (sizes.width,),
    }


def _decoder_shapes(sizes, names, arrays):
    width = sizes.decoder_width
    if width is None:
        return {}
    parts = names.parts
    shapes = {
        **linear_shapes(parts["between"], width, sizes.width),
        **linear_shapes(parts["between_modulation"], 2 * sizes.width, sizes.width),
        parts["decoder_positions"]: (1, math.prod(sizes.grid), width),
    }
    if parts["mask_token"] in arrays:
        shapes[parts["mask_token"]] = (1, 1, width)
    for i in range(sizes.decoder_depth):
        shapes |= block_shapes(names, f"decoder_blocks.{i}.", width, sizes.width, 4 * width)
    return shapes
