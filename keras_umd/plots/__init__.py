"""Pictures: grids of images, reconstructions beside their originals, images out of noise, how a training goes."""

import math
import os

import numpy as np


def image_grid(images, columns=None, padding=1, scale=1):
    """Images side by side as one image.

    Args:
        images: uint8 array of shape `(n, height, width, channels)`, one or three channels.
        columns: Integer. Defaults to a square grid.
        padding: Integer. Pixels of white between images.
        scale: Integer. Each pixel becomes `scale` x `scale` pixels, so that small images can be looked at.

    Returns:
        uint8 array of shape `(height, width, 3)`.
    """
    images = np.asarray(images)
    if images.ndim != 4 or not len(images) or images.dtype != np.uint8 or images.shape[-1] not in (1, 3):
        raise ValueError(
            "`images` must be uint8 of shape (n, height, width, 1 or 3). "
            f"Received: images of shape {images.shape} and type {images.dtype}"
        )
    images = np.broadcast_to(images, (*images.shape[:3], 3)).repeat(scale, axis=1).repeat(scale, axis=2)
    n, height, width, _ = images.shape
    columns = math.ceil(math.sqrt(n)) if columns is None else columns
    rows = math.ceil(n / columns)
    cell_height, cell_width = height + padding, width + padding
    grid = np.full((rows * cell_height + padding, columns * cell_width + padding, 3), 255, "uint8")
    for i, image in enumerate(images):
        top, left = padding + i // columns * cell_height, padding + i % columns * cell_width
        grid[top : top + height, left : left + width] = image
    return grid


def reconstruction_grid(images, result, scale=1):
    """Rows of three for `UMD.reconstruct`: the original, what the model saw, what it filled in.

    Args:
        images: uint8 array of shape `(n, height, width, channels)`.
        result: What `reconstruct(images)` returned.
        scale: Integer, as of `image_grid`.

    Returns:
        uint8 array of shape `(height, width, 3)`, with one column for each image.
    """
    rows = np.concatenate([images, result["masked"], result["reconstruction"]])
    return image_grid(rows, columns=len(images), scale=scale)


def strips(frames, scale=1):
    """From noise to image, a row for each image, for `UMD.trajectory`.

    Args:
        frames: uint8 array of shape `(num_frames, n, height, width, channels)`.
        scale: Integer, as of `image_grid`.

    Returns:
        uint8 array of shape `(height, width, 3)`, with one column for each frame.
    """
    frames = np.asarray(frames)
    if frames.ndim != 5:
        raise ValueError(
            "`frames` must be of shape (num_frames, n, height, width, channels). "
            f"Received: frames of shape {frames.shape}"
        )
    rows = frames.swapaxes(0, 1).reshape(-1, *frames.shape[2:])
    return image_grid(rows, columns=len(frames), scale=scale)


def guidance_grid(model, labels, guidance=(1.0, 2.0, 4.0), num_steps=(5, 20, 100), scale=1, **options):
    """What guidance and the number of steps do: the same noise and labels in each cell; needs the extra `plots`.

    Args:
        model: `UMD` with classes.
        labels: Int array `(n,)`, the labels of the images in every cell.
        guidance: List of floats, one row each.
        num_steps: List of integers, one column each.
        scale: Integer, as of `image_grid`.
        **options: As of `UMD.generate`.

    Returns:
        uint8 array of shape `(height, width, 3)`, with captions.
    """
    options = {"seed": 0, **options}

    def cell(guidance_scale, steps):
        images = model.generate(labels, guidance=guidance_scale, num_steps=steps, **options)
        return image_grid(images, scale=scale)

    cells = [[cell(guidance_scale, steps) for steps in num_steps] for guidance_scale in guidance]
    rows = [f"guidance {guidance_scale:g}" for guidance_scale in guidance]
    return captioned(cells, rows, [f"{steps} steps" for steps in num_steps])


