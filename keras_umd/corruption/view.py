"""Images of a batch that are corrupted alike."""

import math

import keras
from keras import ops

from keras_umd.corruption.masks.given import GAPS
from keras_umd.corruption.masks.mask import Mask
from keras_umd.corruption.noise.gaussian import Gaussian
from keras_umd.corruption.noise.noise import Noise
from keras_umd.layers.patches import patchify
from keras_umd.utils.checks import check_instances, check_numbers, require
from keras_umd.utils.configurable import Configurable

# Of a view, what only targets read: the network must not get it, and Keras would cast it to the compute type.
TRUTH = ("x0", "noise", "level", "missing")


@keras.saving.register_keras_serializable("keras_umd")
class View(Configurable):
    """Images of a batch that are corrupted alike: what the network sees of them.

    Example:

    >>> half_masked = View("noisy", noise=noise.Gaussian(), mask=masks.Random(0.5))

    Args:
        name: String. Losses are named after it.
        noise: `Noise`, or `None` for clean images. Only noisy images carry a label.
        mask: `Mask`, or `None` where all patches are visible.
        share: Float in (0, 1], the share of the batch that is seen this way; the shares of all views add up to 1.
            `None` for a view of every image.
        decoded_ratio: Float in (0, 1]. Share of the masked patches that are decoded and predicted in training, a random
            subset (Fu et al., "CrossMAE", 2024).
    """

    def __init__(self, name, noise=None, mask=None, share=None, decoded_ratio=1.0):
        check_instances(str, "the name of the view, a string", name=name)
        check_instances(Noise, "a Noise, as Gaussian(),", optional=True, noise=noise)
        check_instances(Mask, "a Mask, as Random(0.5),", optional=True, mask=mask)
        check_numbers("(0, 1]", optional=True, share=share)
        check_numbers("(0, 1]", decoded_ratio=decoded_ratio)
        self.name = name
        self.noise = noise
        self.mask = mask if mask is not None and mask.ratio else None
        self.share = share
        self.decoded_ratio = decoded_ratio

    def num_draws(self, grid):
        """The uniform numbers that the mask wants for an image, with those for the second shuffle."""
        if self.mask is None:
            return 0
        return self.mask.num_draws(grid) + (math.prod(grid) if self._shuffles_again else 0)

    def num_visible(self, grid):
        """The number of patches of an image that the encoder sees."""
        return math.prod(grid) if self.mask is None else self.mask.num_visible(grid)

    def num_decoded(self, grid):
        """The number of masked patches of an image that training decodes: at least one, if there is one."""
        num_masked = math.prod(grid) - self.num_visible(grid)
        return min(max(1, round(num_masked * self.decoded_ratio)), num_masked)

    def split(self, draws, grid, hints=None):
        """The indices of visible and of decoded patches, `{"visible": (n, v), "masked": (n, d)}`; `{}` for all.

        Of a mask that knows of missing patches, with `missing`, bool `(n, num_patches)`.

        Args:
            draws: Float32 tensor of shape `(n, num_draws(grid))` or wider, uniform in [0, 1).
            grid, hints: As of `Mask.scores`.
        """
        if self.mask is None:
            return {}
        width = self.mask.num_draws(grid)
        visible, masked = self.mask(draws[:, :width], grid, hints)
        if self._shuffles_again:
            # The first of the masked patches would be those with the lowest scores, not a random subset.
            order = ops.argsort(draws[:, width : width + masked.shape[1]], axis=1)
            masked = ops.take_along_axis(masked, order, axis=1)
        chosen = {"visible": visible, "masked": masked[:, : self.num_decoded(grid)]}
        missing = self.mask.missing(hints)
        return chosen if missing is None else {**chosen, "missing": missing}

    @property
    def _shuffles_again(self):
        return self.decoded_ratio < 1 and not self.mask.is_unordered


def network_inputs(view):
    """The view's tensors that the network reads, without what it must predict."""
    return {name: x for name, x in view.items() if name not in TRUTH}


def without_gaps(images, patch_size, hints):
    """The images with 0 in place of NaN, and the hints with the patches of which something is missing."""
    is_missing = ops.isnan(images)
    patches = ops.any(patchify(is_missing, patch_size), axis=-1)
    return ops.where(is_missing, 0.0, images), {**(hints or {}), GAPS: patches}


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
    return [
        View(view.name, None, _of_whole_images(view.mask), share * kept / clean_share, view.decoded_ratio)
        if view.noise is None
        else View(view.name, view.noise, None, share * (1 - kept) / (1 - clean_share))
        for view, share in zip(views, shares, strict=True)
    ]


def _of_whole_images(mask):
    """A mask for images of which nothing is missing, as noisy ones that lose no patch must be."""
    return mask.mask if mask is not None and mask.hides_gaps else mask
