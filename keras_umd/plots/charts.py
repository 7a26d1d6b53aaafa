"""Charts with captions and axes, drawn by matplotlib: guidance against steps, points, heat maps."""

import itertools
import math

import numpy as np

from keras_umd.plots.figures import check_picture, new_figure, rendered
from keras_umd.plots.grids import image_grid
from keras_umd.utils.checks import (
    check_bools,
    check_instances,
    check_integers,
    check_numbers,
    is_list,
    is_number,
    require,
)


def guidance_grid(model, labels, guidance=(1.0, 2.0, 4.0), num_steps=(5, 20, 100), scale=1, **options):
    """Compare guidance and numbers of steps on the same noise and labels; needs the extra `plots`.

    Example:

    >>> picture = plots.guidance_grid(model, [0, 1, 2], guidance=(1.0, 2.0), num_steps=(2, 4), scale=4)

    Args:
        model: `UMD` with classes.
        labels: Int array `(n,)`, the labels of the images in every cell.
        guidance: List of floats, one row each.
        num_steps: List of integers, one column each.
        scale: Integer, as in `image_grid`.
        **options: As in `UMD.generate`.

    Returns:
        uint8 array of shape `(height, width, 3)`, with captions.
    """
    require(hasattr(model, "generate"), "`model` must be a keras_umd.UMD.", model=model)
    require(is_list(labels) and len(labels), "`labels` must be a list of classes.", labels=labels)
    for name, values in {"guidance": guidance, "num_steps": num_steps}.items():
        require(
            is_list(values) and len(values), f"`{name}` must be a list, one number a row or column.", **{name: values}
        )
    for number in num_steps:
        check_integers(1, num_steps=number)
    for number in guidance:
        check_numbers("[0, inf)", guidance=number)
    options = {"seed": 0, **options}
    cells = [
        [image_grid(model.generate(labels, guidance=x, num_steps=steps, **options), scale=scale) for steps in num_steps]
        for x in guidance
    ]
    return captioned(cells, [f"guidance {x:g}" for x in guidance], [f"{steps} steps" for steps in num_steps])


def scatter(points, x_label, y_label):
    """Draw named points with error bars, such as quality over cost; needs the extra `plots`.

    Example:

    >>> picture = scatter({"MAE": (1.2, 0.71, 0.01), "DiT": (3.1, 0.64, None)}, "ms an image", "accuracy")

    Args:
        points: Dictionary from names to triples of x, y and the standard deviation of y, or `None`.
        x_label, y_label: Strings.

    Returns:
        uint8 array of shape `(height, width, 3)`.
    """
    check_instances(str, "a string", x_label=x_label, y_label=y_label)
    triples = points.values() if isinstance(points, dict) else [None]
    require(
        all(is_list(triple) and len(triple) == 3 and all(map(is_number, triple[:2])) for triple in triples),
        "`points` must be a dictionary from names to triples: x, y, and the deviation of y or None.",
        points=points,
    )
    for _, _, deviation in triples:
        check_numbers("[0, inf)", optional=True, points=deviation)
    figure = new_figure(720, 440)
    axis = figure.subplots()
    for i, (name, (x, y, deviation)) in enumerate(points.items()):
        axis.errorbar(x, y, yerr=deviation, fmt="o", capsize=3, color=f"C{i % 10}", label=name)
    figure.legend(loc="outside right upper", frameon=False, fontsize=9)
    axis.set(xlabel=x_label, ylabel=y_label)
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
    return rendered(figure)


