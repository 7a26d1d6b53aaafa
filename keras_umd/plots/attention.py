"""Attention maps as pictures: where a probe looks."""

import numpy as np

from keras_umd.plots.grids import MAX_SIDE, image_grid
from keras_umd.utils.checks import as_integers, as_numbers, check_integers, is_list, is_size, require

HEAT = np.array([[0, 0, 4], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]], "float64")  # dark to light


def attention_grid(images, maps, grid, queries=None, num_queries=4, scale=1):
    """Place images and the attention of some queries to their patches side by side, one row an image.

    Example:

    >>> maps = np.random.default_rng(0).dirichlet(np.ones(16), (8, 4))   # or `EfficientProbe.attention_maps`
    >>> picture = plots.attention_grid(images[:8], maps, grid=model.grid, scale=4)

    Args:
        images: uint8 array of shape `(n, height, width, channels)`, one or three channels.
        maps: Float array of shape `(n, queries, patches)`, of at least 0; each is shown from its least to its largest
            value.
        grid: Pair of integers, the patches of an image down and across.
        queries: List of integers, which queries to show. Defaults to those `num_queries` whose maps differ most from
            even ones.
        num_queries: Integer.
        scale: Integer, as in `image_grid`.

    Returns:
        uint8 array of shape `(height, width, 3)`: the images in the first column, one query in each other.
    """
    check_integers(1, MAX_SIDE, num_queries=num_queries)
    images, maps = np.asarray(images), as_numbers(maps=maps)
    require(
        images.ndim == 4 and len(images) and images.dtype == np.uint8 and images.shape[-1] in (1, 3),
        "`images` must be uint8 of shape (n, height, width, 1 or 3).",
        f"images of shape {images.shape} and type {images.dtype}",
    )
    require(
        is_list(grid) and len(grid) == 2 and all(map(is_size, grid)),
        "`grid` must be a pair of positive integers, the patches down and across.",
        grid=grid,
    )
    down, across = map(int, grid)
    require(
        maps.ndim == 3 and len(maps) == len(images) and maps.shape[2] == down * across and (maps >= 0).all(),
        "`maps` must be of shape (n, queries, patches), at least 0, for as many images and the patches of `grid`.",
        f"maps of shape {maps.shape} for {len(images)} images and grid={grid}",
    )
    height, width = images.shape[1:3]
    require(
        height % down == 0 and width % across == 0, "`grid` must divide the images.", f"grid={grid}, {height}x{width}"
    )
    chosen = _most_telling(maps, num_queries) if queries is None else as_integers(0, maps.shape[1] - 1, queries=queries)
    require(len(chosen), "`queries` must be at least one.", queries=queries)
    shown = maps[:, chosen].reshape(len(images), len(chosen), down, across)
    heat = _heat(shown).repeat(height // down, axis=2).repeat(width // across, axis=3)
    rows = np.concatenate([np.broadcast_to(images, (*images.shape[:3], 3))[:, None], heat], axis=1)
    return image_grid(rows.reshape(-1, height, width, 3), columns=1 + len(chosen), scale=scale)


def _most_telling(maps, number):
    """The queries of the least entropy, in their order."""
    shares = maps / np.maximum(maps.sum(axis=2, keepdims=True), 1e-12)
    entropy = -(shares * np.log(np.maximum(shares, 1e-12))).sum(axis=2).mean(axis=0)
    return np.sort(np.argsort(entropy, kind="stable")[:number])


def _heat(maps):
    """Maps `(n, m, down, across)` as colours, uint8 `(n, m, down, across, 3)`."""
    low, high = maps.min(axis=(2, 3), keepdims=True), maps.max(axis=(2, 3), keepdims=True)
    places = (maps - low) / np.maximum(high - low, 1e-12) * (len(HEAT) - 1)
    left = np.minimum(places.astype(int), len(HEAT) - 2)
    share = (places - left)[..., None]
    return np.round(HEAT[left] * (1 - share) + HEAT[left + 1] * share).astype("uint8")
