"""A callback that changes a view's mask during a training."""

import keras
import numpy as np

from keras_umd.corruption.masks import Mask, Random
from keras_umd.utils.checks import check_instances, check_integers, check_numbers, is_between, require


class MaskStages(keras.callbacks.Callback):
    """Gives a view other masks as the training goes on, such as rising ratios: a program for each of them.

    What begins with few patches masked learns faster at first (Ma et al., "LMD", 2023). A training that resumes has
    the mask of its epoch.

    Example:

    >>> stages = callbacks.MaskStages.rising(0.15, 0.75, epochs=4, stages=2, view="clean")
    >>> history = model.fit(images, epochs=4, callbacks=[stages])

    Args:
        masks: Dictionary from the epochs from which on they hold, integers, 0 among them, to `Mask`s.
        view: String, the name of the view. Defaults to the only one that masks.
    """

    def __init__(self, masks, view=None):
        super().__init__()
        is_dict = isinstance(masks, dict) and 0 in masks and all(is_between(epoch, 0, 10**9) for epoch in masks)
        require(is_dict, "`masks` must be a dictionary from epochs, 0 among them, to masks.", masks=masks)
        for mask in masks.values():
            check_instances(Mask, "a Mask, as Random(0.75),", masks=mask)
            require(mask.ratio > 0, "The `masks` of a stage must mask something.", masks=mask)
        check_instances(str, "the name of a view", optional=True, view=view)
        self.masks = dict(sorted(masks.items()))
        self.view = view

    @classmethod
    def rising(cls, low=0.15, high=0.75, *, epochs, until=2 / 3, stages=8, make=Random, view=None):
        """Ratios from `low` to `high` along half a cosine (LMD): each stage has the ratio of its middle.

        Args:
            low, high: Floats in (0, 1).
            epochs: Integer, those of the training.
            until: Float in (0, 1], the share of the epochs after which the ratio stays `high`.
            stages: Integer, the number of ratios before `high`.
            make: Function from a ratio to a `Mask`.
            view: As of the constructor.
        """
        check_numbers("(0, 1)", low=low, high=high)
        check_integers(1, epochs=epochs, stages=stages)
        check_numbers("(0, 1]", until=until)
        is_right = callable(make) and isinstance(make(0.5), Mask)
        require(is_right, "`make` must be a function from a ratio to a mask.", make=make)
        ratios = low + (high - low) * (1 - np.cos(np.pi * (np.arange(stages) + 0.5) / stages)) / 2
        starts = [int(epochs * until * stage / stages) for stage in range(stages)]
        found = {start: make(float(ratio)) for start, ratio in zip(starts, ratios, strict=True)}
        return cls({**found, max(int(epochs * until), 1): make(float(high))}, view)

    def on_epoch_begin(self, epoch, logs=None):
        mask = self.masks[max(start for start in self.masks if start <= epoch)]
        view = self._view()
        if repr(view.mask) == repr(mask):
            return
        require(
            not mask.hides_tokens and view.mask is not None and not view.mask.hides_tokens,
            "A view whose masks change must mask from the beginning, and none of its masks may hide tokens.",
            mask=view.mask,
        )
        mask.num_visible(self.model.grid)
        view.mask = mask
        self.model.make_train_function(force=True)
        self.model.test_function = None

    def _view(self):
        found = [
            view for view in self.model.corruption.views if view.mask is not None and self.view in (None, view.name)
        ]
        require(
            len(found) == 1,
            "`view` must be the name of a view of the model that masks.",
            f"view={self.view!r} for {[view.name for view in self.model.corruption.views]}",
        )
        return found[0]
