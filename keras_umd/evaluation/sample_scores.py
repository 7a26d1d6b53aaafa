"""Scores of generated images: distances to real ones, precision and recall."""

import hashlib
import itertools
import os

import numpy as np

from keras_umd.evaluation.features import batches_of, check_model, with_progress
from keras_umd.evaluation.image_scores import (
    gaussian_distance,
    inception_score,
    kernel_distance,
    label_agreement,
)
from keras_umd.evaluation.neighbourhoods import neighbourhood_scores
from keras_umd.evaluation.reference import ImageFeatures, Reference, network_identity, stored_images
from keras_umd.evaluation.results import Result, Row, Table
from keras_umd.sampling.files import read_description
from keras_umd.sampling.stream import SampleStream
from keras_umd.utils.checks import check_bools, check_instances, check_paths, check_positive_integers, is_list, require

KID_SUBSETS = {"num_subsets": 100, "subset_size": 1000, "seed": 0}
NEIGHBOURS = {"precision_k": 3, "coverage_k": 5}
SPLITS = 10
FEWEST_IMAGES = {"inception_score": SPLITS, "kernel": 2, "neighbourhoods": 1 + max(NEIGHBOURS.values())}


def evaluate_images(images, reference, network, metrics=None, *, subject=None, batch_size=64, verbose=True):
    """Score images.

    Example:

    >>> network = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(name="features")])
    >>> reference = evaluation.Reference.of(network, images)
    >>> scores = evaluation.evaluate_images(images[:12], reference, network, ["frechet"], verbose=False)

    Args:
        images: String, the path of an `.npz` file or of a folder of PNG files as `generate_to` writes them, which are
            compared with their checksums; or as in `extract`. They are read in batches and never all in memory.
        reference: `Reference` of the same network.
        network: `FIDInception`, or any Keras model from images to features `(batch, dim)`, or to a dictionary of
            `features` and `logits`.
        metrics: List of `"frechet"`, `"inception_score"` (where the network has logits), `"kernel"` and
            `"neighbourhoods"` (where the reference keeps its features), and `"labels"`, the share of images that the
            network takes for their label (where images have one and logits are those of their classes). Defaults to
            all but the last that network, reference and number of images allow.
        subject: Dictionary of JSON values that describe the images, for the cards; a hash of the images is added.
            Defaults to the manifest that `generate_to` wrote beside the file.
        batch_size: Integer, images at a time.
        verbose: Bool. Whether to show a progress bar.

    Returns:
        Dictionary of `Result`s. With FID's own Inception they are called `fid`, `inception_score` and `kid`, with any
        other network `frechet_distance`, `classifier_score` and `kernel_distance`; then `precision`, `recall`,
        `density` and `coverage`; `label_agreement`.

    Raises:
        ValueError: for a reference of another network, and for metrics that need features or logits that are missing.
    """
    _check(reference, network, batch_size, verbose)
    check_instances(dict, "a dictionary", optional=True, subject=subject)
    digest, source, all_labels = hashlib.sha256(), images, []
    if isinstance(images, (str, os.PathLike)):
        check_paths(images=images)
        description = read_description(images)
        subject = description if subject is None else subject
        images = stored_images(images, batch_size)

    def hashed():
        for batch, labels in with_progress(batches_of(images, batch_size, "images"), source, verbose):
            digest.update(np.ascontiguousarray(batch).view("uint8").data)
            if labels is not None:
                all_labels.append(labels)
            yield batch

    def describe():
        return {**(subject or {}), "images": digest.hexdigest()}

    return _scores(hashed(), reference, network, metrics, describe, batch_size, all_labels)


