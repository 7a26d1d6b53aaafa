"""Many generated images on disk, in the form that evaluators read, from a run that may be stopped and go on."""

import itertools
import os
import zipfile

import numpy as np

from keras_umd.backend.processes import broadcast_from_first, is_first_process, progress_bar, wait_for_all
from keras_umd.sampling.batches_on_disk import Parts, PngFiles
from keras_umd.sampling.stream import SampleStream
from keras_umd.utils.arrays import check_sizes, reading
from keras_umd.utils.atomic import (
    MANIFEST,
    DamagedFileError,
    check_space,
    checksum,
    entry_of,
    read_json,
    what_is_wrong,
    write_json,
)
from keras_umd.utils.checks import check_one_of, check_paths, check_positive_integers, require

FORMATS = ("npz", "png")
REMEDY = "Delete the folder, and call `generate_to` again to make it anew"


def generate_to(
    model,
    directory,
    num_images=50_000,
    labels="balanced",
    batch_size=64,
    format="npz",
    seed=0,
    verbose=True,
    **options,
):
    """Generate images into a directory, and go on where an earlier call was stopped.

    Image i depends on the seed and on i, not on the batch size, so that a run can be continued with another one, or
    on other devices. What is there is compared with its checksum: damaged parts and PNG files are made again. Files
    beside the samples are left alone.

    Example:

    >>> path = keras_umd.generate_to(model, "samples", num_images=6, batch_size=3, num_steps=4)
    >>> np.load(path)["arr_0"].shape        # what ADM's and DiT's evaluator reads
    (6, 8, 8, 1)

    Args:
        model: `UMD`. The samples of a latent model are latents, or images where `model.autoencoder` is set.
        directory: String or path. Belongs to one set of samples: another model, seed or setting is refused.
        num_images: Integer.
        labels: `"balanced"`, where image i gets the label i modulo the number of classes (no label from a model without
            classes); an int array `(num_images,)`; or `None` for no labels.
        batch_size: Integer, images at a time.
        format: `"npz"`, one file with the images in `arr_0` and the labels, if any, in `arr_1`; or `"png"`, a file for
            each image, named by its index, and `labels.txt` with a label a line.
        seed: Integer.
        verbose: Bool or `"auto"`. Whether to show a progress bar.
        **options: As of `UMD.generate`: `num_steps`, `guidance`, `sampler`, ...

    Returns:
        String, the path of the `.npz` file, or the directory with the PNG files.

    Raises:
        ValueError: for wrong arguments, and if the directory holds samples of something else.
    """
    require(hasattr(model, "generated_shape"), "`model` must be a keras_umd.UMD.", model=model)
    check_paths(directory=directory)
    check_one_of(("auto", True, False), verbose=verbose)
    _check_arguments(model, num_images, batch_size, format)
    num_images, batch_size = int(num_images), int(batch_size)
    samples = SampleStream(model, num_images, labels, seed, options)
    description = {**samples.description(), "format": format}
    os.makedirs(directory, exist_ok=True)
    known = _known_files(directory, description)

    path = os.path.join(directory, "x".join(map(str, (f"samples_{num_images}", *model.generated_shape))) + ".npz")
    store = PngFiles(directory) if format == "png" else Parts(directory)
    writes, is_whole = is_first_process(), format == "npz" and _are_whole(path, known)
    missing = _as_first_process([] if is_whole else _gaps(store.whole(), num_images))
    num_missing = sum(stop - start for start, stop in missing)
    if writes and format == "npz" and not is_whole:  # the parts, and the file that they become
        image_bytes = int(np.prod(model.generated_shape)) * (4 if _are_floats(model) else 1)
        check_space(directory, (num_missing + num_images) * image_bytes)
    progress = progress_bar(num_images, verbose)
    done = num_images - num_missing
    for start, stop in missing:
        for images in samples.batches(batch_size, start, stop):
            if writes:
                if known is None:  # not before, so that a wrong option leaves the directory as it was
                    write_json(os.path.join(directory, MANIFEST), description)
                    known = {}
                store.append(start, images)
            start += len(images)
            done += len(images)
            progress(done)
    if writes:
        files = store.finish(samples.labels) if format == "png" else [path]
        if format == "npz" and not is_whole:
            store.merge(path, samples.labels)
        names = {os.path.basename(file): entry_of(file) for file in files}
        if names != known:
            write_json(os.path.join(directory, MANIFEST), {**description, "files": names})
        if format == "npz":
            store.remove()
    wait_for_all()
    return path if format == "npz" else os.fspath(directory)


