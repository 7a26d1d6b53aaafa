"""One call for the rows of the field's tables: nearest neighbours, linear probe, efficient probe."""

import os

import numpy as np

from keras_umd.evaluation.efficient_probe import EfficientProbe
from keras_umd.evaluation.feature_scores import POOLINGS, named, probe_results
from keras_umd.evaluation.features import extract, labelled, pairs_of
from keras_umd.evaluation.linear_probe import LinearProbe
from keras_umd.evaluation.neighbour_sweep import KNNSweep
from keras_umd.evaluation.results import Table, describe_model
from keras_umd.evaluation.tokens import extract_tokens
from keras_umd.utils.checks import (
    check_bools,
    check_instances,
    check_one_of,
    check_paths,
    check_positive_integers,
    require,
)


def evaluate_representation(
    model,
    data,
    *,
    neighbours=None,
    linear=None,
    efficient=None,
    pooling="cls",
    image_shape=None,
    weights="average",
    directory=None,
    batch_size=256,
    verbose=True,
):
    """Judge the representation of a UMD by the three probes that the field reports (2506.10178).

    Nearest neighbours and the linear probe read one vector of an image, the efficient probe the tokens of its patches.

    Example:

    >>> print(evaluation.evaluate_representation(model, {"digits": (train, test)}))                     # doctest: +SKIP
    | data   | best k-NN accuracy | linear accuracy | efficient probe accuracy |
    | ------ | ------------------ | --------------- | ------------------------ |
    | digits | 0.978              | 0.981           | 0.986                    |

    Args:
        model: `UMD`.
        data: As in `evaluate_features`.
        neighbours: `KNNSweep`. Defaults to `KNNSweep()`.
        linear: `LinearProbe`. Defaults to `LinearProbe()`.
        efficient: `EfficientProbe`. Defaults to one of 32 queries, or as many as the model's width allows.
        pooling: String, of the vector: `"cls"`, `"mean"` or `"cls+mean"`.
        image_shape: Tuple `(*space, channels)` of images of another size than the model's.
        weights: As in `UMD.feature_extractor`.
        directory: String or path of a folder for the tokens' files, which stay there, or `None` to keep the tokens in
            memory.
        batch_size: Integer, for data that are arrays.
        verbose: Bool. Whether to show progress bars.

    Returns:
        `Table` with a row for each pair and a column of `Result`s for each probe.

    Raises:
        ValueError: for images without labels, and as from `extract`, `extract_tokens` and the probes.
    """
    require(hasattr(model, "feature_extractor"), "`model` must be a keras_umd.UMD.", model=model)
    check_instances(KNNSweep, "a KNNSweep", optional=True, neighbours=neighbours)
    check_instances(LinearProbe, "a LinearProbe", optional=True, linear=linear)
    check_instances(EfficientProbe, "an EfficientProbe", optional=True, efficient=efficient)
    check_one_of(POOLINGS, pooling=pooling)
    if directory is not None:
        check_paths(directory=directory)
    check_positive_integers(batch_size=batch_size)
    check_bools(verbose=verbose)
    probes = [KNNSweep() if neighbours is None else neighbours, LinearProbe() if linear is None else linear]
    # 32 divides the widths of all presets; of a small model, the largest number of queries that does.
    efficient = EfficientProbe(int(np.gcd(32, model.hidden_dim))) if efficient is None else efficient
    settings = {"image_shape": image_shape, "weights": weights}
    pooled = model.feature_extractor(pooling=pooling, **settings)
    patches = model.feature_extractor(pooling=None, **settings)
    table = Table()
    for name, *pair in pairs_of(data):
        features = [labelled(extract(pooled, part, batch_size, verbose=verbose)) for part in pair]
        folders = _folders(directory, name)
        tokens = [
            labelled(extract_tokens(patches, part, folder, batch_size, verbose=verbose))
            for part, folder in zip(pair, folders, strict=True)
        ]
        results = probe_results(probes, *features, describe_model(pooled))
        results |= probe_results([efficient], *tokens, describe_model(patches))
        table.append({**named(name), **results})
    return table


def _folders(directory, name):
    if directory is None:
        return None, None
    folder = os.fspath(directory) if name is None else os.path.join(os.fspath(directory), name)
    return os.path.join(folder, "train"), os.path.join(folder, "test")