def evaluate_generator(
    model,
    reference,
    network,
    num_images=50_000,
    *,
    labels="balanced",
    metrics=None,
    batch_size=64,
    seed=0,
    verbose=True,
    **options,
):
    """Score generated images; they are passed to the network in batches and not kept.

    Example:

    >>> network = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(name="features")])
    >>> reference = evaluation.Reference.of(network, images)
    >>> settings = {"metrics": ["frechet", "neighbourhoods"], "num_steps": 4, "verbose": False}
    >>> scores = evaluation.evaluate_generator(model, reference, network, 12, **settings)
    >>> print(scores["precision"].line())
    precision ... | ...

    Args:
        model: `UMD`. A latent one needs an `autoencoder`.
        reference, network: As in `evaluate_images`.
        num_images, labels: As in `generate_to`.
        metrics: As in `evaluate_images`.
        batch_size, seed: As in `generate_to`.
        verbose: As in `evaluate_images`.
        **options: As in `generate_to`.

    Returns:
        Dictionary of `Result`s, as from `evaluate_images`; the cards record the settings of sampling.
    """
    require(hasattr(model, "generated_shape"), "`model` must be a keras_umd.UMD.", model=model)
    _check(reference, network, batch_size, verbose)
    require(
        not model.is_latent or model.autoencoder is not None,
        "Latents can't be scored; set `model.autoencoder`.",
        "a latent model without one",
    )
    samples = SampleStream(model, num_images, labels, seed, options)
    return _scores(
        with_progress(((images, None) for images in samples.batches(batch_size)), samples, verbose),
        reference,
        network,
        metrics,
        samples.description,
        batch_size,
        [] if samples.labels is None else [samples.labels],
    )


def sweep_generation(
    model,
    reference,
    network,
    num_images=1_000,
    *,
    samplers=("ddim",),
    num_steps=(50,),
    guidance=(1.0,),
    weights=("average",),
    metrics=("frechet",),
    **options,
):
    """Score all combinations of averages, samplers, steps and guidance on the same noise.

    Example:

    >>> network = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(name="features")])
    >>> reference = evaluation.Reference.of(network, images)
    >>> settings = {"num_steps": (2, 4), "guidance": (1.0, 2.0)}
    >>> table = evaluation.sweep_generation(model, reference, network, num_images=12, **settings)       # doctest: +SKIP
    >>> table.best("frechet_distance", smallest=True)                                                   # doctest: +SKIP

    Args:
        model, reference, network, num_images: As in `evaluate_generator`.
        samplers: List of samplers, objects or names, as in `UMD.generate`.
        num_steps: List of integers.
        guidance: List of floats and guidance objects, as in `UMD.generate`.
        weights: List of `"average"`, `"raw"` and decays of the model's averages.
        metrics, **options: As in `evaluate_generator`.

    Returns:
        `Table` with the columns `weights`, `sampler`, `num_steps`, `guidance`, and one for each metric.
    """
    lists = {"weights": weights, "samplers": samplers, "num_steps": num_steps, "guidance": guidance}
    for name, values in lists.items():
        require(is_list(values) and len(values), f"`{name}` must be a list of choices.", **{name: values})
    settings = {"weights": weights, "sampler": samplers, "num_steps": num_steps, "guidance": guidance}
    table = Table()
    for values in itertools.product(*settings.values()):
        chosen = dict(zip(settings, values, strict=True))
        shown = {name: x if isinstance(x, (str, int, float)) else repr(x) for name, x in chosen.items()}
        scores = evaluate_generator(model, reference, network, num_images, metrics=metrics, **chosen, **options)
        table.append({**shown, **scores})
    return table


