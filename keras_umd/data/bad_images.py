"""The book-keeping of images that can't be used, and of those that had to be enlarged."""

import warnings

import numpy as np

NUM_NAMED = 3  # images in a message


class BadImages:
    """Counts images in the batches of an epoch, and warns at its end of those that are new.

    Attributes:
        reasons: Dictionary from the names of images that couldn't be used, of all epochs, to the reasons.
        num_bad: Integer, of this epoch, since its reading began.
    """

    def __init__(self):
        self.reasons = {}
        self._num_reported = 0  # of `reasons`
        self._are_small_reported = False
        self.begin()

    def begin(self):
        """Count anew: an epoch begins, or is read from another place on."""
        self.num_bad, self._num_small, self._first_small = 0, 0, []

    def count(self, batch, bad):
        """Note the images of a `Batch` at the places `bad`, and the small ones among the others."""
        self.reasons.update((batch.name(place), batch.reasons[place]) for place in bad)
        self.num_bad += len(bad)
        small = [place for place in np.flatnonzero(batch.is_small) if place not in bad]
        self._num_small += len(small)
        self._first_small += [(batch.name(place),) for place in small[: NUM_NAMED - len(self._first_small)]]

    def named(self):
        """The first bad images and the reasons, for messages."""
        return _first(self.reasons.items())

    def warn(self, image_shape):
        """Warn of what is new since the last warning."""
        if self._num_small and not self._are_small_reported:
            warnings.warn(
                f"{self._num_small} images are smaller than {image_shape[0]}x{image_shape[1]} pixels "
                f"and were enlarged: {_first(self._first_small, self._num_small)}",
                stacklevel=5,
            )
            self._are_small_reported = True
        if len(self.reasons) > self._num_reported:
            warnings.warn(
                f"{len(self.reasons)} images can't be used and were left out: {self.named()} "
                "(`bad_images` has all of them)",
                stacklevel=5,
            )
        self._num_reported = len(self.reasons)


def printable(name):
    """A name that can be printed, whatever its bytes are."""
    return str(name).encode(errors="backslashreplace").decode()


def _first(items, num_items=None):
    """The first names, with the reasons where there are any, and dots if `num_items` are more."""
    items = sorted(items)
    num_items = len(items) if num_items is None else num_items
    named = [
        "".join((printable(name), *(f" ({reason})" for reason in reasons))) for name, *reasons in items[:NUM_NAMED]
    ]
    return ", ".join(named) + (", ..." if num_items > len(named) else "")
