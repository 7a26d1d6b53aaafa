"""Results with a card of their protocol, compared only where the protocols are equal, and tables of them."""

import dataclasses
import datetime
import html
import json
import math
import os
import platform
import re

import keras
import numpy as np

from keras_umd.backend.devices import backend_version, training_devices
from keras_umd.utils.atomic import DamagedFileError, read_json, write_json
from keras_umd.utils.checks import check_bools, check_instances, check_numbers, check_paths, is_number, require
from keras_umd.utils.fingerprint import fingerprint

SHORT = 12  # digits of a hash


@dataclasses.dataclass(frozen=True)
class Result:
    """One number, with a card that records what was measured, how, and of what.

    Example:

    >>> result = evaluation.Result("accuracy", 0.912, {"shots": 10}, {"model": "mine"}, deviation=0.004)
    >>> print(result)
    0.912 +- 0.004
    >>> result.save("card.json")

    Args:
        metric: String, such as `"fid"` or `"10-shot accuracy"`.
        value: Float.
        protocol: Dictionary of JSON values that must be equal for two results to be comparable, such as the number of
            samples and the hashes of the reference and of the network that computes the features.
        subject: Dictionary of JSON values that describe what was judged: hash of the weights, sampler, seed, ...
        deviation: Float or `None`, over draws, runs or splits.
        versions: Dictionary of strings. Defaults to `versions()`.

    Attributes:
        card: Dictionary of JSON values, all of the above.
    """

    metric: str
    value: float
    protocol: dict
    subject: dict
    deviation: float | None = None
    versions: dict = dataclasses.field(default_factory=lambda: versions())

    def __post_init__(self):
        check_instances(str, "a string, the name of what was measured", metric=self.metric)
        check_instances(dict, "a dictionary", protocol=self.protocol, subject=self.subject, versions=self.versions)
        for name in ("value", "deviation"):
            number = getattr(self, name)
            is_right = is_number(number) or isinstance(number, (float, np.floating))  # also NaN
            is_right |= name == "deviation" and (number is None or (is_right and number >= 0))
            require(is_right, f"`{name}` must be a number.", **{name: number})
        for name in ("protocol", "subject"):  # as they are after a round trip through a file
            object.__setattr__(
                self, name, json.loads(json.dumps(getattr(self, name), default=lambda x: np.asarray(x).tolist()))
            )
        object.__setattr__(self, "value", float(self.value))

    @property
    def card(self):
        return dataclasses.asdict(self)

    def minus(self, other):
        """Subtract the value of another result.

        Raises:
            ValueError: if metric or protocol differ; it names what differs.
        """
        check_instances(Result, "another Result", other=other)
        own, theirs = ({"metric": r.metric, **r.protocol} for r in (self, other))
        differing = [name for name in {**own, **theirs} if own.get(name) != theirs.get(name)]
        details = "; ".join(f"{name}: {own.get(name)} and {theirs.get(name)}" for name in differing)
        require(not differing, "The results can't be compared, they were measured otherwise.", details)
        return self.value - other.value

    def differs_from(self, other, deviations=2.0):
        """Whether two results are more than `deviations` times the larger standard deviation apart.

        Raises:
            ValueError: if they can't be compared, and if neither has a deviation.
        """
        check_instances(Result, "another Result", other=other)
        check_numbers("[0, inf)", deviations=deviations)
        known = [result.deviation for result in (self, other) if result.deviation is not None]
        require(
            known,
            "One of the two needs a deviation, as of `mean_of` several seeds.",
            f"{self.metric} of {self.value} and {other.value}, both without",
        )
        return abs(self.minus(other)) > deviations * max(known)

    def save(self, path):
        """Write the card as JSON."""
        check_paths(path=path)
        write_json(path, self.card)

    @classmethod
    def load(cls, path):
        """Read the card that `save` wrote.

        Raises:
            DamagedFileError: a ValueError that names the file, where it isn't what was written.
        """
        check_paths(path=path)
        remedy = "Take a copy of the card from elsewhere, or measure again"
        card = read_json(path, remedy)
        fields = {field.name for field in dataclasses.fields(cls)}
        types = {"metric": str, "value": (int, float), "protocol": dict, "subject": dict}
        if set(card) - fields or any(not isinstance(card.get(name), kind) for name, kind in types.items()):
            raise DamagedFileError(
                f"{os.fspath(path)} is no card, or a damaged one: it must have {sorted(fields)}. {remedy}. "
                f"Received: {card}"
            )
        return cls(**card)

    def __str__(self):
        value = f"{self.value:.4g}" if abs(self.value) >= 1 else f"{self.value:.3f}"
        return value if self.deviation is None else f"{value} +- {self.deviation:.2g}"

    def line(self):
        """The card in one line of text, with shortened hashes."""
        parts = _leaves({**self.protocol, **self.subject, **self.versions})
        return f"{self.metric} {self} | " + ", ".join(f"{name}: {_short(value)}" for name, value in parts)


