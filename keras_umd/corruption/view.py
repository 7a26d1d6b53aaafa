"""Images of a batch that are corrupted alike."""

import math

import keras
from keras import ops

from keras_umd.corruption.changes.change import Change
from keras_umd.corruption.masks.given import GAPS
from keras_umd.corruption.masks.mask import Mask
from keras_umd.corruption.noise.noise import Noise
from keras_umd.layers.masking import ranks
from keras_umd.layers.patches import as_tuple, patch_grid, patchify
from keras_umd.utils.checks import check_bools, check_instances, check_numbers, require
from keras_umd.utils.configurable import Configurable

# Settings that came later: where they are as by default, a view is described as before.
OPTIONAL = {"change": None, "gives_class": False, "decoded": None, "unplaced": 0.0}
# Of a view, what only targets read: the network must not get it, and Keras would cast it to the compute type.
TRUTH = ("x0", "noise", "level", "missing", "changed", "removed", "class", "still")


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
        change: `Change`, what is changed in the values of clean images, or `None`.
        gives_class: Bool. Whether terms of the objective get the labels of clean images, as
            `objectives.Classification` needs; the network doesn't.
        decoded: `Mask`, as `RunningCell()`, of whose scores the lowest are decoded, instead of a random subset.
        unplaced: Float in [0, 1). Share of the visible patches of clean images whose place the encoder isn't told, for
            `objectives.Position`.
    """

    def __init__(
        self,
        name,
        noise=None,
        mask=None,
        share=None,
        decoded_ratio=1.0,
        change=None,
        gives_class=False,
        decoded=None,
        unplaced=0.0,
    ):
        check_instances(str, "the name of the view, a string", name=name)
        check_instances(Noise, "a Noise, as Gaussian(),", optional=True, noise=noise)
        check_instances(Mask, "a Mask, as Random(0.5),", optional=True, mask=mask)
        check_numbers("(0, 1]", optional=True, share=share)
        check_numbers("(0, 1]", decoded_ratio=decoded_ratio)
        check_instances(Mask, "a Mask, as RunningCell(),", optional=True, decoded=decoded)
        require(
            decoded is None or not decoded.reads,
            "`decoded` can't read hints of a model, as Attention().",
            decoded=decoded,
        )
        check_instances(Change, "a Change, as changes.Frequency(),", optional=True, change=change)
        check_bools(gives_class=gives_class)
        check_numbers("[0, 1)", unplaced=unplaced)
        require(
            noise is None or (change is None and not gives_class and not unplaced),
            "`change`, `gives_class` and `unplaced` are for clean views; leave out the `noise`.",
            noise=noise,
        )
        require(
            noise is None or mask is None or not mask.hides_tokens,
            "Masks whose ratio varies are for clean views; leave out the `noise`.",
            noise=noise,
        )
        require(
            noise is None or not noise.is_of_masked or (mask is not None and not mask.hides_nothing),
            "Noise of masked patches needs a `mask` that masks some, as Random(0.75).",
            noise=noise,
            mask=mask,
        )
        self.name = name
        self.noise = noise
        self.mask = None if mask is None or mask.hides_nothing else mask
        self.share = share
        self.decoded_ratio = decoded_ratio
        self.decoded = decoded
        self.change = change
        self.gives_class = gives_class
        self.unplaced = unplaced

    def get_config(self):
        config = super().get_config()
        for name, default in OPTIONAL.items():  # views of before are described as before
            if config[name] == default:
                del config[name]
        return config

    def corrupt(self, x0, own, patch_size, schedule, hints=None):
        """The tensors of the view, as of `Corruption.corrupt`. A pure function.

        Args:
            x0: Float32 tensor of shape `(n, *image_shape)`, its images before anything is done to them.
            own: callable, from the name of a draw, or `"labels"`, to the rows `(n, ...)` that are the view's. Labels
                may be `None`.
            patch_size: Integer or tuple of integers, one for each space axis.
            schedule: `NoiseSchedule`.
            hints: Dictionary of tensors about the images, `(n, ...)`, or `None`.
        """
        grid = patch_grid(x0.shape[1:], patch_size)
        if self.noise is None:
            tensors = self._clean(x0, own, patch_size, grid, hints)
        else:
            tensors = self._noisy(x0, own, patch_size, schedule, hints)
        return tensors if self.mask is None else {**tensors, **self.split(own("mask_noise"), grid, hints)}

    def _clean(self, x0, own, patch_size, grid, hints):
        timesteps = own("timesteps")
        # A view of every image is given the timesteps of the noisy views beside it.
        tensors = {"images": x0, "x0": x0, "timesteps": ops.zeros_like(timesteps) if self.share is None else timesteps}
        if self.change is not None:
            tensors.update(self.changed(x0, own("mask_noise"), patch_size, own("noise"), hints))
        if self.unplaced:
            tensors.update(self.without_places(own("mask_noise"), grid))
        if self.gives_class and own("labels") is not None:
            tensors["class"] = own("labels")
        return tensors

    def _noisy(self, x0, own, patch_size, schedule, hints):
        timesteps, noise, labels = own("timesteps"), own("noise"), own("labels")
        tensors = {
            "images": self.noise(x0, noise, timesteps, schedule),
            "x0": x0,
            "noise": noise,
            "timesteps": timesteps,
            "level": self.noise.level(timesteps, schedule, len(x0.shape)),
        }
        if labels is not None:
            tensors.update(labels=labels, label_drop=own("label_drop"))
        if self.noise.is_graded:
            tensors.update(self.graded(x0, noise, timesteps, schedule, own("mask_noise"), patch_size, hints))
        return self.noise.for_decoder(tensors) if self.noise.is_of_masked else tensors

    @property
    def is_noisy(self):
        """Whether the encoder sees noise."""
        return self.noise is not None and not self.noise.is_of_masked

    @property
    def shows_noise(self):
        """Whether the decoder sees noise, where patches are masked."""
        return self.noise is not None and self.noise.is_of_masked

    def num_draws(self, grid):
        """The uniform numbers that mask, change and places want for an image, with those for the second shuffle."""
        return self._num_mask_draws(grid) + self._num_change_draws(grid) + self.num_visible(grid) * (self.unplaced > 0)

    def _num_change_draws(self, grid):
        return 0 if self.change is None else self.change.num_draws(grid)

    def _num_mask_draws(self, grid):
        if self.mask is None:
            return 0
        if not self._shuffles_again:
            return self.mask.num_draws(grid)
        return self.mask.num_draws(grid) + (math.prod(grid) if self.decoded is None else self.decoded.num_draws(grid))

    def num_visible(self, grid):
        """The number of patches of an image that the encoder sees."""
        return math.prod(grid) if self.mask is None else self.mask.num_visible(grid)

    def num_decoded(self, grid):
        """The number of masked patches of an image that training decodes: at least one, if there is one."""
        num_masked = math.prod(grid) - self.num_visible(grid)
        return min(max(1, round(num_masked * self.decoded_ratio)), num_masked)

    def changed(self, images, draws, patch_size, noise, hints=None):
        """What the network sees of clean images, and what was changed, as of `Change`; `{}` for nothing.

        Args:
            images, patch_size, noise, hints: As of `Change`.
            draws: As of `split`.
        """
        if self.change is None:
            return {}
        grid = patch_grid(images.shape[1:], patch_size)
        start = self._num_mask_draws(grid)
        own = draws[:, start : start + self._num_change_draws(grid)]
        return self.change(images, own, as_tuple(patch_size, len(grid)), noise, hints)

    def without_places(self, draws, grid):
        """Which of the visible patches aren't told their place, `{"unplaced": (n, visible)}`, bool; `{}` for none."""
        if not self.unplaced:
            return {}
        start, number = self._num_mask_draws(grid) + self._num_change_draws(grid), self.num_visible(grid)
        return {"unplaced": ranks(draws[:, start : start + number]) < round(number * self.unplaced)}

    def graded(self, x0, noise, timesteps, schedule, draws, patch_size, hints=None):
        """The tensors of noisy images whose levels differ by patch, as of `noise.Graded`; `{}` for one level each.

        Args:
            x0, noise, timesteps, schedule: As of `Noise`.
            draws, hints: As of `split`.
            patch_size: Integer or tuple of integers.
        """
        if not self.noise.is_graded:
            return {}
        grid = patch_grid(x0.shape[1:], patch_size)
        if self.mask is None:
            scores = draws[:, : math.prod(grid)]
        else:
            scores = self.mask.scores(draws[:, : self.mask.num_draws(grid)], grid, hints)
        number = self.num_visible(grid)
        return self.noise.by_patch(
            x0, noise, timesteps, schedule, ops.cast(ranks(scores), "int32"), number, as_tuple(patch_size, len(grid))
        )

    def split(self, draws, grid, hints=None):
        """The indices of visible and of decoded patches, `{"visible": (n, v), "masked": (n, d)}`; `{}` for all.

        Of a mask that knows of missing patches, with `missing`, bool `(n, num_patches)`; of one that hides tokens, with
        `hidden`, bool `(n, v)`.

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
            if self.decoded is None:
                scores = draws[:, width : width + masked.shape[1]]
            else:
                own = draws[:, width : width + self.decoded.num_draws(grid)]
                scores = ops.take_along_axis(self.decoded.scores(own, grid, hints), masked, axis=1)
            order = ops.argsort(scores, axis=1)
            masked = ops.take_along_axis(masked, order, axis=1)
        chosen = {"visible": visible, "masked": masked[:, : self.num_decoded(grid)]}
        if self.mask.hides_tokens:
            chosen["hidden"] = self.mask.hidden(draws[:, :width], grid)
        missing = self.mask.missing(hints)
        return chosen if missing is None else {**chosen, "missing": missing}

    @property
    def _shuffles_again(self):
        return self.decoded_ratio < 1 and not (self.mask.is_unordered and self.decoded is None)


def network_inputs(view):
    """The view's tensors that the network reads, without what it must predict."""
    return {name: x for name, x in view.items() if name not in TRUTH}


def without_gaps(images, patch_size, hints):
    """The images with 0 in place of NaN, and the hints with the patches of which something is missing."""
    is_missing = ops.isnan(images)
    patches = ops.any(patchify(is_missing, patch_size), axis=-1)
    return ops.where(is_missing, 0.0, images), {**(hints or {}), GAPS: patches}
