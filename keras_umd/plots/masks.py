"""What masks hide, as a picture."""

import math

import numpy as np
from keras import ops

from keras_umd.plots.grids import image_grid
from keras_umd.utils.checks import check_integers, is_list, is_size, require

VISIBLE, HIDDEN = 225, 40
MAX_PATCHES = 1_000_000


def masks(method, grid=(14, 14), num_images=8, scale=6, seed=0):
    """Draw what a method hides of some images: hidden patches are dark, a row for each view that masks or fills some.

    Example:

    >>> picture = plots.masks(keras_umd.methods.colormae)
    >>> mask = corruption.masks.Shared(corruption.masks.Random(0.9))
    >>> picture = plots.masks(mask, grid=(4, 14, 14))             # four frames in a row

    Args:
        method: A mask; or a function from `keras_umd.methods`, what it returns, a `Corruption`, or a model.
        grid: Tuple of one to three integers, the patches along each space axis. The first of three are frames, side
            by side, and images one under the other.
        num_images: Integer.
        scale: Integer. Pixels along each side of a patch.
        seed: Integer.

    Returns:
        uint8 array of shape `(height, width, 3)`.
    """
    check_integers(1, 1000, num_images=num_images)
    check_integers(0, seed=seed)
    is_grid = is_list(grid) and 1 <= len(grid) <= 3 and all(map(is_size, grid)) and math.prod(grid) <= MAX_PATCHES
    require(is_grid, f"`grid` must be a tuple of one to three integers, at most {MAX_PATCHES} patches.", grid=grid)
    grid, generator = tuple(map(int, grid)), np.random.default_rng(seed)
    rows, first = [], {}
    for mask in _masks_of(method):
        draws = generator.uniform(size=(num_images, mask.num_draws(grid))).astype("float32")
        if hasattr(mask, "part"):  # `masks.Disjoint`: of one order of the patches, as in training
            draws = first.setdefault(draws.shape, draws)
        patches = _brightness(mask, draws, grid, generator)
        rows.append(patches.reshape(-1, *((1,) * (2 - len(grid)) + grid)[-2:], 1))
    columns = grid[0] if len(grid) == 3 else num_images
    return image_grid(np.concatenate(rows), columns=columns, scale=scale)


def _brightness(mask, draws, grid, generator):
    """How bright each patch is drawn, `(num_images, num_patches)`, uint8."""
    shape = (len(draws), math.prod(grid))
    draws = ops.convert_to_tensor(draws)
    # What masks read of images is drawn, too: here are none.
    hints = {name: generator.uniform(size=shape) for name in getattr(mask, "reads", ())}
    hints = {name: ops.convert_to_tensor(hint.astype("float32")) for name, hint in hints.items()}
    visible = ops.convert_to_numpy(mask(draws, grid, hints or None)[0])
    patches = np.full(shape, HIDDEN, "uint8")
    shown = np.where(ops.convert_to_numpy(mask.hidden(draws, grid)), HIDDEN, VISIBLE) if mask.hides_tokens else VISIBLE
    np.put_along_axis(patches, visible, shown, axis=1)
    return patches


def _masks_of(method):
    """The masks of whatever has some."""
    if _is_mask(method):
        return [method]
    found = method() if callable(method) and hasattr(method, "paper") else method
    found = found.get("corruption") if isinstance(found, dict) else getattr(found, "corruption", found)
    views = getattr(found, "views", None)
    require(
        is_list(views) and len(views) > 0,
        "`method` must be a mask, a function of `keras_umd.methods`, a Corruption or a model.",
        method=method,
    )
    filled = [getattr(view.change, "mask", None) for view in views]  # patches of `changes.Fill`
    own = [mask for mask in (*(view.mask for view in views), *filled) if _is_mask(mask)]
    require(own, "`method` masks nothing.", method=method)
    return own


def _is_mask(thing):
    return hasattr(thing, "num_draws") and hasattr(thing, "ratio")
