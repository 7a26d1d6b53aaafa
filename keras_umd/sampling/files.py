"""Many generated images on disk, in the form that evaluators read, from a run that may be stopped and go on."""

import contextlib
import itertools
import os
import pathlib
import re
import zipfile

import keras
import numpy as np

from keras_umd.backend.processes import broadcast_from_first, is_first_process, progress_bar, wait_for_all
from keras_umd.sampling.stream import SampleStream
from keras_umd.utils.arrays import check_sizes, map_array, reading
from keras_umd.utils.atomic import (
    MANIFEST,
    DamagedFileError,
    check_space,
    checksum,
    entry_of,
    flush,
    read_json,
    what_is_wrong,
    write_json,
    write_whole,
)
from keras_umd.utils.checks import check_one_of, check_paths, check_positive_integers, require

FORMATS = ("npz", "png")
CHECKSUMS = "checksums.txt"
LABELS = "labels.txt"
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
    store = _PngFiles(directory) if format == "png" else _Parts(directory)
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
    store = _PngFiles(directory)
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


class _Checksums:
    """The SHA-256 of files, a line each, as `sha256sum` writes them. It is appended to: a manifest of 50,000 images
    would be written anew for each batch.
    """

    def __init__(self, directory):
        self.directory = directory
        self.path = os.path.join(directory, CHECKSUMS)

    def read(self):
        """Dictionary of names and checksums. Lines that aren't whole are left out, and so their files."""
        if not os.path.isfile(self.path):
            return {}
        with open(self.path, encoding="utf-8", errors="replace") as file:
            return {name: digest for digest, name in re.findall(r"([0-9a-f]{64})  (\d+\.(?:npy|png))\n", file.read())}

    def append(self, names):
        with open(self.path, "a", encoding="utf-8") as file:
            file.writelines(f"{checksum(os.path.join(self.directory, name))}  {name}\n" for name in names)
        flush(self.path)
        flush(self.directory)

    def tidy(self):
        """Write the lines in order, without those of before that a damage or a second writing left."""
        lines = [f"{digest}  {name}\n" for name, digest in sorted(self.read().items())]
        write_whole(self.path, lambda temporary: pathlib.Path(temporary).write_text("".join(lines), encoding="utf-8"))

    def whole_files(self):
        """The names of the files that are there as they were written, in order."""
        files = ((name, os.path.join(self.directory, name), digest) for name, digest in sorted(self.read().items()))
        return [name for name, path, digest in files if os.path.isfile(path) and checksum(path) == digest]


class _Parts:
    """Batches as files of their own, merged into one at the end."""

    def __init__(self, directory):
        self.directory = os.path.join(directory, "parts")
        self.checksums = _Checksums(self.directory)

    def _read(self, name):
        return map_array(os.path.join(self.directory, name), "Call `generate_to` again to make it anew")

    def whole(self):
        """Pairs (start, stop) of the images that are there."""
        starts = [(int(name.removesuffix(".npy")), name) for name in self.checksums.whole_files()]
        return [(start, start + len(self._read(name))) for start, name in starts]

    def append(self, start, images):
        os.makedirs(self.directory, exist_ok=True)
        name = f"{start:09}.npy"
        write_whole(
            os.path.join(self.directory, name), lambda temporary: np.save(temporary, images), needed_bytes=images.nbytes
        )
        self.checksums.append([name])

    def merge(self, path, labels):
        """One array from all parts, without all of them in memory: the layout of `np.savez`."""
        names = self.checksums.whole_files()
        first = self._read(names[0])
        num_images = sum(len(self._read(name)) for name in names)
        header = {"descr": first.dtype.str, "fortran_order": False, "shape": (num_images, *first.shape[1:])}

        def write(temporary):
            with zipfile.ZipFile(temporary, "w", allowZip64=True) as archive:
                with archive.open("arr_0.npy", "w", force_zip64=True) as file:
                    np.lib.format.write_array_header_1_0(file, header)
                    for name in names:
                        file.write(self._read(name).tobytes())
                if labels is not None:
                    with archive.open("arr_1.npy", "w") as file:
                        np.lib.format.write_array(file, labels.astype("int64"))

        write_whole(path, write, needed_bytes=num_images * first[0].nbytes)

    def remove(self):
        """Remove the parts, and what a stopped write left of one; nothing else."""
        if os.path.isdir(self.directory):
            for name in os.listdir(self.directory):
                if name == CHECKSUMS or re.fullmatch(r"\d{9}\.npy|\.\d{9}\.npy\.tmp\.npy", name):
                    os.remove(os.path.join(self.directory, name))
            with contextlib.suppress(OSError):  # others' files are in it
                os.rmdir(self.directory)


class _PngFiles:
    """A file for each image."""

    def __init__(self, directory):
        self.directory = directory
        self.checksums = _Checksums(directory)

    def name(self, index):
        return f"{index:06}.png"

    def whole(self):
        """Pairs (start, stop) of the images that are there."""
        indices = (int(name.removesuffix(".png")) for name in self.checksums.whole_files())
        return [(index, index + 1) for index in indices]

    def append(self, start, images):
        check_space(self.directory, images.nbytes)
        for index, image in enumerate(images, start):
            write_whole(
                os.path.join(self.directory, self.name(index)),
                lambda temporary, image=image: keras.utils.save_img(temporary, image, scale=False),
            )
        self.checksums.append([self.name(index) for index in range(start, start + len(images))])

    def finish(self, labels):
        """Write the labels, and the checksums in order; returns the paths of the files that the manifest is to know."""
        self.checksums.tidy()
        paths = [self.checksums.path]
        if labels is not None:
            paths.append(os.path.join(self.directory, LABELS))
            write_whole(paths[-1], lambda temporary: np.savetxt(temporary, labels, fmt="%d"))
        return paths
