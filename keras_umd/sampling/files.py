"""Many generated images on disk, in the form that evaluators read, from a run that may be stopped and go on."""

import glob
import itertools
import json
import os
import shutil
import zipfile

import keras
import numpy as np

from keras_umd.backend.processes import broadcast_from_first, is_first_process, progress_bar, wait_for_all
from keras_umd.sampling.stream import SampleStream
from keras_umd.utils.atomic import write_json, write_whole
from keras_umd.utils.checks import check_one_of, check_paths, check_positive_integers, require

FORMATS = ("npz", "png")


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
    on other devices.

    Example:

    >>> path = keras_umd.generate_to(model, "samples", num_images=50_000, num_steps=50, guidance=1.5)
    >>> np.load(path)["arr_0"].shape        # what ADM's and DiT's evaluator reads
    (50000, 64, 64, 3)

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
    check_positive_integers(num_images=num_images, batch_size=batch_size)
    check_one_of(FORMATS, format=format)
    check_one_of(("auto", True, False), verbose=verbose)
    num_images, batch_size = int(num_images), int(batch_size)
    require(
        format == "npz" or not model.is_latent or model.autoencoder is not None,
        "Latents can't be PNG files; set `model.autoencoder` to decode them, or take format='npz'.",
        format=format,
    )
    shape = model.generated_shape
    require(format == "npz" or shape[-1] in (1, 3, 4), "PNG files have 1, 3 or 4 channels.", f"images of shape {shape}")
    samples = SampleStream(model, num_images, labels, seed, options)
    manifest = {**samples.description(), "format": format}
    os.makedirs(directory, exist_ok=True)
    _check_manifest(directory, manifest)

    path = os.path.join(directory, "x".join(map(str, (f"samples_{num_images}", *shape))) + ".npz")
    store = _PngFiles(directory) if format == "png" else _Parts(directory)
    done = broadcast_from_first(num_images if os.path.exists(path) else store.num_images())
    writes = is_first_process()
    progress = progress_bar(num_images, verbose)
    for images in samples.batches(batch_size, start=done):
        if writes:
            if not done:  # not before, so that a wrong option leaves the directory as it was
                write_json(os.path.join(directory, "manifest.json"), manifest)
            store.append(done, images)
        done += len(images)
        progress(done)
    if writes and format == "png" and samples.labels is not None:
        np.savetxt(os.path.join(directory, "labels.txt"), samples.labels, fmt="%d")
    if writes and format == "npz":
        if not os.path.exists(path):
            store.merge(path, samples.labels)
        shutil.rmtree(store.directory, ignore_errors=True)
    wait_for_all()
    return path if format == "npz" else os.fspath(directory)


def _check_manifest(directory, manifest):
    path = os.path.join(directory, "manifest.json")
    if os.path.exists(path):
        with open(path) as file:
            found = json.load(file)
        differing = [name for name in {**found, **manifest} if found.get(name) != manifest.get(name)]
        if differing:
            found, asked = ({name: m.get(name) for name in differing} for m in (found, manifest))
            raise ValueError(
                f"{directory} holds samples made otherwise; take another directory, or delete it. They differ in: "
                f"{found}. Received: {asked}"
            )
        return
    require(
        all(name.startswith(".") for name in os.listdir(directory)),
        f"{directory} must be empty or hold samples of `generate_to`.",
        "other files in it",
    )


class _Parts:
    """Batches as files of their own, merged into one at the end."""

    def __init__(self, directory):
        self.directory = os.path.join(directory, "parts")

    def _paths(self):
        # What a stopped write left begins with a dot, and isn't found.
        return [os.path.join(self.directory, name) for name in sorted(glob.glob("*.npy", root_dir=self.directory))]

    def num_images(self):
        return sum(len(np.load(path, mmap_mode="r")) for path in self._paths())

    def append(self, start, images):
        os.makedirs(self.directory, exist_ok=True)
        write_whole(os.path.join(self.directory, f"{start:09}.npy"), lambda temporary: np.save(temporary, images))

    def merge(self, path, labels):
        """One array from all parts, without all of them in memory: the layout of `np.savez`."""
        paths = self._paths()
        first = np.load(paths[0], mmap_mode="r")
        header = {"descr": first.dtype.str, "fortran_order": False, "shape": (self.num_images(), *first.shape[1:])}

        def write(temporary):
            with zipfile.ZipFile(temporary, "w", allowZip64=True) as archive:
                with archive.open("arr_0.npy", "w", force_zip64=True) as file:
                    np.lib.format.write_array_header_1_0(file, header)
                    for part in paths:
                        file.write(np.load(part).tobytes())
                if labels is not None:
                    with archive.open("arr_1.npy", "w") as file:
                        np.lib.format.write_array(file, labels.astype("int64"))

        write_whole(path, write)


class _PngFiles:
    """A file for each image."""

    def __init__(self, directory):
        self.directory = directory

    def _path(self, index):
        return os.path.join(self.directory, f"{index:06}.png")

    def num_images(self):
        return next(index for index in itertools.count() if not os.path.exists(self._path(index)))

    def append(self, start, images):
        for index, image in enumerate(images, start):
            write_whole(
                self._path(index), lambda temporary, image=image: keras.utils.save_img(temporary, image, scale=False)
            )
