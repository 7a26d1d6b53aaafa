"""The decorator that makes a method a preset, what methods of clean images share, and the list of all methods."""

import dataclasses

from keras_umd.corruption.corruption import Corruption
from keras_umd.models.umd import UMD
from keras_umd.objectives import Objective
from keras_umd.utils.checks import check_instances


def method(paper, preset=None):
    """A decorator that makes a function of a corruption's settings a method that `UMD.from_preset` knows by its name.

    Example:

    >>> @methods.method("an idea of mine")
    ... def spots(**corruption):
    ...     view = View("clean", mask=masks.ColorNoise("green"))
    ...     return {"corruption": Corruption(views=[view], **corruption), "conditioning": "token"}
    >>> model = UMD.from_preset("spots_tiny_patch4_32", num_layers=1, decoder_layers=1)

    Args:
        paper: String, where it was published.
        preset: String, a preset of the size that the paper begins with. Defaults to `{name}_base_patch16_224`.
    """
    check_instances(str, "where the method was published, a string", paper=paper)
    check_instances(str, "the name of a preset", optional=True, preset=preset)

    def register(function):
        function.paper = paper
        function.preset = f"{function.__name__}_base_patch16_224" if preset is None else preset
        UMD.presets[function.__name__] = function
        return function

    return register


def clean_images(views, terms, corruption, **settings):
    """Settings of a method whose encoder sees clean images: views, terms of the loss, and a token as the condition.

    Args:
        views: List of `View`s.
        terms: List of the objective's terms.
        corruption: Dictionary, further arguments of `Corruption`.
        **settings: Constructor arguments of `UMD`, beside these or instead of them.
    """
    return {
        "corruption": Corruption(views=views, **corruption),
        "objective": Objective(terms),
        "conditioning": "token",
        **settings,
    }


@dataclasses.dataclass(frozen=True)
class Method:
    """A published method.

    Args:
        name: String, the first part of its presets' names.
        paper: String, where it was published.
        preset: String, for `UMD.from_preset`: a size that the paper has.
        summary: String, what it does.
    """

    name: str
    paper: str
    preset: str
    summary: str


def list_methods():
    """All methods that there are, those of one's own too, by name: a list of `Method`.

    Example:

    >>> "crossmae" in [method.name for method in keras_umd.methods.list()]
    True
    """
    return [
        Method(name, function.paper, function.preset, (function.__doc__ or "").strip().partition("\n")[0])
        for name, function in sorted(UMD.presets.items())
    ]
