"""Images without some of their channels."""

import keras
import numpy as np
from keras import ops

from keras_umd.corruption.changes.change import Change
from keras_umd.utils.checks import check_integers, check_one_of, is_list, require

BASES = {
    None: None,
    # Grey, red against green, yellow against blue: orthonormal rows.
    "opponent": np.array([[1, 1, 1], [1, -1, 0], [1, 1, -2]]) / np.sqrt([[3], [2], [6]]),
}


@keras.saving.register_keras_serializable("keras_umd")
class HideChannels(Change):
    """Hides some channels of all patches, to be predicted from the others (Zhang et al., "Split-Brain", 2017).

    Two views that hide each other's channels are the paper's two halves, in one network; `targets.Channels` with the
    same arguments is what each of them predicts. The paper's colours are those of Lab; here they are a rotation of
    RGB, so that what is hidden is exactly 0, the middle of the value range.

    Example:

    >>> views = [View("grey", change=HideChannels((1, 2), "opponent"), share=0.5),     # sees grey, predicts colour
    ...          View("colour", change=HideChannels((0,), "opponent"), share=0.5)]

    Args:
        hidden: Tuple of different integers from 0, the channels to hide.
        basis: `None` for the channels as they are, such as those of a satellite; `"opponent"` for grey (0), red against
            green (1) and yellow against blue (2) of RGB images.
    """

    def __init__(self, hidden, basis=None):
        self.hidden = checked_channels(hidden, basis)
        self.basis = basis

    def __call__(self, images, draws, patch_size, noise, hints=None):
        check_number(self.hidden, self.basis, images.shape[-1])
        require(
            len(self.hidden) < images.shape[-1],
            "`hidden` must leave a channel of the images.",
            f"hidden={self.hidden} of {images.shape[-1]} channels",
        )
        hides = np.isin(np.arange(images.shape[-1]), self.hidden)
        if self.basis is None:
            return {"images": ops.where(hides, 0.0, images)}
        rows = BASES[self.basis][~hides]
        return {"images": ops.matmul(images, ops.convert_to_tensor((rows.T @ rows).astype("float32")))}


def checked_channels(hidden, basis):
    """The hidden channels as a tuple, checked."""
    require(is_list(hidden) and len(hidden), "`hidden` must be a tuple of integers, at least one.", hidden=hidden)
    for channel in hidden:
        check_integers(0, 100_000, hidden=channel)
    require(len(set(hidden)) == len(hidden), "`hidden` must be different integers.", hidden=hidden)
    check_one_of(tuple(BASES), basis=basis)
    if basis is not None:
        check_number(hidden, basis, len(BASES[basis]))
    return tuple(map(int, hidden))


def check_number(hidden, basis, channels):
    """Raise a ValueError for channels that images with so many don't have."""
    require(
        max(hidden) < channels and (basis is None or channels == len(BASES[basis])),
        "`hidden` must be channels of the images, and a basis needs images with three.",
        f"hidden={hidden}, basis={basis!r} for {channels} channels",
    )


def components(images, hidden, basis):
    """The hidden channels of images, `(n, *space, len(hidden))`."""
    check_number(hidden, basis, images.shape[-1])
    rows = np.eye(images.shape[-1]) if basis is None else BASES[basis]
    return ops.matmul(images, ops.convert_to_tensor(rows[list(hidden)].T.astype("float32")))
