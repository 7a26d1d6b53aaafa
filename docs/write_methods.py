"""Writes what stands on the pages of methods from the code: `python docs/write_methods.py`.

Each method of `keras_umd.methods` has a page docs/methods/NAME.md. Its text is written by hand; between the two marks
stand its settings and the picture of its masks. A method without a page gets one.
"""

import os
import pathlib

os.environ.setdefault("KERAS_BACKEND", "torch")

from keras_umd import Objective, methods, plots
from keras_umd.objectives import Reconstruction, Spectrum

PAGES = pathlib.Path(__file__).resolve().parent / "methods"
BEGIN, END = "<!-- begin: written by docs/write_methods.py -->", "<!-- end -->"
GRID, VIDEO_GRID = (14, 14), (4, 14, 14)
VIDEOS = ("adamae", "video_mae_random", "videomae", "videomae_v2")


def settings_of(method):
    """The corruption and the objective of a method, by its name."""
    arguments = getattr(methods, method.name)()
    corruption = arguments["corruption"]
    return corruption, arguments.get("objective") or Objective.denoising(corruption)


def block(method):
    """The part of a page that is written from the code."""
    corruption, objective = settings_of(method)
    changes = any(view.change is not None for view in corruption.views)
    lines = [
        BEGIN,
        "## Settings, from the code",
        "",
        f"`keras_umd.methods.{method.name}()`. {method.summary}",
        "",
        f"- Paper: {method.paper}",
        f'- A size that it has: `keras_umd.UMD.from_preset("{method.preset}")`',
        _path(corruption),
        *_parts(method),
        "",
        f"| view | share of a batch | noise | {'change' if changes else 'mask'} | loss |",
        "| --- | --- | --- | --- | --- |",
        *(_row(view, objective) for view in corruption.views),
    ]
    if has_masks(method):
        lines += [
            "",
            f"![Masks of {method.name}: dark patches are hidden, a row for each view]({method.name}_masks.png)",
        ]
    return "\n".join([*lines, END])


def _path(corruption):
    """The line of the path from images to noise."""
    if not any(view.noise for view in corruption.views):
        return "- No image is noisy, so it can't generate"
    of_decoder = "" if any(view.is_noisy for view in corruption.views) else "; the decoder's, so it can't generate"
    return f"- Path: `{corruption.noise_schedule!r}`{of_decoder}"


def _parts(method):
    """Lines of the parts of the network that aren't the paper's, where a method has some."""
    arguments = getattr(methods, method.name)()
    return [f"- {name.capitalize()}: `{arguments[name]!r}`" for name in ("decoder", "teacher") if name in arguments]


def _row(view, objective):
    share = "every image" if view.share is None else f"{view.share:.4g}"
    noise = "none" if view.noise is None else f"`{view.noise!r}`"
    hidden = view.mask if view.change is None else view.change
    mask = "none" if hidden is None else f"`{hidden!r}`"
    if view.change is not None and view.mask is not None:
        mask += f", then `{view.mask!r}`"
    if view.decoded_ratio < 1:
        by = "" if view.decoded is None else f", by `{view.decoded!r}`"
        mask += f"; {view.decoded_ratio:.0%} of the masked patches are decoded{by}"
    losses = "; ".join(_loss(term) for term in objective.terms if term.view == view.name)
    return f"| {view.name} | {share} | {noise} | {mask} | {losses or 'none'} |"


def _loss(term):
    target, where = getattr(term, "target", None), getattr(term, "where", None)
    name, of = f"`{type(term).__name__}`", "frequencies" if isinstance(term, Spectrum) else "patches"
    text = name if target is None else f"`{target!r}`" if type(term) is Reconstruction else f"{name} of `{target!r}`"
    text += "" if where is None else f", {where} {of}"
    return text if term.weight == 1 else f"{text}, weight {term.weight:g}"


def has_masks(method):
    views = settings_of(method)[0].views
    return any(view.mask is not None or getattr(view.change, "mask", None) is not None for view in views)


def with_block(text, method):
    """The text of a page with its written part renewed, or put at its end."""
    before, _, rest = text.partition(BEGIN)
    return f"{before.rstrip()}\n\n{block(method)}\n{rest.partition(END)[2].lstrip(chr(10))}"


def page_of(method):
    return PAGES / f"{method.name}.md"


def listed():
    """The methods of the library, without those of one's own."""
    return [method for method in methods.list() if method.name in methods.__all__]


if __name__ == "__main__":
    for method in listed():
        path = page_of(method)
        text = path.read_text() if path.exists() else f"# {method.name}\n\n{method.summary}\n"
        path.write_text(with_block(text, method))
        if has_masks(method):
            grid = VIDEO_GRID if method.name in VIDEOS else GRID
            number = 2 if method.name in VIDEOS else 6
            plots.save_image(PAGES / f"{method.name}_masks.png", plots.masks(settings_of(method)[0], grid, number, 5))
        print(path)
