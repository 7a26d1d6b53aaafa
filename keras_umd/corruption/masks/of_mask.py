"""What masks share that are made of another one."""

from keras_umd.corruption.masks.mask import Mask
from keras_umd.utils.checks import check_instances


class OfMask(Mask):
    """A mask made of another, with the ratio, the random numbers, the hints and the scores of that one.

    Args:
        mask: `Mask`.
    """

    def __init__(self, mask):
        check_instances(Mask, "a Mask, as Random(0.75),", mask=mask)
        super().__init__(mask.ratio)
        self.mask = mask

    @property
    def reads(self):
        return self.mask.reads

    def num_visible(self, grid):
        return self.mask.num_visible(grid)

    def num_draws(self, grid):
        return self.mask.num_draws(grid)

    def scores(self, draws, grid, hints=None):
        return self.mask.scores(draws, grid, hints)