def _scores(batches, reference, network, metrics, describe, batch_size, labels):
    """The scores of batches of images; `describe` is called after the last one and returns the cards' subject.

    `labels` is a list of arrays, filled after the last batch at the latest; empty for images without.
    """
    chosen = _checked_metrics(metrics, reference)
    reference.check_network(network)
    seen = ImageFeatures(
        network,
        batches,
        batch_size,
        keep_features=not {"kernel", "neighbourhoods"}.isdisjoint(chosen),
        keep_probabilities=not {"inception_score", "labels"}.isdisjoint(chosen),
    )
    seen.labels = np.concatenate(labels) if labels else None
    if "labels" in chosen:
        require(seen.probabilities is not None, "The network has no `logits`.", metrics=metrics)
        require(labels, "The images have no labels.", metrics=metrics)
    if seen.probabilities is None and "inception_score" in chosen:
        require(metrics is None, "The network has no `logits`.", f"metrics={metrics}, network={network.name}")
        chosen.remove("inception_score")
    if metrics is None:
        both = (seen.features, reference.features)
        needed = {"frechet": (), "inception_score": (seen.probabilities,), "kernel": both, "neighbourhoods": both}
        chosen = [name for name in chosen if all(len(x) >= FEWEST_IMAGES[name] for x in needed[name])]
    require(
        seen.statistics.mean.shape == reference.mean.shape,
        "The reference must be of the same network.",
        f"{seen.statistics.dim} features of an image, a reference of {len(reference.mean)}",
    )
    is_fid = getattr(network, "is_fid", False)
    protocol = {"network": network_identity(network), "num_images": seen.statistics.num_images}
    against = {**protocol, "reference": reference.digest, "num_reference": reference.num_images}
    subject, results = describe(), Row()
    for metric in chosen:
        for name, value, deviation, settings in _SCORES[metric](seen, reference, is_fid):
            shared = protocol if metric in ("inception_score", "labels") else against
            results[name] = Result(name, value, {**shared, "settings": settings}, subject, deviation)
    return results


def _check(reference, network, batch_size, verbose):
    check_instances(Reference, "a Reference", reference=reference)
    check_model(network=network)
    check_positive_integers(batch_size=batch_size)
    check_bools(verbose=verbose)


def _checked_metrics(metrics, reference):
    """The metrics to compute, in the order of `_SCORES`."""
    need_features = {"kernel", "neighbourhoods"}
    if metrics is None:
        by_default = [name for name in _SCORES if name != "labels"]
        return [name for name in by_default if reference.features is not None or name not in need_features]
    is_right = is_list(metrics) and len(metrics) and all(isinstance(m, str) and m in _SCORES for m in metrics)
    require(is_right, f"`metrics` must be a list of {tuple(_SCORES)}.", metrics=metrics)
    require(
        reference.features is not None or need_features.isdisjoint(metrics),
        f"{sorted(need_features & set(metrics))} need a reference made with keep_features=True.",
        f"metrics={metrics}, and a reference of mean and covariance alone",
    )
    return [name for name in _SCORES if name in metrics]


def _frechet(seen, reference, is_fid):
    own = seen.statistics
    distance = gaussian_distance(own.mean, own.covariance, reference.mean, reference.covariance)
    yield "fid" if is_fid else "frechet_distance", distance, None, {}


def _inception_score(seen, reference, is_fid):
    # Splits are consecutive parts: without a shuffle, images sorted by class would leave few classes in each.
    order = np.random.default_rng(0).permutation(len(seen.probabilities))
    name, settings = "inception_score" if is_fid else "classifier_score", {"splits": SPLITS, "shuffle_seed": 0}
    yield name, *inception_score(seen.probabilities[order], SPLITS), settings


def _kernel(seen, reference, is_fid):
    smaller = min(KID_SUBSETS["subset_size"], len(seen.features), len(reference.features))
    settings = {**KID_SUBSETS, "subset_size": smaller}
    value, deviation = kernel_distance(seen.features, reference.features, **settings)
    is_whole = smaller == len(seen.features) == len(reference.features)  # every subset is the whole set: no deviation
    yield "kid" if is_fid else "kernel_distance", value, None if is_whole else deviation, settings


def _neighbourhoods(seen, reference, is_fid):
    for name, value in neighbourhood_scores(seen.features, reference.features, **NEIGHBOURS).items():
        yield name, value, None, NEIGHBOURS


def _labels(seen, reference, is_fid):
    yield "label_agreement", label_agreement(seen.probabilities, seen.labels), None, {}


# Generators of the name, value, deviation and settings of each number of a metric. Only scores of FID's own Inception
# network may have the names of the literature.
_SCORES = {
    "frechet": _frechet,
    "inception_score": _inception_score,
    "kernel": _kernel,
    "neighbourhoods": _neighbourhoods,
    "labels": _labels,
}
