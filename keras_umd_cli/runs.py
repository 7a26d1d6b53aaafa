"""`keras-umd runs`: the folders of runs, by their `run.json`, and their scores, by the cards. Needs no Keras."""

import csv
import json
import pathlib

from keras_umd_cli.options import UsageError

SMALLEST_IS_BEST = ("fid", "distance", "kid", "loss")
SHOWN = 5  # digits
KERAS_OWN = ("module", "registered_name")  # beside the name of a class, they say nothing


def add_arguments(parser):
    parser.add_argument("action", choices=("ls", "best", "show", "diff"), help="what to do")
    parser.add_argument("names", nargs="*", metavar="RUN", help="runs to show or compare; of best, the score")
    parser.add_argument("--root", default="runs", help="the folder of the runs (default: runs)")


def run(action, names, root):
    """The text of `keras-umd runs ACTION`."""
    if action == "ls":
        return table([_row(each) for each in find(root)]) or f"There are no runs below {root}"
    if action == "best":
        if len(names) > 1:
            raise UsageError(f"`runs best` takes the name of one score. Received: {names}")
        return best(find(root), names[0] if names else None)
    if action == "show":
        if not names:
            raise UsageError("`runs show` needs the folder of a run")
        return "\n\n".join(show(Run(_existing(name, root))) for name in names)
    if len(names) != 2:
        raise UsageError(f"`runs diff` needs the folders of two runs. Received: {names}")
    return diff(*(Run(_existing(name, root)) for name in names))


def find(root):
    """All runs in a folder and below it, the last written first."""
    paths = [path for path in pathlib.Path(root).rglob("run.json") if "checkpoints" not in path.parts]
    return [Run(path.parent) for path in sorted(paths, key=lambda path: -path.stat().st_mtime)]


def _existing(name, root):
    for path in (pathlib.Path(name), pathlib.Path(root, name)):
        if (path / "run.json").is_file():
            return path
    known = ", ".join(str(run.path) for run in find(root)) or "none"
    raise UsageError(f"{name} is not the folder of a run. Below {root} there are: {known}")


class Run:
    """What the files in a run's folder say.

    Args:
        path: `pathlib.Path`.
    """

    def __init__(self, path):
        self.path = path
        self.values = _read_json(path / "run.json", dict)
        self.history = []
        if (path / "history.csv").is_file():
            with open(path / "history.csv", newline="") as file:
                self.history = list(csv.DictReader(file))

    @property
    def state(self):
        return self.values.get("state", "unknown")

    @property
    def losses(self):
        """The last logs of `fit`, floats by name."""
        last = self.history[-1] if self.history else {}
        return {name: float(value) for name, value in last.items() if name != "epoch" and value}

    def cards(self):
        """All cards below the folder, the newest file last."""
        paths = sorted(self.path.glob("results/*.json"), key=lambda path: path.stat().st_mtime)
        return [card for path in paths for card in _cards_in(_read_json(path, (dict, list)))]

    def scores(self):
        """The last value of each score, by name: those of cards, and those of the monitor."""
        scores = {}
        path = self.path / "evaluations.jsonl"
        for line in path.read_text().splitlines() if path.is_file() else ():
            values = json.loads(line) if line.endswith("}") else {}
            if values.get("kind") == "evaluation":
                scores.update(values["values"])
        return {**scores, **{card["metric"]: card["value"] for card in self.cards()}}


def _read_json(path, kinds):
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise UsageError(f"{path} can't be read: {error}") from error
    if not isinstance(values, kinds):
        raise UsageError(f"{path} is not the file of a run")
    return values


def _cards_in(values):
    """The cards in a file, which is one, or has rows of them."""
    if isinstance(values, list):
        for value in values:
            yield from _cards_in(value)
    elif isinstance(values, dict) and {"metric", "value", "protocol"} <= set(values):
        yield values
    elif isinstance(values, dict):
        for value in values.values():
            yield from _cards_in(value) if isinstance(value, dict) else ()


def _row(run):
    done = run.values.get("epoch", run.values.get("epochs", 0))
    return {
        "run": run.path,
        "state": run.state,
        "epochs": done,
        "steps": run.values.get("step", 0),
        "loss": run.losses.get("loss", ""),
        **run.scores(),
    }


def best(runs, score):
    """The runs with a score, the best first; of equal protocol alone."""
    found = {}
    for run in runs:
        of_run = {card["metric"]: card for card in run.cards()}
        values = {**{name: {"value": value} for name, value in {**run.losses, **run.scores()}.items()}, **of_run}
        for name, card in values.items():
            found.setdefault(name, []).append((run, card))
    if score is None:
        score = next((name for name, cards in found.items() if "protocol" in cards[0][1]), "loss")
    if score not in found:
        raise UsageError(f"No run has the score {score!r}. There are: {', '.join(sorted(found)) or 'none'}")
    sign = 1 if any(part in score.lower() for part in SMALLEST_IS_BEST) else -1
    ordered = sorted(found[score], key=lambda pair: sign * pair[1]["value"])
    protocols = {json.dumps(card.get("protocol"), sort_keys=True) for _, card in ordered}
    lines = table([{"run": run.path, score: card["value"], "state": run.state} for run, card in ordered])
    if len(protocols) > 1:
        lines += "\nThese were measured in different ways, and can't be compared: `keras-umd runs show` has the cards."
    return lines


def show(run):
    """Everything of a run, as text."""
    parts = [f"{run.path}: {run.state}"]
    parts += [_lines("losses", run.losses), _lines("scores", run.scores())]
    starts = run.values.get("starts", [])
    parts += [f"start {start.get('time')} on {start.get('host')}, {start.get('backend')}" for start in starts]
    parts += [_lines("settings", dict(leaves(run.values.get("settings", {}))))]
    for card in run.cards():
        parts.append(_lines(f"{card['metric']} {_text(card['value'])}", dict(leaves(card["protocol"]))))
    names = ("config.toml", "report.html", "progress.png", "model.keras")
    files = [name for name in names if (run.path / name).exists()]
    return "\n".join([part for part in parts if part] + [f"files: {', '.join(files)}"])


def diff(one, other):
    """The settings that differ between two runs, and their losses and scores."""
    rows = []
    for left, right in zip(_compared(one), _compared(other), strict=True):
        for name in sorted({*left, *right}):
            if left.get(name, "") != right.get(name, ""):
                rows.append({"": name, str(one.path): left.get(name, ""), str(other.path): right.get(name, "")})
    return table(rows) or "Their settings, losses and scores are equal"


def _compared(run):
    return dict(leaves(run.values.get("settings", {}))), run.losses, run.scores()


def leaves(values, prefix=""):
    """Pairs of a dotted name and a value, of nested dictionaries and lists of them."""
    items = values.items() if isinstance(values, dict) else enumerate(values)
    for name, value in items:
        if isinstance(value, dict) or (isinstance(value, list) and any(isinstance(item, dict) for item in value)):
            yield from leaves(value, f"{prefix}{name}.")
        elif name not in KERAS_OWN and value is not None:
            yield f"{prefix}{name}", value


def _lines(title, values):
    return "\n".join([f"{title}:", *(f"  {name}: {_text(value)}" for name, value in values.items())]) if values else ""


def _text(value):
    return f"{value:.{SHOWN}g}" if isinstance(value, float) else str(value)


def table(rows):
    """Rows, dictionaries, as columns of text; empty for none."""
    if not rows:
        return ""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    cells = [columns, *([_text(row.get(name, "")) for name in columns] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in cells)
    return "\n".join(line.rstrip() for line in lines)