def heatmaps(table, value, rows, columns, smallest=False):
    """Draw a table of `sweep_features` or `sweep_generation` as coloured cells; needs the extra `plots`.

    The best cell is outlined. There is a panel for each combination of the settings that are not rows or columns.

    Example:

    >>> table = [{"layer": k, "pooling": p, "accuracy": 0.1 * k} for k in (1, 2, 3) for p in ("cls", "mean")]
    >>> picture = plots.heatmaps(table, "accuracy", rows="pooling", columns="layer")

    Args:
        table: List of dictionaries with one value for each combination of settings.
        value: String, the column of numbers or results to show.
        rows, columns: Strings, the settings that make rows and columns.
        smallest: Bool. Whether less is better, as for distances.

    Returns:
        uint8 array of shape `(height, width, 3)`.
    """
    _check_table(table, value=value, rows=rows, columns=columns)
    check_bools(smallest=smallest)
    settings = [x for x, cell in table[0].items() if not hasattr(cell, "value") and x not in (value, rows, columns)]
    numbers = {}
    for cells in table:
        panel = tuple(cells[name] for name in settings)
        numbers[panel, cells[rows], cells[columns]] = float(getattr(cells[value], "value", cells[value]))
    panels, row_names, column_names = (list(dict.fromkeys(names)) for names in zip(*numbers, strict=True))
    best = (min if smallest else max)(numbers, key=numbers.get)
    low, high = min(numbers.values()), max(numbers.values())
    across = min(len(panels), 4)
    down = math.ceil(len(panels) / across)
    figure = new_figure(across * (80 + 75 * len(column_names)), down * (90 + 34 * len(row_names)) + 30)
    axes = figure.subplots(down, across, squeeze=False).ravel()
    for axis, panel in zip(axes, panels, strict=False):
        cells = np.array([[numbers.get((panel, row, column), np.nan) for column in column_names] for row in row_names])
        is_best = [[(panel, row, column) == best for column in column_names] for row in row_names]
        _draw_cells(axis, cells, is_best, low, high, smallest)
        axis.set_xticks(range(len(column_names)), map(str, column_names), fontsize=8)
        axis.set_yticks(range(len(row_names)), map(str, row_names), fontsize=8)
        axis.set_title(", ".join(f"{name} {x}" for name, x in zip(settings, panel, strict=True)), fontsize=9)
        axis.set_xlabel(columns, fontsize=8)
        axis.set_ylabel(rows, fontsize=8)
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    figure.suptitle(value, fontsize=11)
    return rendered(figure)


def _check_table(table, **names):
    is_table = isinstance(table, (list, tuple)) and table and all(isinstance(row, dict) for row in table)
    require(is_table, "`table` must be a list of rows, dictionaries, at least one.", table=table)
    for argument, name in names.items():
        require(
            isinstance(name, str) and all(name in row for row in table),
            f"`{argument}` must be one of the table's columns {list(table[0])}.",
            **{argument: name},
        )


def _draw_cells(axis, cells, is_best, low, high, smallest):
    from matplotlib.patches import Rectangle

    axis.imshow(cells, cmap="viridis_r" if smallest else "viridis", vmin=low, vmax=high, aspect="auto")
    for (i, j), cell in np.ndenumerate(cells):
        is_dark = (cell - low < 0.5 * (high - low)) != smallest
        weight, colour = "bold" if is_best[i][j] else "normal", "white" if is_dark else "black"
        axis.text(j, i, f"{cell:.3g}", ha="center", va="center", fontsize=9, color=colour, fontweight=weight)
        if is_best[i][j]:
            axis.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, fill=False, edgecolor="red", linewidth=2))


def captioned(cells, row_names, column_names):
    """Place pictures in named rows and columns; needs the extra `plots`.

    Example:

    >>> cells = [[plots.image_grid(images[:4], scale=4), plots.image_grid(images[4:8], scale=4)]]
    >>> plots.save_image("two.png", plots.captioned(cells, ["digits"], ["the first", "the next"]))

    Args:
        cells: List of rows, each a list of uint8 arrays `(height, width, 3)`, all of one size.
        row_names, column_names: Lists of strings.

    Returns:
        uint8 array of shape `(height, width, 3)`.
    """
    for name, names in (("row_names", row_names), ("column_names", column_names)):
        is_right = is_list(names) and len(names) and all(isinstance(label, str) for label in names)
        require(is_right, f"`{name}` must be a list of strings.", **{name: names})
    require(
        is_list(cells)
        and len(cells) == len(row_names)
        and all(is_list(row) and len(row) == len(column_names) for row in cells),
        f"`cells` must be {len(row_names)} lists of {len(column_names)} pictures, as `row_names` and `column_names`.",
        cells=cells,
    )
    for cell in itertools.chain(*cells):
        check_picture(cells=cell)
    height, width = cells[0][0].shape[:2]
    figure = new_figure((width + 20) * len(column_names) + 40, (height + 20) * len(row_names) + 40)
    axes = figure.subplots(len(row_names), len(column_names), squeeze=False)
    for axis, cell in zip(axes.ravel(), itertools.chain(*cells), strict=True):
        axis.imshow(cell)
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    for axis, name in zip(axes[0], column_names, strict=True):
        axis.set_title(name, fontsize=9)
    for axis, name in zip(axes[:, 0], row_names, strict=True):
        axis.set_ylabel(name, fontsize=9)
    return rendered(figure)