def mean_of(results) -> Result:
    """Average results of equal protocol, such as those of several seeds.

    Example:

    >>> seeds = {0: 0.90, 1: 0.92}
    >>> results = [evaluation.Result("accuracy", seeds[seed], {"shots": 10}, {"seed": seed}) for seed in seeds]
    >>> print(evaluation.mean_of(results))
    0.910 +- 0.014

    Args:
        results: List of `Result`.

    Returns:
        `Result` with their mean and, for more than one, their standard deviation (divisor n - 1); its subject lists
        theirs.

    Raises:
        ValueError: for an empty list, and for results that can't be compared; it names what differs.
    """
    is_right = isinstance(results, (list, tuple)) and results and all(isinstance(r, Result) for r in results)
    require(is_right, "`results` must be a list of Result, at least one to take the mean of.", results=results)
    first, values = results[0], [result.value for result in results]
    for result in results:
        result.minus(first)
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    subject = {"mean_of": [result.subject for result in results]}
    return dataclasses.replace(first, value=np.mean(values), subject=subject, deviation=deviation)


def describe_model(model):
    """Class, hash of the weights and settings of a Keras model: JSON values for a `subject`."""
    settings = ("layer", "pooling", "timesteps")
    config = model.get_config() if all(hasattr(model, name) for name in settings) else {}  # a FeatureExtractor
    chosen = {name: config[name] for name in settings if name in config}
    return {"model": type(model).__name__, "weights": fingerprint(model.weights)[:SHORT], **chosen}


def describe_optimizer(optimizer):
    """Class and settings of an optimizer, without the name that Keras numbers: JSON values for a `protocol`."""
    settings = keras.saving.serialize_keras_object(optimizer)
    return {
        "class": settings["class_name"],
        **{name: value for name, value in settings["config"].items() if name != "name"},
    }


def versions():
    """Versions of the packages, the device, and the date: what every card records of the process.

    Example:

    >>> sorted(evaluation.versions())
    ['backend', 'date', 'device', 'keras', 'keras_umd', 'python']

    Returns:
        Dictionary of strings.
    """
    import keras_umd

    return {
        "keras_umd": keras_umd.__version__,
        "keras": keras.__version__,
        "backend": backend_version(),
        "device": training_devices()[0] or f"{os.cpu_count()} CPU cores",
        "python": platform.python_version(),
        "date": datetime.date.today().isoformat(),
    }


def _leaves(values, prefix=""):
    """Iterate over names and values of nested dictionaries, without those that are `None`."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        elif value is not None:
            yield f"{prefix}{name}", value


def _short(value):
    return re.sub(rf"\b([0-9a-f]{{{SHORT}}})[0-9a-f]+\b", r"\1", value) if isinstance(value, str) else value


class Table(list):
    """A list of rows, dictionaries from columns to values, some of which are `Result`s.

    It is shown as Markdown by `print` and in a console, and as an HTML table in a notebook.

    Example:

    >>> table = evaluation.Table([{"layer": 1, "loss": 0.5}, {"layer": 2, "loss": 0.25}])
    >>> table
    | layer | loss |
    | ----- | ---- |
    | 1     | 0.5  |
    | 2     | 0.25 |
    """

    @property
    def columns(self):
        return list(dict.fromkeys(name for row in self for name in row))

    def best(self, column, smallest=False):
        """Find the row with the best `Result` in a column.

        Args:
            column: String.
            smallest: Bool. Whether less is better, as for distances.

        Returns:
            `Row`.

        Raises:
            ValueError: for NaN, and for results that can't be compared.
        """
        check_instances(str, "the name of a column", column=column)
        check_bools(smallest=smallest)
        rows = [row for row in self if column in row]
        require(rows, f"The table has the columns {self.columns}.", f"column={column!r}")
        are_results = all(isinstance(row[column], Result) for row in rows)
        require(are_results, f"`column` must be one of results: {self.columns}.", column=column)
        for result in (row[column] for row in rows):
            require(not math.isnan(result.value), "A result of NaN can't be compared with others.", result.line())
            result.minus(rows[0][column])
        return Row((min if smallest else max)(rows, key=lambda row: row[column].value))

    def cards(self):
        """All cards, as a list of dictionaries."""
        return [value.card for row in self for value in row.values() if isinstance(value, Result)]

    def save(self, path):
        """Write the rows as JSON, with a card for each result."""
        check_paths(path=path)
        write_json(path, [{k: v.card if isinstance(v, Result) else v for k, v in row.items()} for row in self])

    def __str__(self):
        lines = self._cells()
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.columns))]
        lines.insert(1, ["-" * width for width in widths])
        return "\n".join(
            "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
            for line in lines
        )

    __repr__ = __str__

    def _repr_html_(self):
        header, *lines = (map(html.escape, line) for line in self._cells())
        rows = [f"<tr><th>{'</th><th>'.join(header)}</th></tr>"]
        rows += [f"<tr><td>{'</td><td>'.join(line)}</td></tr>" for line in lines]
        return f"<table>{''.join(rows)}</table>"

    def _cells(self):
        """The header and the rows, as lists of strings."""
        columns = self.columns
        return [columns, *(["" if row.get(name) is None else str(row[name]) for name in columns] for row in self)]


class Row(dict):
    """A row of a table, shown as a `Table` of this row alone."""

    def __repr__(self):
        return repr(Table([self]))

    def _repr_html_(self):
        return Table([self])._repr_html_()
