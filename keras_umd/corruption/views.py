"""Lists of views: those of the paper, and what holds for all of a corruption's."""

from keras_umd.corruption.masks.random import Random
from keras_umd.corruption.noise.gaussian import Gaussian
from keras_umd.corruption.view import OPTIONAL, View
from keras_umd.utils.checks import require


def two_views(levels, clean_ratio, clean_mask_ratio, noisy_mask_ratio, decoded_ratio):
    """The views that the ratios describe: clean images, noisy ones, or both."""
    views = []
    if clean_ratio > 0:
        views.append(View("clean", None, Random(clean_mask_ratio), clean_ratio, decoded_ratio))
    if clean_ratio < 1:
        views.append(View("noisy", Gaussian(levels), Random(noisy_mask_ratio), 1 - clean_ratio, decoded_ratio))
    return views


def check_views(views):
    """The views as a list, checked: different names, and shares that add up to 1 or none at all."""
    views = list(views) if isinstance(views, (list, tuple)) else views
    require(
        isinstance(views, list) and views and all(isinstance(view, View) for view in views),
        "`views` must be a list of View.",
        views=views,
    )
    names = [view.name for view in views]
    require(len(set(names)) == len(names), "The names of `views` must differ.", names)
    hide_gaps = {view.mask is not None and view.mask.hides_gaps for view in views}
    require(len(hide_gaps) == 1, "All `views` must mask what is missing of images, as Given(), or none.", views)
    shares = [view.share for view in views]
    if any(share is None for share in shares):
        require(set(shares) == {None}, "Either all `views` have a share, or none has.", shares)
        levels = {repr(view.noise.levels) for view in views if view.noise is not None}
        require(len(levels) <= 1, "Noisy views of the same images must have the same levels.", levels)
    else:
        require(abs(sum(shares) - 1) <= 1e-6, "The shares of all `views` must add up to 1.", shares)
    return views


def finetuned(views):
    """The views of the paper's fine-tuning: at most 5% of the batch clean, no patch of a noisy image masked."""
    views = list(views)
    if all(view.noise is None for view in views):
        views.append(View("noisy", Gaussian()))
    total = sum(view.share or 1.0 for view in views)
    clean_share = sum(view.share or 1.0 for view in views if view.noise is None) / total
    kept = min(clean_share, 0.05)
    shares = [(view.share or 1.0) / total for view in views]

    def own(view):
        return {name: getattr(view, name) for name in OPTIONAL}

    return [
        View(view.name, None, _of_whole_images(view.mask), share * kept / clean_share, view.decoded_ratio, **own(view))
        if view.noise is None
        else View(view.name, view.noise.for_finetuning(), None, share * (1 - kept) / (1 - clean_share))
        for view, share in zip(views, shares, strict=True)
    ]


def _of_whole_images(mask):
    """A mask for images of which nothing is missing, as noisy ones that lose no patch must be, that asks nobody."""
    while mask is not None and mask.hides_gaps:
        mask = mask.mask
    # What it reads, terms of another objective gave.
    return Random(mask.ratio) if mask is not None and mask.reads else mask
