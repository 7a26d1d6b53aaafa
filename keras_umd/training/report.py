"""`report.html`: a run on one page that needs no other file, with its curves, scores and samples over time."""

import base64
import csv
import html
import itertools
import json
import os
import pathlib

from keras_umd.training.run_directory import RUN_FILE
from keras_umd.training.run_files import read_evaluations
from keras_umd.utils.atomic import write_whole

REPORT = "report.html"
SKIPPED = "skipped_steps"  # the log of `callbacks.Guard`
MAX_PICTURES = 40  # of a kind, spread over the run
WIDTH, HEIGHT, MARGIN = 640, 220, 76
COLORS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b", "#e377c2")
STYLE = """
:root{color-scheme:light dark}
body{font:16px/1.5 system-ui,sans-serif;max-width:72rem;margin:0 auto;padding:1rem}
.panels{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,26rem),1fr));gap:1.5rem}
figure{margin:0}svg,img{width:100%;height:auto}img{image-rendering:pixelated;max-width:44rem}
svg text{font:15px system-ui,sans-serif;fill:currentColor}svg .axis{stroke:currentColor;opacity:.35}
figcaption{display:flex;flex-wrap:wrap;gap:0 1rem}figcaption span{white-space:nowrap}input{width:100%;max-width:44rem}
table{border-collapse:collapse}td,th{text-align:left;padding:.1rem 1rem .1rem 0;vertical-align:top}
td:last-child{overflow-wrap:anywhere}summary{cursor:pointer}
@media(max-width:40rem){svg text{font-size:23px}}
"""
SCRIPT = """
for (const box of document.querySelectorAll('[data-slider]')) {
  const frames = [...box.querySelectorAll('img')], slider = box.querySelector('input');
  const label = box.querySelector('output');
  const show = () => {
    frames.forEach((image, i) => { image.hidden = i != slider.value; });
    label.textContent = 'step ' + frames[slider.value].dataset.step;
  };
  slider.addEventListener('input', show); show();
}
"""


def write_report(directory):
    """Write the page of a run, from the files that `callbacks.standard` and `Monitor` left.

    Args:
        directory: String or path, the folder of a run.

    Returns:
        `pathlib.Path` of the page.
    """
    folder = pathlib.Path(directory)
    lines = read_evaluations(folder / "evaluations.jsonl")
    losses = _history(folder)
    scores = {}
    for line in lines:
        for name, value in line["values"].items() if line["kind"] == "evaluation" else ():
            scores.setdefault(name, []).append((line["step"], value))
    parts = [
        f"<h1>{html.escape(folder.resolve().name)}</h1>",
        _state(folder),
        f'<h2>Losses, by epoch</h2><div class="panels">{_panels(losses)}</div>' if losses else "",
        f'<h2>Scores, by step</h2><div class="panels">{_panels(scores)}</div>' if scores else "",
        *_sliders(folder, lines),
        _settings(folder),
    ]
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" '
        f'content="width=device-width"><title>{html.escape(folder.resolve().name)}</title><style>{STYLE}</style>'
        f"{''.join(parts)}<script>{SCRIPT}</script></html>"
    )
    path = folder / REPORT
    write_whole(os.fspath(path), lambda temporary: pathlib.Path(temporary).write_text(page, encoding="utf-8"))
    return path


def _history(folder):
    """Curves by name, of `history.csv`."""
    path, curves = folder / "history.csv", {}
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    for row in csv.DictReader(lines):
        epoch = int(row.pop("epoch")) + 1
        for name, value in row.items():
            if value:
                curves.setdefault(name, []).append((epoch, float(value)))
    if not any(value for _, value in curves.get(SKIPPED, ())):
        curves.pop(SKIPPED, None)  # none was left out: no curve to look at
    return curves


def _run(folder):
    path = folder / RUN_FILE
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _state(folder):
    run = _run(folder)
    start = (run.get("starts") or [{}])[-1]
    facts = {
        "state": run.get("state"),
        "epochs": run.get("epoch"),
        "steps": run.get("step"),
        "begun": start.get("time"),
        "backend": start.get("backend"),
        "host": start.get("host"),
    }
    return _table({name: value for name, value in facts.items() if value is not None})


