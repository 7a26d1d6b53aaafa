"""How good the features of an encoder are: tables of probes' accuracies."""

import numpy as np

from keras_umd.evaluation.features import FeatureSet, extract, labelled
from keras_umd.evaluation.few_shot import FewShotProbe
from keras_umd.evaluation.provenance import Result, describe_model
from keras_umd.evaluation.table import Table


def evaluate_features(encoder, datasets, probes=None, batch_size=256, verbose=True):
    """Probe one encoder on one or many labelled data sets.

    Example:

    >>> table = evaluate_features(model.feature_extractor(), {"digits": (train, test)}, [FewShotProbe(10), KNNProbe()])
    >>> print(table)
    | data   | 10-shot accuracy | 20-NN accuracy |
    | ------ | ---------------- | -------------- |
    | digits | 0.921 +- 0.021   | 0.978          |

    Args:
        encoder: Any Keras model from images to features `(batch, dim)`.
        datasets: Dictionary from names to pairs `(train, test)` of what `extract` takes, with labels; or to functions
            that give such a pair, called when it is its turn. `transfer_datasets` has the paper's.
        probes: List of `FewShotProbe`, `LinearProbe`, `KNNProbe`, ... Defaults to a `FewShotProbe()`.
        batch_size: Integer, for data that are arrays.
        verbose: Bool. Whether to show progress bars.

    Returns:
        `Table` with a row for each data set and a column of `Result`s for each probe.
    """
    probes = [FewShotProbe()] if probes is None else list(probes)
    subject = describe_model(encoder)
    table = Table()
    for name, pair in datasets.items():
        train, test = pair() if callable(pair) else pair
        if verbose:
            print(name)
        train, test = (labelled(extract(encoder, x, batch_size, verbose)) for x in (train, test))
        table.append({"data": name, **{probe.name: probe_result(probe, train, test, subject) for probe in probes}})
    return table


def sweep_features(
    model,
    train,
    test,
    probe=None,
    layers=None,
    poolings=("cls", "mean", "cls+mean"),
    timesteps=(0, 50),
    weights="average",
    batch_size=256,
    seed=0,
    verbose=True,
):
    """Which features of a UMD are the best: after which layer, pooled how, at which noise level.

    The choice is made on `test`, so report the accuracy of what was chosen on other data.

    Example:

    >>> table = sweep_features(model, train, validation, layers=[4, 8, 12])
    >>> table.best("10-shot accuracy")
    {'layer': 8, 'pooling': 'mean', 'timesteps': 0, '10-shot accuracy': ...}

    Args:
        model: `UMD`.
        train, test: Labelled images, as of `extract`.
        probe: Probe, or a list of them. Defaults to a `FewShotProbe()`.
        layers: List of integers, see `UMD.feature_extractor`. Defaults to all.
        poolings: List of `"cls"`, `"mean"` and `"cls+mean"`.
        timesteps: List of integers in [0, T].
        weights: As of `UMD.feature_extractor`.
        batch_size: Integer, for data that are arrays.
        seed: Integer, for the noise.
        verbose: Bool. Whether to show progress bars.

    Returns:
        `Table` with the columns `layer`, `pooling`, `timesteps` and each probe's name.
    """
    unknown = set(poolings) - {"cls", "mean", "cls+mean"}
    if unknown or not poolings:
        raise ValueError(f"`poolings` must be of 'cls', 'mean' and 'cls+mean'. Received: poolings={poolings}")
    probes = list(probe) if isinstance(probe, (list, tuple)) else [FewShotProbe() if probe is None else probe]
    layers = list(range(1, model.encoder.num_layers + 1)) if layers is None else list(layers)
    parts = {"cls": slice(model.hidden_dim), "mean": slice(model.hidden_dim, None), "cls+mean": slice(None)}
    table = Table()
    for t in timesteps:
        # All layers and poolings from one pass over the images.
        extractor = model.feature_extractor(pooling="cls+mean", layer=layers, timesteps=t, weights=weights, seed=seed)
        pairs = zip(*(extract(extractor, x, batch_size, verbose) for x in (train, test)), strict=True)
        description = describe_model(extractor)
        for layer, pair in zip(layers, pairs, strict=True):
            for pooling in poolings:
                chosen = {"layer": layer, "pooling": pooling, "timesteps": t}
                sets = [FeatureSet(x.features[:, parts[pooling]], x.labels, x.digest) for x in map(labelled, pair)]
                subject = {**description, **chosen}
                table.append({**chosen, **{p.name: probe_result(p, *sets, subject) for p in probes}})
    return table


def probe_result(probe, train, test, subject):
    """The `Result` of a probe on two `FeatureSet`s; `subject` says what made the features."""
    accuracies = probe.accuracies((train.features, train.labels), (test.features, test.labels))
    protocol = {
        "probe": probe.get_config(),
        "train": train.digest,
        "num_train": len(train),
        "test": test.digest,
        "num_test": len(test),
    }
    deviation = np.std(accuracies) if len(accuracies) > 1 else None
    return Result(probe.name, np.mean(accuracies), protocol, subject, deviation)
