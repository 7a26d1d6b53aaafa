"""The average, the guidance and its interval that give the best images: many settings with few, the best with many."""

import dataclasses
import json
import math
import os

import numpy as np

from keras_umd.evaluation.features import check_model
from keras_umd.evaluation.reference import Reference, network_identity
from keras_umd.evaluation.results import Result, Table
from keras_umd.evaluation.sample_scores import evaluate_generator
from keras_umd.sampling.guidance import Constant, Interval
from keras_umd.sampling.settings import settings_of
from keras_umd.utils import storage
from keras_umd.utils.atomic import DamagedFileError, make_folder, read_json, write_json
from keras_umd.utils.checks import (
    check_bools,
    check_instances,
    check_integers,
    check_numbers,
    check_one_of,
    check_paths,
    check_positive_integers,
    is_list,
    is_pair,
    require,
)
from keras_umd.utils.fingerprint import as_json, fingerprint

METRICS = ("frechet", "inception_score", "kernel")
SCALES = (1.0, 1.5, 2.0, 2.5, 3.0)
INTERVALS = (None, (0.0, 9.0))
SAMPLING = ("sampler", "num_steps", "predict_from", "batch_size")  # options of `generate` that the images depend on
REMEDY = "Delete it, and the sweep begins anew"


@dataclasses.dataclass(frozen=True, eq=False)
class Selection:
    """What `select` found.

    Example:

    >>> selection = evaluation.select(model, reference, network, guidance=[1.0, 2.0], labels=labels)    # doctest: +SKIP
    >>> model.generate([0, 1, 2], **selection.sampling)                                               # doctest: +SKIP

    Attributes:
        sampling: Dictionary, the best settings, as `model.generate(labels, **selection.sampling)`.
        result: `Result` of the best settings with many images; its card has all settings.
        sweep: `Table`, all settings with few images.
        finals: `Table`, the best of them with many.
    """

    sampling: dict
    result: Result
    sweep: Table
    finals: Table

    def __post_init__(self):
        check_instances(dict, "a dictionary", sampling=self.sampling)
        check_instances(Result, "a Result", result=self.result)
        check_instances(Table, "a Table", sweep=self.sweep, finals=self.finals)

    def __str__(self):
        return f"{self.sampling}\n\n{self.finals}\n\n{self.sweep}"

    __repr__ = __str__


def select(
    model,
    reference,
    network,
    *,
    weights=None,
    guidance=SCALES,
    intervals=INTERVALS,
    metric="frechet",
    num_images=1_000,
    final_images=10_000,
    num_finalists=3,
    path=None,
    seed=0,
    verbose=True,
    **options,
):
    """Find the average, the guidance and the interval that give the best images.

    All combinations are judged with few images, on the same noise. The best of them are judged once more with many
    images, of other noise, since the best of many looks better than it is; the best of these is what is selected.

    Example:

    >>> network = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(name="features")])
    >>> reference = evaluation.Reference.of(network, images)
    >>> found = evaluation.select(model, reference, network, path="selection.json", num_steps=50)       # doctest: +SKIP
    >>> found.sampling                                                                                  # doctest: +SKIP
    {'weights': 0.9998, 'guidance': Interval(scale=2.5, low=0.0, high=9.0), 'num_steps': 50}
    >>> model.generate([0, 1, 2], **found.sampling)                                                     # doctest: +SKIP

    Args:
        model, reference, network: As in `evaluate_generator`.
        weights: List of `"average"`, `"raw"`, decays and `PowerProfile`s of the model's averages. Defaults to all
            averages that have been updated, or to the raw weights of a model without.
        guidance: List of floats of at least 0, the scales.
        intervals: List of pairs `(low, high)`, noise over signal as of `guidance.Interval`, and of `None` for guidance
            everywhere. Without guidance, at a scale of 1, they make no difference and count once.
        metric: `"frechet"`, `"inception_score"` or `"kernel"`.
        num_images, final_images: Integers, the images for each setting and for each finalist.
        num_finalists: Integer.
        path: String or path of a JSON file, in which each result is kept as soon as it is known: the same call goes on
            where it was stopped. `None` to keep nothing.
        seed: Integer, of the noise; finalists get `seed + 1`.
        verbose: Bool. Whether to show progress bars.
        **options: As of `generate_to`: `num_steps`, `sampler`, `labels`, `batch_size`, ...

    Returns:
        `Selection`.

    Raises:
        ValueError: for a file of another reference, network or metric, naming what differs.
        DamagedFileError: for a file that isn't what was written.
    """
    check_instances(Reference, "a Reference", reference=reference)
    require(hasattr(model, "weight_values"), "`model` must be a keras_umd.UMD.", model=model)
    check_model(network=network)
    check_bools(verbose=verbose)
    check_one_of(METRICS, metric=metric)
    check_positive_integers(num_images=num_images, final_images=final_images, num_finalists=num_finalists)
    check_integers(0, 2**31 - 2, seed=seed)
    choices = _choices(model, weights, guidance, intervals)
    settings_of("generate", {name: options[name] for name in options if name != "labels"})
    options = {"verbose": verbose, "metrics": (metric,), **options}
    kept = _Kept(path, {"reference": reference.digest, "network": network_identity(network), "metric": metric})
    hashes = {}

    def judge(chosen, count, seed):
        decay = chosen["weights"]
        if decay not in hashes:
            hashes[decay] = fingerprint(model.weight_values(decay))
        given = {**options, **chosen, "num_images": int(count), "seed": seed}
        return kept.result(
            {"model": hashes[decay], **given},
            lambda: next(iter(evaluate_generator(model, reference, network, **given).values())),
        )

    sweep = Table(_row(chosen, judge(chosen, num_images, seed)) for chosen in choices)
    order = sorted(range(len(choices)), key=lambda i: _badness(sweep[i], metric))[: int(num_finalists)]
    finals = Table(_row(choices[i], judge(choices[i], final_images, seed + 1)) for i in order)
    best = min(range(len(order)), key=lambda i: _badness(finals[i], metric))
    sampling = {**choices[order[best]], **{name: options[name] for name in SAMPLING if name in options}}
    return Selection(sampling, _result(finals[best]), sweep, finals)


