"""Masks that look: they read what a network thinks of an image."""

import math

import keras
from keras import ops

from keras_umd.corruption.masks.mask import Mask
from keras_umd.layers.masking import ranks
from keras_umd.utils.checks import check_integers, check_numbers, check_one_of, is_pair, require

# The hints that a teacher gives, (n, num_patches), and its number of updates, (n,).
ATTENTION, DIFFICULTY, UPDATES = "attention", "difficulty", "updates"
MODES = ("hint", "high", "low")


def _read(mask, hints):
    missing = [name for name in mask.reads if name not in (hints or {})]
    require(not missing, f"{type(mask).__name__} reads hints of a teacher, which aren't there.", missing)
    return [ops.cast(ops.convert_to_tensor(hints[name]), "float32") for name in mask.reads]


def _ranks(scores):
    """The place of each patch by rising score, `(n, num_patches)`, float32."""
    return ops.cast(ranks(scores), "float32")


@keras.saving.register_keras_serializable("keras_umd")
class Attention(Mask):
    """Masks the patches where the teacher's class token looks (AttMask; Kakogeorgiou et al., 2022, section 3.2).

    Its model needs a `teacher`.

    Example:

    >>> corruption = Corruption(views=[View("clean", mask=Attention(0.75))])
    >>> sizes = {"hidden_dim": 32, "num_layers": 1, "num_heads": 2, "decoder_layers": 1}
    >>> model = UMD((8, 8, 1), 2, **sizes, corruption=corruption, teacher=keras_umd.Teacher())

    Args:
        ratio: Float in [0, 1). Share of the patches to mask.
        mode: `"high"` masks what is most attended to; `"hint"` too, but shows some of it; `"low"` what is least.
        show: Float in [0, 1], of `"hint"`: the share of all patches, those most attended to, that hints are taken from;
            `ratio` of these, a random subset, stay visible.
        probability: Float in [0, 1], the share of the images that are masked so; the others lose random patches, all of
            them with 0.
    """

    reads = (ATTENTION,)

    def __init__(self, ratio=0.75, mode="hint", show=0.1, probability=1.0):
        super().__init__(ratio)
        check_one_of(MODES, mode=mode)
        check_numbers("[0, 1]", show=show, probability=probability)
        self.mode = mode
        self.show = show
        self.probability = probability

    def num_draws(self, grid):
        return math.prod(grid) + 1

    def scores(self, draws, grid, hints=None):
        num_patches = math.prod(grid)
        draws, chosen = draws[:, :num_patches], draws[:, num_patches:] < self.probability
        (attention,) = _read(self, hints)
        order = _ranks(-attention if self.mode == "low" else attention)
        if self.mode == "hint":
            is_top = order >= num_patches - int(self.show * num_patches + 1e-9)
            num_shown = min(int(self.show * self.ratio * num_patches + 1e-9), self.num_visible(grid))
            is_shown = ops.logical_and(is_top, _ranks(ops.where(is_top, draws, 2.0)) < num_shown)
            order = ops.where(is_shown, -1.0, order)
        return ops.where(chosen, order, draws)


@keras.saving.register_keras_serializable("keras_umd")
class HardPatches(Mask):
    """Masks patches that are hard to predict, and random ones (HPM; Wang et al., 2023, section 3.3).

    The teacher says what is hard, by the order that the term `Difficulty` learns; its model needs both. By default it
    goes from easy to hard: at first all masked patches are random.

    Example:

    >>> corruption = Corruption(views=[View("clean", mask=HardPatches(0.75, (0.0, 0.5), steps=1000))])
    >>> terms = [Reconstruction("clean", targets.Pixels()), Difficulty("clean", targets.Pixels())]
    >>> parts = {"corruption": corruption, "objective": Objective(terms), "teacher": keras_umd.Teacher()}
    >>> sizes = {"hidden_dim": 32, "num_layers": 1, "num_heads": 2, "decoder_layers": 1}
    >>> model = UMD((8, 8, 1), 2, **sizes, **parts)

    Args:
        ratio: Float in [0, 1). Share of the patches to mask.
        share: Float in [0, 1], the share of the masked patches that are the hardest; or a pair, from which to which it
            goes in `steps`. With 0 the mask is `Random`.
        steps: Integer, the updates of the weights in which a pair is gone through, those of the training; else `None`.
    """

    def __init__(self, ratio=0.75, share=0.5, steps=None):
        super().__init__(ratio)
        is_rising = is_pair(share, 0, 1)
        if not is_rising:
            check_numbers("[0, 1]", share=share)
        check_integers(1, optional=True, steps=steps)
        require((steps is not None) == is_rising, "`steps` are for a pair as `share`.", share=share, steps=steps)
        self.share = tuple(share) if is_rising else share
        self.steps = steps

    @property
    def reads(self):
        return (DIFFICULTY,) if self.steps is None else (DIFFICULTY, UPDATES)

    def scores(self, draws, grid, hints=None):
        difficulty, *updates = _read(self, hints)
        share = self.share
        if updates:
            updates = ops.reshape(updates[0], (ops.shape(draws)[0], -1))[:, :1]
            progress = ops.minimum(updates / self.steps, 1.0)
            share = share[0] + (share[1] - share[0]) * progress  # (n, 1)
        num_patches = math.prod(grid)
        num_hard = ops.floor((num_patches - self.num_visible(grid)) * share + 1e-4)
        is_hard = _ranks(difficulty) >= num_patches - num_hard
        return draws[:, :num_patches] + 2.0 * ops.cast(is_hard, "float32")


@keras.saving.register_keras_serializable("keras_umd")
class Adaptive(Mask):
    """Shows patches by the probabilities that a term learns (AdaMAE; Bandara et al., 2023, section 3.2).

    They are drawn without replacement, by adding Gumbel noise to the logarithms. The objective needs the term
    `SamplingPolicy`.

    Example:

    >>> corruption = Corruption(views=[View("clean", mask=Adaptive(0.75))])
    >>> terms = [Reconstruction("clean", targets.Pixels()), SamplingPolicy("clean", targets.Pixels())]
    >>> sizes = {"hidden_dim": 32, "num_layers": 1, "num_heads": 2, "decoder_layers": 1}
    >>> model = UMD((8, 8, 1), 2, **sizes, corruption=corruption, objective=Objective(terms))

    Args:
        ratio: Float in [0, 1). Share of the patches to mask; 0.95 in the paper, of videos.
        floor: Float in [0, 1], the share of the probability that all patches have alike; 0 in the paper, and with 1
            the mask is `Random`.
    """

    reads = ("log_probability",)

    def __init__(self, ratio=0.95, floor=0.1):
        super().__init__(ratio)
        check_numbers("[0, 1]", floor=floor)
        self.floor = floor

    def scores(self, draws, grid, hints=None):
        num_patches = math.prod(grid)
        (log_probability,) = _read(self, hints)
        probability = (1 - self.floor) * ops.exp(log_probability) + self.floor / num_patches
        # The Gumbel noise of 1 - U: so that equal probabilities give the order of U.
        uniform = ops.clip(1.0 - draws[:, :num_patches], 1e-7, 1.0 - 1e-7)
        gumbel = -ops.log(-ops.log(uniform))
        return -(ops.log(ops.maximum(probability, 1e-30)) + gumbel)
