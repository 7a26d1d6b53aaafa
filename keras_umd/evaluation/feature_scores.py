"""Scores of an encoder's features: tables of probes' accuracies."""

import dataclasses
import functools

import numpy as np

from keras_umd.data import from_tfds
from keras_umd.data.crops import height_and_width
from keras_umd.evaluation.features import check_model, extract, labelled, pairs_of
from keras_umd.evaluation.few_shot import FewShotProbe
from keras_umd.evaluation.results import Result, Table, describe_model
from keras_umd.utils.checks import as_integers, check_bools, check_paths, check_positive_integers, is_list, require

POOLINGS = ("cls", "mean", "cls+mean")
# Name and split in TFDS, of training and of test data. 4% of ImageNet are 51 images a class, enough to draw 10 from.
TRANSFER = {
    "STL-10": (("stl10", "train"), ("stl10", "test")),
    "Oxford Flowers": (("oxford_flowers102", "train"), ("oxford_flowers102", "test")),
    "DTD": (("dtd", "train"), ("dtd", "test")),
    "CIFAR-100": (("cifar100", "train"), ("cifar100", "test")),
    "Oxford Pets": (("oxford_iiit_pet", "train"), ("oxford_iiit_pet", "test")),
    "Food-101": (("food101", "train"), ("food101", "validation")),
    "Stanford Dogs": (("stanford_dogs", "train"), ("stanford_dogs", "test")),
    "ImageNet-v2": (("imagenet2012", "train[:4%]"), ("imagenet_v2/matched-frequency", "test")),
}


def evaluate_features(encoder, data, probes=None, *, batch_size=256, verbose=True):
    """Probe one encoder on one or many labelled data sets.

    Example:

    >>> probes = [evaluation.FewShotProbe(2), evaluation.KNNProbe(3)]
    >>> data = {"digits": (train, test)}
    >>> print(evaluation.evaluate_features(model.feature_extractor(), data, probes, verbose=False))
    | data   | 2-shot accuracy | 3-NN accuracy |
    ...

    Args:
        encoder: Any Keras model from images to features `(batch, dim)`.
        data: A pair `(train, test)` of labelled images, each as in `extract`; or a dictionary from names to such pairs,
            or to functions that return one, called in their turn. `transfer_datasets` has the paper's.
        probes: `FewShotProbe`, `LinearProbe`, `KNNProbe`, ..., or a list of them. Defaults to a `FewShotProbe()`.
        batch_size: Integer, for data that are arrays.
        verbose: Bool. Whether to show progress bars.

    Returns:
        `Table` with a row for each pair and a column of `Result`s for each probe; of a dictionary, with the column
        `data`.

    Raises:
        ValueError: for images without labels, and as from `extract` and the probes.
    """
    check_model(encoder=encoder)
    check_positive_integers(batch_size=batch_size)
    check_bools(verbose=verbose)
    probes, subject = as_probes(probes), describe_model(encoder)
    table = Table()
    for name, train, test in pairs_of(data):
        if verbose and name is not None:
            print(name)
        train, test = (labelled(extract(encoder, x, batch_size, verbose=verbose)) for x in (train, test))
        table.append({**named(name), **probe_results(probes, train, test, subject)})
    return table