def _choices(model, weights, guidance, intervals):
    """All combinations, as arguments of `generate`."""
    if weights is None:
        weights = [average.decay for average in model.averages if average.is_updated()] or ["raw"]
    for name, values in {"weights": weights, "guidance": guidance, "intervals": intervals}.items():
        require(is_list(values) and len(values), f"`{name}` must be a list of choices.", **{name: values})
    for scale in guidance:
        check_numbers("[0, inf)", guidance=scale)
    for interval in intervals:
        is_right = interval is None or is_pair(interval, low=0)
        require(is_right, "`intervals` must be pairs (low, high), from 0 on, or None.", intervals=intervals)
    for choice in weights:
        model.weight_values(choice)  # raises for one that the model doesn't have
    choices = []
    for choice in weights:
        for scale in guidance:
            for interval in intervals if scale != 1 else (None,):  # a scale of 1 is no guidance, in any interval
                chosen = Constant(scale) if interval is None else Interval(scale, *interval)
                choices.append({"weights": choice, "guidance": chosen})
    return choices


def _row(chosen, result):
    guidance = chosen["guidance"]
    interval = f"{guidance.low:g} to {guidance.high:g}" if isinstance(guidance, Interval) else "everywhere"
    weights = chosen["weights"] if isinstance(chosen["weights"], (str, float)) else repr(chosen["weights"])
    return {"weights": weights, "guidance": guidance.scale, "interval": interval, result.metric: result}


def _result(row):
    return next(value for value in row.values() if isinstance(value, Result))


def _badness(row, metric):
    """What is smallest for the best row; NaN is worst."""
    value = _result(row).value
    return math.inf if math.isnan(value) else -value if metric == "inception_score" else value


class _Kept:
    """Results in a file, by the settings that they are of.

    Args:
        path: String or path, or `None` to keep none.
        judged_by: Dictionary of what must be the same for all results.
    """

    def __init__(self, path, judged_by):
        self.path, self.values = None, {"judged_by": judged_by, "results": {}}
        if path is None:
            return
        check_paths(path=path)
        self.path = os.fspath(path)
        if not storage.exists(self.path):
            make_folder(os.path.dirname(os.path.abspath(self.path)))
            return
        values = read_json(self.path, REMEDY, has_checksum=True)
        if not isinstance(values.get("results"), dict) or not isinstance(values.get("judged_by"), dict):
            raise DamagedFileError(f"{self.path} must hold the results of `select`. {REMEDY}")
        differing = [name for name in judged_by if values["judged_by"].get(name) != judged_by[name]]
        details = "; ".join(f"{name}: {values['judged_by'].get(name)} and {judged_by[name]}" for name in differing)
        require(not differing, f"{self.path} has results that were judged otherwise; take another `path`.", details)
        self.values = values

    def result(self, settings, measure):
        """The result of these settings: as kept, or measured now and kept."""
        text = json.dumps(settings, sort_keys=True, default=as_json)
        key = fingerprint([np.frombuffer(text.encode(), "uint8")])
        if key in self.values["results"]:
            return Result(**self.values["results"][key])
        result = measure()
        self.values["results"][key] = result.card
        if self.path is not None:
            write_json(self.path, dict(self.values))
        return result
