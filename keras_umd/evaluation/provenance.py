"""Results that know how they came about, and are compared only where that makes sense."""

import dataclasses
import datetime
import json
import math
import os
import platform
import re
import sys

import keras
import numpy as np

from keras_umd.backend.devices import training_devices
from keras_umd.utils.atomic import write_json
from keras_umd.utils.fingerprint import fingerprint

SHORT = 12  # digits of a hash


@dataclasses.dataclass(frozen=True)
class Result:
    """One number, with a card that says what was measured, how, and of what.

    Args:
        metric: String, such as `"fid"` or `"10-shot accuracy"`.
        value: Float.
        protocol: Dictionary of JSON values: all that must be equal for two results to be comparable, such as the
            number of samples and the hashes of the reference and of the network that makes the features.
        subject: Dictionary of JSON values: what was judged, such as the hash of the weights, the sampler and the seed.
        deviation: Float or `None`, over draws, runs or splits.
        versions: Dictionary of strings. Defaults to those of this process.

    Attributes:
        card: Dictionary of JSON values, all of the above.
    """

    metric: str
    value: float
    protocol: dict
    subject: dict
    deviation: float | None = None
    versions: dict = dataclasses.field(default_factory=lambda: _versions())

    def __post_init__(self):
        for name in ("protocol", "subject"):  # as a file would give them back
            object.__setattr__(self, name, json.loads(json.dumps(getattr(self, name), default=_as_json)))
        object.__setattr__(self, "value", float(self.value))

    @property
    def card(self):
        return dataclasses.asdict(self)

    def minus(self, other):
        """The difference of two results' values.

        Raises:
            ValueError: if they can't be compared; it says what differs.
        """
        own, theirs = ({"metric": r.metric, **r.protocol} for r in (self, other))
        differing = [name for name in {**own, **theirs} if own.get(name) != theirs.get(name)]
        if differing:
            details = "; ".join(f"{name}: {own.get(name)} and {theirs.get(name)}" for name in differing)
            raise ValueError(f"The results can't be compared, they were measured otherwise. Received: {details}")
        return self.value - other.value

    def differs_from(self, other, deviations=2.0):
        """Whether two results are more than so many standard deviations apart, of the larger one of both.

        Raises:
            ValueError: if they can't be compared, and if neither has a deviation.
        """
        known = [result.deviation for result in (self, other) if result.deviation is not None]
        if not known:
            raise ValueError(
                "One of the two needs a deviation, as of `mean_of` several seeds. "
                f"Received: {self.metric} of {self.value} and {other.value}, both without"
            )
        return abs(self.minus(other)) > deviations * max(known)

    def save(self, path):
        """Write the card as JSON."""
        write_json(path, self.card)

    @classmethod
    def load(cls, path):
        """The result of a card that `save` wrote."""
        with open(path) as file:
            return cls(**json.load(file))

    def __str__(self):
        value = f"{self.value:.4g}" if abs(self.value) >= 1 else f"{self.value:.3f}"
        return value if self.deviation is None else f"{value} +- {self.deviation:.2g}"

    def line(self):
        """The card in one line of text, for tables; hashes are cut."""
        parts = _leaves({**self.protocol, **self.subject, **self.versions})
        return f"{self.metric} {self} | " + ", ".join(f"{name}: {_short(value)}" for name, value in parts)


def mean_of(results):
    """One result of several that were measured alike, such as those of several seeds.

    Example:

    >>> mean_of([evaluate_features(encoder, data)[0]["10-shot accuracy"] for encoder in encoders])
    Result(metric='10-shot accuracy', value=0.912, ..., deviation=0.004)

    Args:
        results: List of `Result`.

    Returns:
        `Result` with their mean and, of more than one, their standard deviation (n - 1); its subject lists theirs.

    Raises:
        ValueError: if they can't be compared; it says what differs.
    """
    if not results:
        raise ValueError("There must be a result to take the mean of. Received: results=[]")
    first, values = results[0], [result.value for result in results]
    for result in results:
        result.minus(first)
    subject = {"mean_of": [result.subject for result in results]}
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Result(first.metric, np.mean(values), first.protocol, subject, deviation, first.versions)


def best_of(results, smallest=False):
    """The index of the best of comparable results.

    Args:
        results: List of `Result`.
        smallest: Bool. Whether less is better.
    """
    best = 0
    for i, result in enumerate(results):
        if math.isnan(result.value):
            raise ValueError(f"A result that is no number can't be the best of others. Received: {result.line()}")
        difference = result.minus(results[best])
        if (difference < 0) if smallest else (difference > 0):
            best = i
    return best


def describe_model(model):
    """What tells one Keras model from another: JSON values for a `subject`."""
    settings = ("layer", "pooling", "timesteps")
    chosen = {}
    if all(hasattr(model, name) for name in settings):  # a FeatureExtractor
        config = model.get_config()
        chosen = {name: config[name] for name in settings}
    return {"model": type(model).__name__, "weights": fingerprint(model.weights)[:SHORT], **chosen}


def describe_optimizer(optimizer):
    """An optimizer's settings, without its name, which Keras numbers: JSON values for a `protocol`."""
    settings = keras.saving.serialize_keras_object(optimizer)
    config = {name: value for name, value in settings["config"].items() if name != "name"}
    return {"class": settings["class_name"], **config}


def _versions():
    import keras_umd

    backend = keras.backend.backend()
    return {
        "keras_umd": keras_umd.__version__,
        "keras": keras.__version__,
        "backend": f"{backend} {sys.modules[backend].__version__}",
        "device": training_devices()[0] or f"{os.cpu_count()} CPU cores",
        "python": platform.python_version(),
        "date": datetime.date.today().isoformat(),
    }


def _as_json(value):
    return np.asarray(value).tolist()


def _leaves(values, prefix=""):
    """Names and values of nested dictionaries, one after the other, without those that are `None`."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        elif value is not None:
            yield f"{prefix}{name}", value


def _short(value):
    return re.sub(rf"\b([0-9a-f]{{{SHORT}}})[0-9a-f]+\b", r"\1", value) if isinstance(value, str) else value
