"""Draws docs/architecture.svg: python docs/draw_architecture.py"""

import pathlib

import matplotlib
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

WIDTH, HEIGHT = 12.6, 9.0
COLORS = {
    "backend": "#d9d9d9",
    "utils": "#ececec",
    "layers": "#c6dbef",
    "corruption": "#fdd0a2",
    "objectives": "#c7e9c0",
    "sampling": "#dadaeb",
    "models": "#fcbba1",
    "data": "#fff2ae",
}
# Column by column: a folder imports only from columns further left, and utils from backend.
FOLDERS = [
    ["backend", "utils"],
    ["layers", "data", "plots", "distribution"],
    ["corruption"],
    ["objectives", "sampling"],
    ["models", "latents", "planning"],
    ["methods", "training"],
    ["evaluation", "weights"],
    ["commands"],
]
TRAINING = [
    ("check", "models", "images\nuint8"),
    ("step", "models", "a batch"),
    ("prepare", "models", "float32 in\nvalue_range"),
    ("draw", "corruption", "noise, levels,\nscores"),
    ("corrupt", "corruption", "views,\nfewer patches"),
    ("target", "objectives", "what must be\npredicted"),
    ("predict", "models", "outputs for\neach patch"),
    ("compare", "objectives", "losses of\neach image"),
]
SAMPLING = [
    ("settings", "sampling", "labels, steps,\nguidance"),
    ("rows", "sampling", "a row for\neach call"),
    ("batches", "sampling", "labels,\nimage indices"),
    ("program", "backend", "compiled\nonce"),
    ("noise", "sampling", "of image k\nof the seed"),
    ("denoise", "sampling", "x_0 and eps"),
    ("step", "sampling", "the next x_t"),
    ("images", "sampling", "uint8"),
]
DATA = [
    ("reader", "data", "file names,\nsettings"),
    ("order", "data", "of seed and\nepoch"),
    ("loader", "data", "threads,\nread ahead"),
    ("source", "data", "bytes of\na file"),
    ("decode", "data", "pixels"),
    ("crop", "data", "box, size,\nflip"),
    ("leave out", "data", "bad images\nreplaced"),
    ("place", "data", "can be saved"),
]


def main():
    figure = Figure(figsize=(WIDTH, HEIGHT))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(0, HEIGHT))
    axes.axis("off")
    draw_folders(axes, top=8.7)
    draw_lane(axes, 4.8, "One file in the data pipeline", DATA)
    draw_lane(axes, 2.95, "One image in training", TRAINING)
    draw_lane(axes, 1.1, "One noise in sampling", SAMPLING)

    # From the data pipeline to the first station of training, between the two lanes.
    axes.plot([12.13, 12.35, 12.35, 0.12, 0.12], [4.8, 4.8, 3.87, 3.87, 2.95], color="black", linewidth=1)
    draw_arrow(axes, (0.12, 2.95), (0.37, 2.95))
    x = (station_x(5) + station_x(6)) / 2
    axes.plot([x, x], [2.1, 3.6], color="#cb181d", linestyle="--", linewidth=1.2)
    axes.text(x + 0.07, 3.55, "the gradient begins here", color="#cb181d", fontsize=8.5, va="center")
    # The loop over the rows.
    loop = FancyArrowPatch(
        (station_x(6), 1.47),
        (station_x(5), 1.47),
        connectionstyle="arc3,rad=0.45",
        arrowstyle="-|>",
        mutation_scale=11,
        color="black",
    )
    axes.add_patch(loop)
    axes.text(x, 1.83, "for each row", fontsize=8.5, ha="center", va="bottom")

    path = pathlib.Path(__file__).with_name("architecture.svg")
    with matplotlib.rc_context({"svg.hashsalt": "keras_umd", "svg.fonttype": "path"}):
        figure.savefig(path, metadata={"Date": None}, facecolor="white")
    return figure


def station_x(index):
    return 0.95 + index * 1.5143


def draw_lane(axes, y, title, stations):
    axes.text(0.35, y + 0.66, title, fontsize=11.5, weight="bold", va="center")
    for i, (name, folder, passed_on) in enumerate(stations):
        x = station_x(i)
        draw_box(axes, x, y, 1.16, 0.74, f"{i + 1}  {name}", COLORS[folder], 10.5)
        axes.text(x, y - 0.48, passed_on, fontsize=8.3, ha="center", va="top", color="#444444", linespacing=1.1)
        if i:
            draw_arrow(axes, (station_x(i - 1) + 0.58, y), (x - 0.58, y))


def draw_folders(axes, top):
    axes.text(0.35, top, "The folders of keras_umd", fontsize=11.5, weight="bold", va="center")
    axes.text(
        3.05, top, "each imports only from columns further left (utils: from backend, too)", fontsize=9, va="center"
    )
    for column, names in enumerate(FOLDERS):
        x = station_x(column)
        for row, name in enumerate(names):
            draw_box(axes, x, top - 0.5 - row * 0.62, 1.2, 0.46, name, COLORS.get(name, "white"), 10.5)
        if column:
            draw_arrow(axes, (x - 0.6, top - 0.5), (x - 0.91, top - 0.5))


def draw_box(axes, x, y, width, height, text, color, size):
    box = (x - width / 2, y - height / 2), width, height
    style = "round,pad=0,rounding_size=0.08"
    axes.add_patch(FancyBboxPatch(*box, boxstyle=style, facecolor=color, edgecolor="#555555", linewidth=0.9))
    axes.text(x, y, text, fontsize=size, ha="center", va="center")


def draw_arrow(axes, start, end):
    axes.add_patch(
        FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=11, shrinkA=0, shrinkB=0, color="black")
    )


if __name__ == "__main__":
    main()