def read_description(path):
    """What `generate_to` wrote down of samples, after they were compared with their checksums.

    Args:
        path: String or path, of an `.npz` file, or of a folder of PNG files. Samples of older versions are without
            checksums; an `.npz` file has those of ZIP.

    Returns:
        Dictionary, or `None` for a file of something else.

    Raises:
        DamagedFileError: names the file that is missing or damaged.
    """
    path = os.fspath(path)
    directory = path if os.path.isdir(path) else os.path.dirname(os.path.abspath(path))
    manifest = os.path.join(directory, MANIFEST)
    if not os.path.isfile(manifest):
        return None
    description = read_json(manifest, REMEDY)
    files = description.pop("files", {})  # of a manifest of something else, anything
    files = files if isinstance(files, dict) else {}
    names = files if path == directory else [name for name in files if name == os.path.basename(path)]
    for name in names:
        if problem := what_is_wrong(os.path.join(directory, name), files[name]):
            raise DamagedFileError(f"{problem}. Delete it, and call `generate_to` again to make it anew")
    return description


def png_paths(directory):
    """The PNG files of a finished folder of `generate_to`, in their order, each compared with its checksum when its
    turn comes.

    Raises:
        DamagedFileError: names the file that is missing or damaged.
    """
    description = read_description(directory)
    if description is None or description.get("format") != "png" or not isinstance(description.get("num_images"), int):
        raise ValueError(
            "A folder of images must be one of `generate_to` with format='png'; read others by "
            f"`keras_umd.data.from_folder`. Received: {directory}"
        )
    store = PngFiles(directory)
    digests = store.checksums.read()
    for index in range(description["num_images"]):
        name = store.name(index)
        path = os.path.join(directory, name)
        if not os.path.isfile(path) or checksum(path) != digests.get(name):
            raise DamagedFileError(f"{path} is missing or damaged. Call `generate_to` again to make it anew")
        yield path


def _known_files(directory, description):
    """The finished files and their entries, of the manifest of a directory that holds these samples; or `None`."""
    path = os.path.join(directory, MANIFEST)
    if os.path.exists(path):
        found = read_json(path, REMEDY)
        files = found.pop("files", {})
        differing = [name for name in {**found, **description} if found.get(name) != description.get(name)]
        if differing:
            found, asked = ({name: m.get(name) for name in differing} for m in (found, description))
            raise ValueError(
                f"{directory} holds samples made otherwise; take another directory, or delete it. They differ in: "
                f"{found}. Received: {asked}"
            )
        return files
    if any(not name.startswith(".") for name in os.listdir(directory)):
        raise ValueError(f"{directory} must be empty or hold samples of `generate_to`. Received: other files in it")
    return None


def _check_arguments(model, num_images, batch_size, format):
    check_positive_integers(num_images=num_images, batch_size=batch_size)
    check_one_of(FORMATS, format=format)
    require(
        format == "npz" or not _are_floats(model),
        "Latents can't be PNG files; set `model.autoencoder` to decode them, or take format='npz'.",
        format=format,
    )
    shape = model.generated_shape
    require(format == "npz" or shape[-1] in (1, 3, 4), "PNG files have 1, 3 or 4 channels.", f"images of shape {shape}")


def _are_whole(path, known):
    """Whether the first process has the `.npz` file, or it must be made; a DamagedFileError where it is damaged."""
    problem = _problem_of_samples(path, known) if is_first_process() else None
    if broadcast_from_first(problem is not None and os.path.exists(path)):
        problem = problem or f"{path} is damaged, as the first process sees it"
        raise DamagedFileError(f"{problem}. Delete it, and call `generate_to` again to make it anew")
    return broadcast_from_first(problem is None)


def _problem_of_samples(path, known):
    """Why an `.npz` file isn't whole, or `None`."""
    entry = (known or {}).get(os.path.basename(path))
    if entry is not None or not os.path.exists(path):
        return what_is_wrong(path, entry or {})
    try:  # of an older version, or killed before its entry was written
        with reading(path, "It has no entry in the manifest"), zipfile.ZipFile(path) as archive:
            check_sizes(path, archive)
            damaged = archive.testzip()
    except DamagedFileError as error:
        return str(error)
    return None if damaged is None else f"{path} has a damaged {damaged}"


def _gaps(whole, num_images):
    """The parts of `range(num_images)` that none of the pairs (start, stop) has, as such pairs."""
    ends = [0, *itertools.chain.from_iterable(sorted(whole)), num_images]
    return [(start, stop) for start, stop in zip(ends[::2], ends[1::2], strict=True) if start < stop]


def _as_first_process(pairs):
    """The pairs of integers of the first process."""
    count = broadcast_from_first(len(pairs))
    return [tuple(map(broadcast_from_first, pair)) for pair in (pairs + [(0, 0)] * count)[:count]]


def _are_floats(model):
    return model.is_latent and model.autoencoder is None