def scatter(points, x_label, y_label):
    """What each of a few things costs and gains, one named point each; needs the extra `plots`.

    Example:

    >>> picture = scatter({"MAE": (1.2, 0.71, 0.01), "DiT": (3.1, 0.64, None)}, "ms an image", "accuracy")

    Args:
        points: Dictionary from names to triples of x, y and the deviation of y, drawn as a bar, or `None`.
        x_label, y_label: Strings.

    Returns:
        uint8 array of shape `(height, width, 3)`.
    """
    figure = _figure(720, 440)
    axis = figure.subplots()
    for i, (name, (x, y, deviation)) in enumerate(points.items()):
        axis.errorbar(x, y, yerr=deviation, fmt="o", capsize=3, color=f"C{i % 10}", label=name)
    figure.legend(loc="outside right upper", frameon=False, fontsize=9)
    axis.set_xlabel(x_label)
    axis.set_ylabel(y_label)
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
    return _rendered(figure)


def heatmaps(table, value, rows, columns, smallest=False):
    """A table of `sweep_features` or `sweep_generation` as coloured cells, the best outlined; needs the extra `plots`.

    Args:
        table: List of dictionaries with one value for each combination of settings.
        value: String, the column of numbers or results to show.
        rows, columns: Strings, the settings that make rows and columns. For each combination of the others there is a
            panel.
        smallest: Bool. Whether less is better, as of distances.

    Returns:
        uint8 array of shape `(height, width, 3)`.
    """
    for name in (value, rows, columns):
        if not table or name not in table[0]:
            raise ValueError(f"The table has the columns {list(table[0]) if table else []}. Received: {name!r}")
    settings = [
        name for name, cell in table[0].items() if not hasattr(cell, "value") and name not in (value, rows, columns)
    ]
    values = {
        tuple(tuple(row[name] for name in names) for names in (settings, [rows], [columns])): row[value]
        for row in table
    }
    panels, row_names, column_names = (list(dict.fromkeys(names)) for names in zip(*values, strict=True))
    numbers = {place: float(getattr(x, "value", x)) for place, x in values.items()}
    best = (min if smallest else max)(numbers, key=numbers.get)
    low, high = min(numbers.values()), max(numbers.values())
    across = min(len(panels), 4)
    down = math.ceil(len(panels) / across)
    figure = _figure(across * (80 + 75 * len(column_names)), down * (90 + 34 * len(row_names)) + 30)
    axes = figure.subplots(down, across, squeeze=False).ravel()
    for axis, panel in zip(axes, panels, strict=False):
        cells = np.array([[numbers.get((panel, row, column), np.nan) for column in column_names] for row in row_names])
        axis.imshow(cells, cmap="viridis_r" if smallest else "viridis", vmin=low, vmax=high, aspect="auto")
        for (i, j), cell in np.ndenumerate(cells):
            is_best = (panel, row_names[i], column_names[j]) == best
            is_dark = (cell - low < 0.5 * (high - low)) != smallest
            weight, colour = "bold" if is_best else "normal", "white" if is_dark else "black"
            axis.text(j, i, f"{cell:.3g}", ha="center", va="center", fontsize=9, color=colour, fontweight=weight)
            if is_best:
                axis.add_patch(_outline(j, i))
        axis.set_xticks(range(len(column_names)), [str(*name) for name in column_names], fontsize=8)
        axis.set_yticks(range(len(row_names)), [str(*name) for name in row_names], fontsize=8)
        axis.set_title(", ".join(f"{name} {x}" for name, x in zip(settings, panel, strict=True)), fontsize=9)
        axis.set_xlabel(columns, fontsize=8)
        axis.set_ylabel(rows, fontsize=8)
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    figure.suptitle(value, fontsize=11)
    return _rendered(figure)


def _outline(column, row):
    from matplotlib.patches import Rectangle

    return Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor="red", linewidth=2)