def _settings(folder):
    flat = dict(_flat(_run(folder).get("settings", {})))
    return f"<details><summary>Settings</summary>{_table(flat)}</details>" if flat else ""


def _flat(values, prefix=""):
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _table(values):
    rows = (f"<tr><td>{html.escape(str(n))}</td><td>{html.escape(str(v))}</td></tr>" for n, v in values.items())
    return f"<table>{''.join(rows)}</table>"


def _panels(curves):
    """A panel for all losses, one for each group of scores."""
    groups = {}
    for name, curve in curves.items():
        group = "losses" if "loss" in name else name.removeprefix("val_").rpartition("/")[0] or name
        groups.setdefault(group, {})[name] = [point for point in curve if abs(point[1]) < float("inf")]
    return "".join(_figure(group, members) for group, members in groups.items() if any(members.values()))


def _figure(heading, curves):
    (first, last), (low, high) = (
        (min(values), max(values)) for values in zip(*itertools.chain.from_iterable(curves.values()), strict=True)
    )

    def place(x, y):
        across = MARGIN + (WIDTH - MARGIN - 10) * (x - first) / ((last - first) or 1)
        return f"{across:.1f}", f"{10 + (HEIGHT - 40) * (high - y) / ((high - low) or 1):.1f}"

    drawn, legend = [], []
    for i, (name, curve) in enumerate(curves.items()):
        if curve:
            color = COLORS[i % len(COLORS)]
            places = [place(*point) for point in curve]
            path, (x, y) = " ".join(map(",".join, places)), places[-1]
            drawn.append(f'<polyline fill="none" stroke="{color}" stroke-width="2" points="{path}"/>')
            drawn.append(f'<circle fill="{color}" r="3" cx="{x}" cy="{y}"/>')
            legend.append(f'<span><b style="color:{color}">&#9632;</b> {html.escape(name)} {curve[-1][1]:.4g}</span>')
    axes = (
        f'<path class="axis" fill="none" d="M{MARGIN} 10V{HEIGHT - 30}H{WIDTH - 10}"/>'
        f'<text x="2" y="18">{high:.4g}</text><text x="{MARGIN}" y="{HEIGHT - 10}">{first}</text>'
    )
    if low < high:
        axes += f'<text x="2" y="{HEIGHT - 32}">{low:.4g}</text>'
    if first < last:
        axes += f'<text x="{WIDTH - 10}" y="{HEIGHT - 10}" text-anchor="end">{last}</text>'
    title = html.escape(heading)
    svg = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}">{axes}{"".join(drawn)}</svg>'
    return f"<figure><h3>{title}</h3>{svg}<figcaption>{''.join(legend)}</figcaption></figure>"


def _sliders(folder, lines):
    """For each kind of picture the pictures of all evaluations, of which a slider shows one."""
    kinds = {}
    for line in lines:
        for name, path in line.get("pictures", {}).items():
            if (folder / path).is_file():
                kinds.setdefault(name, []).append((line["step"], folder / path))
    for name, frames in kinds.items():
        if len(frames) > MAX_PICTURES:
            frames = [frames[round(i * (len(frames) - 1) / (MAX_PICTURES - 1))] for i in range(MAX_PICTURES)]
        images = "".join(
            f'<img alt="{html.escape(name)} at step {step}" data-step="{step}"{" hidden" * (i < len(frames) - 1)} '
            f'src="data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}">'
            for i, (step, path) in enumerate(frames)
        )
        last = len(frames) - 1
        is_hidden = " hidden" * (not last)  # there is nothing to slide through
        slider = (
            f'<input type="range" min="0" max="{last}" value="{last}"{is_hidden} '
            f'aria-label="step of {html.escape(name)}">'
        )
        yield f"<h2>{html.escape(name)}</h2><div data-slider><output></output>{slider}{images}</div>"
