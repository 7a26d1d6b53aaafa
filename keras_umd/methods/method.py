"""The decorator that makes a method a preset."""

from keras_umd.models.umd import UMD


def method(paper):
    """A decorator that makes a function of a corruption's settings a method that `UMD.from_preset` knows by its name.

    Example:

    >>> @method("Hinojosa et al., ColorMAE, 2024")
    ... def colormae(**corruption):
    ...     view = View("clean", mask=masks.ColorNoise("green"))
    ...     return {"corruption": Corruption(views=[view], **corruption), "conditioning": "token"}
    >>> UMD.from_preset("colormae_base_patch16_224")

    Args:
        paper: String, where it was published.
    """

    def register(function):
        function.paper = paper
        UMD.presets[function.__name__] = function
        return function

    return register