def sweep_features(
    model,
    data,
    probes=None,
    *,
    layers=None,
    poolings=POOLINGS,
    timesteps=(0, 50),
    weights="average",
    batch_size=256,
    seed=0,
    verbose=True,
):
    """Probe all combinations of layer, pooling and noise level of a UMD.

    The best is chosen on the test images, so report the accuracy of that choice on other data.

    Example:

    >>> probe = evaluation.FewShotProbe(2)
    >>> table = evaluation.sweep_features(model, (train, test), probe, layers=[1, 2], timesteps=[0], verbose=False)
    >>> best = table.best("2-shot accuracy")
    >>> sorted(best)
    ['2-shot accuracy', 'layer', 'pooling', 'timesteps']

    Args:
        model: `UMD`.
        data, probes: As in `evaluate_features`.
        layers: List of integers, see `UMD.feature_extractor`. Defaults to all.
        poolings: List of `"cls"`, `"mean"` and `"cls+mean"`.
        timesteps: List of integers in [0, T].
        weights: As in `UMD.feature_extractor`.
        batch_size: Integer, for data that are arrays.
        seed: Integer, for the noise.
        verbose: Bool. Whether to show progress bars.

    Returns:
        `Table` with the columns `layer`, `pooling`, `timesteps` and each probe's name; of a dictionary, with the column
        `data`.

    Raises:
        ValueError: for unknown poolings, and as from `evaluate_features`.
    """
    require(hasattr(model, "feature_extractor"), "`model` must be a keras_umd.UMD.", model=model)
    is_right = is_list(poolings) and len(poolings) and all(pooling in POOLINGS for pooling in poolings)
    require(is_right, f"`poolings` must be a list of {POOLINGS}.", poolings=poolings)
    num_levels = len(as_integers(0, model.corruption.num_timesteps, timesteps=timesteps))
    require(num_levels, "`timesteps` must be at least one.", timesteps=timesteps)
    if layers is not None:
        num_layers = len(as_integers(1, model.encoder.num_layers, layers=layers))
        require(num_layers, "`layers` must be at least one.", layers=layers)
    check_positive_integers(batch_size=batch_size)
    check_bools(verbose=verbose)
    probes = as_probes(probes)
    layers = list(range(1, model.encoder.num_layers + 1)) if layers is None else list(layers)
    columns = {"cls": slice(model.hidden_dim), "mean": slice(model.hidden_dim, None), "cls+mean": slice(None)}
    table = Table()
    for name, train, test in pairs_of(data):
        for t in timesteps:
            # All layers and poolings from one pass over the images.
            extractor = model.feature_extractor(
                pooling="cls+mean", layer=layers, timesteps=t, weights=weights, seed=seed
            )
            sets = (extract(extractor, x, batch_size, verbose=verbose) for x in (train, test))
            description = describe_model(extractor)
            for layer, pair in zip(layers, zip(*sets, strict=True), strict=True):
                for pooling in poolings:
                    chosen = {"layer": layer, "pooling": pooling, "timesteps": t}
                    pooled = (dataclasses.replace(labelled(x), features=x.features[:, columns[pooling]]) for x in pair)
                    table.append({**named(name), **chosen, **probe_results(probes, *pooled, {**description, **chosen})})
    return table


def as_probes(probes):
    """A list of probes, from one, from several, or from `None`."""
    probes = FewShotProbe() if probes is None else probes
    given = list(probes) if isinstance(probes, (list, tuple)) else [probes]
    is_right = given and all(hasattr(probe, "accuracies") and not isinstance(probe, type) for probe in given)
    require(is_right, "`probes` must be a probe, as FewShotProbe(), or a list of them.", probes=probes)
    return given


def named(name):
    """The cells of a row that name its data set; none for a single pair."""
    return {} if name is None else {"data": name}


def probe_results(probes, train, test, subject):
    """Fit and judge probes on two `FeatureSet`s.

    Args:
        probes: List of probes.
        train, test: `FeatureSet`s with labels.
        subject: Dictionary that describes the encoder.

    Returns:
        Dictionary from the probes' names to `Result`s.
    """
    results = {}
    for probe in probes:
        accuracies = probe.accuracies((train.features, train.labels), (test.features, test.labels))
        protocol = {
            "probe": probe.get_config(),
            "train": train.digest,
            "num_train": len(train),
            "test": test.digest,
            "num_test": len(test),
        }
        deviation = np.std(accuracies) if len(accuracies) > 1 else None
        results[probe.name] = Result(probe.name, np.mean(accuracies), protocol, subject, deviation)
    return results


def transfer_datasets(image_size, batch_size=256, *, names=None, data_dir=None, **options):
    """The paper's eight data sets for 10-shot probes (section 5), for `evaluate_features`.

    They must have been prepared with TFDS. Each is opened in its turn.

    Example:

    >>> datasets = evaluation.transfer_datasets(64, names=["cifar10"])                                  # doctest: +SKIP
    >>> evaluation.evaluate_features(model.feature_extractor(), datasets)                               # doctest: +SKIP

    Args:
        image_size: Integer.
        batch_size: Integer.
        names: List of some of `keras_umd.evaluation.TRANSFER`. Defaults to all.
        data_dir: String or path, where TFDS keeps its data sets.
        **options: As in `keras_umd.data.from_tfds`.

    Returns:
        Dictionary from names to functions that return a pair of data sets, `(train, test)`.

    Raises:
        ValueError: for unknown names.
    """
    height_and_width(image_size)
    check_positive_integers(batch_size=batch_size)
    if data_dir is not None:
        check_paths(data_dir=data_dir)
    names = list(TRANSFER) if names is None else names
    is_right = is_list(names) and len(names) and all(isinstance(name, str) and name in TRANSFER for name in names)
    require(is_right, f"`names` must be a list of {list(TRANSFER)}.", names=names)

    def open_pair(name):
        settings = {"image_size": image_size, "batch_size": batch_size, "training": False, "data_dir": data_dir}
        return tuple(from_tfds(*source, **settings, **options) for source in TRANSFER[name])

    return {name: functools.partial(open_pair, name) for name in names}
