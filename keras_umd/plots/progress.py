"""The course of a training as one picture."""

import math

import numpy as np

from keras_umd.plots.figures import check_picture, new_figure, rendered
from keras_umd.utils.checks import check_instances, is_list, require


def progress(losses, scores, pictures=None, title=None):
    """Draw the course of a training: losses, scores and the latest pictures; needs the extra `plots`.

    Example:

    >>> picture = progress({"loss": [(100, 1.2), (200, 0.7)]}, {"probe/10-shot": [(200, 0.4)]})

    Args:
        losses: Dictionary from names in the logs of `fit` to curves, lists of pairs `(step, value)`. `val_NAME` is
            dashed, in the colour of `NAME`.
        scores: Dictionary of curves by name. Those whose names are equal before their last `"/"` share a panel.
        pictures: Dictionary of uint8 arrays `(height, width, 3)` by name.
        title: String.

    Returns:
        uint8 array of shape `(height, width, 3)`, at most 1000 x 1600.
    """
    for name, curves in (("losses", losses), ("scores", scores)):
        require(
            isinstance(curves, dict)
            and all(isinstance(key, str) and _is_curve(curve) for key, curve in curves.items()),
            f"`{name}` must be a dictionary from names to curves, lists of pairs (step, value).",
            **{name: curves},
        )
    check_instances(dict, "a dictionary of pictures", optional=True, pictures=pictures)
    for picture in (pictures or {}).values():
        check_picture(pictures=picture)
    check_instances(str, "a string", optional=True, title=title)
    panels = _panels(losses, scores)
    columns = 1 if len(panels) < 3 else 2 if len(panels) < 6 else 3
    rows = math.ceil(max(len(panels) - 1, 0) / columns)  # below the first panel, which has one of its own
    height = max(min(400 + 240 * rows, 1000), 700 if pictures else 0)
    widths = [900] * bool(panels) + [700] * bool(pictures) or [900]
    figure = new_figure(sum(widths), height)
    if title is not None:
        figure.suptitle(title, fontsize=11, color="0.3")
    parts = figure.subfigures(1, len(widths), width_ratios=widths, squeeze=False)[0]
    last_step = max((step for _, curves in panels for curve in curves.values() for step, _ in curve), default=0)
    grid = parts[0].add_gridspec(1 + rows, columns, height_ratios=[1.5] + [1] * rows)
    for i, (heading, curves) in enumerate(panels):
        row, column = (0, 0) if i == 0 else (1 + (i - 1) // columns, (i - 1) % columns)
        place = grid[row, column:] if i in (0, len(panels) - 1) else grid[row, column]
        _draw_curves(parts[0].add_subplot(place), heading, curves, last_step)
    if pictures:
        _draw_pictures(parts[-1], pictures)
    return rendered(figure)


def _is_curve(curve):
    return is_list(curve) and len(curve) > 0 and all(np.shape(point) == (2,) for point in curve)


def _panels(losses, scores):
    """Pairs of a heading and its curves: all losses, each other log of `fit`, each group of scores."""
    logged, groups = {"losses": {}}, {}
    for name, curve in losses.items():
        logged.setdefault("losses" if "loss" in name else name.removeprefix("val_"), {})[name] = curve
    for name, curve in scores.items():
        group, _, member = name.rpartition("/")
        groups.setdefault(group or name, {})[member] = curve
    panels = [panel for panel in logged.items() if panel[1]]
    for group, curves in groups.items():
        is_alone = len(curves) == 1 and group not in curves
        panels.append((f"{group}/{next(iter(curves))}" if is_alone else group, curves))
    return panels


def _draw_curves(axis, heading, curves, last_step):
    """Draw curves in one panel: last values in the legend, a logarithmic axis from a factor of 10 on."""
    from matplotlib.ticker import EngFormatter, LogLocator, NullLocator, StrMethodFormatter

    colours = {"loss": "0.2"}  # the sum of the others
    for name, curve in curves.items():
        colour = colours.setdefault(name.removeprefix("val_"), f"C{(len(colours) - 1) % 10}")
        axis.plot(
            *zip(*curve, strict=True),
            color=colour,
            linestyle="--" if name.startswith("val_") else "-",
            marker="o" if len(curve) < 25 else None,
            markersize=3,
            linewidth=1.3,
            label=f"{name}  {curve[-1][1]:.4g}",
        )
    heading = heading if len(curves) > 1 else f"{heading}  {curve[-1][1]:.4g}"
    axis.set_title(heading, loc="left", fontsize=10, fontweight="bold")
    values = np.array([value for curve in curves.values() for _, value in curve])
    values = values[np.isfinite(values)]
    if len(values) and values.min() > 0 and values.max() > 10 * values.min():
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if values.max() < 1000 * values.min() else (1,)))
        axis.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.yaxis.set_minor_locator(NullLocator())
    axis.set_xlim(0, max(1.02 * last_step, 1))
    axis.set_xlabel("steps", fontsize=8, color="0.4", loc="right", labelpad=0)
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.xaxis.set_major_formatter(EngFormatter(sep=""))
    axis.tick_params(labelsize=8)
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
    if len(curves) > 1:
        axis.legend(fontsize=8, frameon=False, ncols=1 if len(curves) < 5 else 2)


def _draw_pictures(figure, pictures):
    """Draw pictures with names from the top, in the number of columns that shows them largest."""
    width, height = figure.bbox.width, figure.bbox.height
    margin, caption = 20, 30
    ratios = [picture.shape[0] / picture.shape[1] for picture in pictures.values()]

    def width_of_each(columns):
        rows = [max(ratios[i : i + columns]) for i in range(0, len(ratios), columns)]
        free_height = height - 2 * margin - len(rows) * caption
        return min((width - margin) / columns - margin, free_height / sum(rows))

    columns = max(range(1, len(ratios) + 1), key=width_of_each)
    shown_width = max(width_of_each(columns), 1)
    top = height - margin
    for i, (name, picture) in enumerate(pictures.items()):
        column = i % columns
        left, shown_height = margin + column * (shown_width + margin), shown_width * ratios[i]
        bottom = top - caption - shown_height
        axis = figure.add_axes((left / width, bottom / height, shown_width / width, shown_height / height))
        axis.imshow(picture, aspect="auto")
        axis.set_title(name, loc="left", fontsize=10, fontweight="bold")
        axis.set_axis_off()
        if column == columns - 1:
            top -= caption + shown_width * max(ratios[i + 1 - columns : i + 1])