def captioned(cells, row_names, column_names):
    """Pictures in rows and columns with names, as one picture; needs the extra `plots`.

    Args:
        cells: List of rows, lists of uint8 arrays `(height, width, 3)`, all of one size.
        row_names, column_names: Lists of strings.

    Returns:
        uint8 array of shape `(height, width, 3)`.
    """
    height, width = cells[0][0].shape[:2]
    figure = _figure((width + 20) * len(column_names) + 40, (height + 20) * len(row_names) + 40)
    axes = figure.subplots(len(row_names), len(column_names), squeeze=False)
    for row, row_name in enumerate(row_names):
        for column, column_name in enumerate(column_names):
            axis = axes[row, column]
            axis.imshow(cells[row][column])
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
            if row == 0:
                axis.set_title(column_name, fontsize=9)
            if column == 0:
                axis.set_ylabel(row_name, fontsize=9)
    return _rendered(figure)


def progress(losses, scores, pictures=None, title=None):
    """How a training goes, as one picture: losses, scores and the latest pictures; needs the extra `plots`.

    Example:

    >>> picture = progress({"loss": [(100, 1.2), (200, 0.7)]}, {"probe/10-shot": [(200, 0.4)]})

    Args:
        losses: Dictionary of curves by name, what `fit` logs. A curve is a list of pairs `(step, value)`. `val_NAME` is
            drawn dashed, in the colour of `NAME`.
        scores: Dictionary of curves by name. Those whose names are equal before their last `"/"` share a panel.
        pictures: Dictionary of uint8 arrays `(height, width, 3)` by name.
        title: String.

    Returns:
        uint8 array of shape `(height, width, 3)`, at most 1000 x 1600.
    """
    panels = _panels(losses, scores)
    columns = 1 if len(panels) < 3 else 2 if len(panels) < 6 else 3
    rows = math.ceil(max(len(panels) - 1, 0) / columns)  # below the first panel, which has one of its own
    height = max(min(400 + 240 * rows, 1000), 700 if pictures else 0)
    widths = [900] * bool(panels) + [700] * bool(pictures) or [900]
    figure = _figure(sum(widths), height)
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
    return _rendered(figure)


def _panels(losses, scores):
    """Pairs of a heading and the curves below it: all losses, other things that `fit` logs, groups of scores."""
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
    """Curves of one kind in a panel: the last values beside the names, a logarithmic axis where they span decades."""
    from matplotlib.ticker import EngFormatter, LogLocator, NullLocator, StrMethodFormatter

    colours = {"loss": "0.2"}  # the sum of the others
    for name, curve in curves.items():
        steps, values = zip(*curve, strict=True)
        colour = colours.setdefault(name.removeprefix("val_"), f"C{(len(colours) - 1) % 10}")
        style = "--" if name.startswith("val_") else "-"
        marker = "o" if len(curve) < 25 else None
        label = f"{name}  {values[-1]:.4g}" if len(curves) > 1 else None
        axis.plot(steps, values, style, color=colour, marker=marker, markersize=3, linewidth=1.3, label=label)
    heading = heading if len(curves) > 1 else f"{heading}  {values[-1]:.4g}"
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
    """Pictures with names, from the top, in the number of columns that shows them largest."""
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
            row = ratios[i + 1 - columns : i + 1]
            top -= caption + shown_width * max(row)


def _figure(width, height):
    """A matplotlib figure of so many pixels, outside of pyplot, which would keep it."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("Captions and curves need matplotlib: pip install 'keras_umd[plots]'") from error
    return Figure(figsize=(width / 100, height / 100), dpi=100, layout="constrained")


def _rendered(figure):
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def save_image(path, image):
    """Save a uint8 image `(height, width, 3)` as a PNG file, making its folder; needs the extra `plots`."""
    try:
        from matplotlib import image as matplotlib_image
    except ImportError as error:
        raise ImportError("Saving pictures needs matplotlib: pip install 'keras_umd[plots]'") from error
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    matplotlib_image.imsave(path, image)
