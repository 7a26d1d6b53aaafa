"""Computes the latents of a data set once, instead of in every epoch; their files, with a manifest and checksums."""

import itertools
import json
import math
import os

import keras
import ml_dtypes
import numpy as np
from keras import ops

from keras_umd.data.image_dataset import ImageDataset
from keras_umd.latents.autoencoder import Autoencoder
from keras_umd.utils.arrays import reading
from keras_umd.utils.atomic import (
    MANIFEST,
    DamagedFileError,
    entry_of,
    read_json,
    what_is_wrong,
    write_json,
    write_whole,
)
from keras_umd.utils.checks import check_bools, check_paths, is_between, require

FORMAT = 1
REMEDY = "Delete the folder, and call `cache_latents` again to make it anew"
SHARD_BYTES = 2**26  # a kill loses one shard: 2048 images of 256x256 pixels


def cache_latents(dataset, autoencoder, directory, *, views=1, flip=True, verbose=True):
    """Encode all images of a data set and write the distributions of their latents into a directory.

    Mean and deviation are kept, in bfloat16, so that every epoch draws latents anew. Called again, it goes on where it
    was stopped.

    Example:

    >>> settings = {"image_size": 256, "batch_size": 64, "training": False}
    >>> pictures = keras_umd.data.from_folder("imagenet/train", **settings)                             # doctest: +SKIP
    >>> latents.cache_latents(pictures, latents.StableDiffusionAutoencoder(), "imagenet_latents")       # doctest: +SKIP
    >>> model = keras_umd.UMD.from_preset("umd_large_patch2_latent32")                                  # doctest: +SKIP
    >>> model.fit(latents.from_latents("imagenet_latents", batch_size=1024, labels=False))              # doctest: +SKIP

    Args:
        dataset: `keras_umd.data.ImageDataset` with every image in each epoch, and in the same order: of evaluation data
            (`training=False`), or with random crops, `training=True, flip=False, shuffle=False,
            drop_remainder=False`. It may leave out images that can't be read, the same ones in each epoch.
        autoencoder: `Autoencoder`.
        directory: String or path. Holds one cache: another autoencoder is refused, and so is another data set. Data
            sets are compared by the images' names, number and labels, and by the sizes of up to 1,000 of their files,
            or the values of up to 1,000 images of an array.
        views: Integer, how many crops of each image to keep. More than 1 needs random crops.
        flip: Bool. Whether to keep the mirror image of each crop, too.
        verbose: Bool. Whether to show a progress bar.

    Returns:
        The directory, for `from_latents`.

    Raises:
        ValueError: for a data set with other crops, channels, order or shards than above, and if the directory holds
            something else.
    """
    check_paths(directory=directory)
    check_bools(flip=flip, verbose=verbose)
    _check_arguments(dataset, autoencoder, views)
    identity = _identity(dataset, autoencoder, int(views), bool(flip))
    os.makedirs(directory, exist_ok=True)
    manifest, path = matching_manifest(directory, identity), os.path.join(directory, MANIFEST)
    done = {(shard["view"], shard["batch"]) for shard in manifest["shards"]}
    progress = keras.utils.Progbar(views * len(dataset), verbose=int(bool(verbose)), unit_name="batch")
    for view, start in itertools.product(range(views), range(0, len(dataset), identity["shard_batches"])):
        stop = min(start + identity["shard_batches"], len(dataset))
        if (view, start) not in done:
            state = dataset.get_state()
            if (state["epoch"], state["batch"]) != (view, start):  # else batches read ahead would be lost
                dataset.go_to(view, start)
            arrays, shard = _encode(dataset, autoencoder, stop - start, flip, progress, view * len(dataset) + start)
            if not done:  # not before, so that a wrong argument leaves the directory as it was
                write_json(path, manifest)
            shard |= {"view": view, "batch": start}
            for name, values in arrays.items():
                shard[name] = write_array(directory, f"view{view:02}-batch{start:07}-{name}", values)
            manifest["shards"].append(shard)
            done.add((view, start))
            write_json(path, manifest)
        progress.update(view * len(dataset) + stop)
    _check_views(manifest, directory)
    if not manifest["is_complete"]:
        manifest["is_complete"] = True
        write_json(path, manifest)
    return os.fspath(directory)


def _identity(dataset, autoencoder, views, flip):
    """The settings of a cache, which its manifest keeps."""
    latent_shape = autoencoder.latent_shape(dataset.image_shape[:2])
    row_bytes = 2 * 2 * int(np.prod(latent_shape)) * (2 if flip else 1)
    return {
        "format": FORMAT,
        "autoencoder": autoencoder.name,
        "autoencoder_fingerprint": autoencoder.fingerprint(),
        "scale": autoencoder.scale,
        "latent_shape": list(latent_shape),
        "views": views,
        "flip": flip,
        "class_names": dataset.class_names,
        "dataset": dataset.identity,
        "shard_batches": max(1, SHARD_BYTES // (row_bytes * dataset.batch_size)),
    }


def _check_arguments(dataset, autoencoder, views):
    require(
        isinstance(dataset, ImageDataset) and dataset.device_layer is None and dataset.dtype == "uint8",
        "`dataset` must be images, from a function of keras_umd.data other than `on_device`.",
        f"a {type(dataset).__name__}",
    )
    require(
        isinstance(autoencoder, Autoencoder),
        "`autoencoder` must be an `Autoencoder`.",
        f"autoencoder={autoencoder!r}",
    )
    require(
        dataset.image_shape[-1] == 3,
        "Images must have 3 channels.",
        f"dataset with images of shape {dataset.image_shape}",
    )
    require(
        is_between(views, 1, 1000 if dataset.training else 1),
        "`views` must be an integer from 1 to 1000, and 1 where all crops of an image are alike, with training=False.",
        f"views={views}, training={dataset.training}",
    )
    require(
        not dataset.identity["shuffle"] and not dataset.drop_remainder,
        "Every epoch must have all images in the same order; make the data set with training=False, or for random "
        "crops with training=True, flip=False, shuffle=False, drop_remainder=False.",
        f"shuffle={dataset.identity['shuffle']}, drop_remainder={dataset.drop_remainder}",
    )
    require(
        dataset.identity["num_shards"] == 1 and not dataset.is_repeated,
        "One host writes the whole cache; several may read it.",
        f"num_shards={dataset.identity['num_shards']}, is_repeated={dataset.is_repeated}",
    )


def _encode(dataset, autoencoder, num_batches, flip, progress, num_done):
    """The arrays of a shard, from the next batches, and its entries for the manifest: counts and images left out."""
    height, width, channels = autoencoder.latent_shape(dataset.image_shape[:2])
    moments = [np.empty((0, 2 if flip else 1, height, width, 2 * channels), "uint16")]
    labels, left_out = [np.empty(0, "int32")], []
    for number in range(num_batches):
        batch = dataset.read_batch()
        left_out += [[number, place] for place in dataset.left_out]
        if batch is not None:
            images, batch_labels = batch if dataset.class_names is not None else (batch, [])
            mirrored = [images, images[:, :, ::-1]] if flip else [images]
            encoded = [map(ops.convert_to_numpy, autoencoder.encode(x)) for x in mirrored]
            encoded = np.stack([np.concatenate(list(mean_and_std), axis=-1) for mean_and_std in encoded], axis=1)
            require(
                np.all(np.isfinite(encoded)), "The autoencoder must give finite latents.", f"others in batch {number}"
            )
            moments.append(encoded.astype(ml_dtypes.bfloat16).view("uint16"))
            labels.append(batch_labels)
        if number + 1 < num_batches:
            progress.update(num_done + number + 1)
    arrays = {"moments": np.concatenate(moments)}
    if dataset.class_names is not None:
        arrays["labels"] = np.concatenate(labels).astype("int32")
    return arrays, {"count": len(arrays["moments"]), "left_out": left_out}


def _check_views(manifest, directory):
    """A ValueError unless record i is the same image in every view."""
    shards = sorted(manifest["shards"], key=lambda shard: shard["batch"])
    contents = [
        [
            (s["batch"], s["count"], s["left_out"], s.get("labels", {}).get("sha256"))
            for s in shards
            if s["view"] == view
        ]
        for view in range(manifest["views"])
    ]
    for number, content in enumerate(contents):
        require(
            content == contents[0],
            "Every view must have the same images. Files that can't be read have changed meanwhile; delete "
            f"{directory} and start anew.",
            f"view {number} with other images than view 0",
        )


def write_array(directory, name, values):
    """Write a file of a cache; returns its entry for the manifest: name, size and checksum."""
    path = os.path.join(directory, f"{name}.npy")
    write_whole(path, lambda temporary: np.save(temporary, values), needed_bytes=values.nbytes)
    return {"file": f"{name}.npy", **entry_of(path)}


def _read_manifest(directory):
    """The manifest of a cache, or `None`."""
    path = os.path.join(directory, MANIFEST)
    manifest = read_json(path, REMEDY) if os.path.exists(path) else {}
    return manifest if {"format", "is_complete", "shards"} <= set(manifest) else None


def _check_contents(manifest, path):
    """A DamagedFileError for a manifest that lacks what is read of it, or promises more images than its files have."""
    with reading(path, REMEDY):
        row_bytes = 4 * math.prod(manifest["latent_shape"]) * (2 if manifest["flip"] else 1)
        {name: manifest[name] for name in ("autoencoder", "autoencoder_fingerprint", "class_names", "dataset")}
        for shard in manifest["shards"]:
            entries = [(entry["file"], entry["bytes"], entry["sha256"]) for entry in _files_of(shard)]
            if not 0 <= shard["count"] * row_bytes <= shard["moments"]["bytes"] or shard["batch"] < 0:
                raise ValueError(f"{shard['count']} images can't be in {entries}")
        views = {shard["view"] for shard in manifest["shards"]}
        if len(views) != manifest["views"] or views != set(range(len(views))):
            raise ValueError(f"it has shards of the views {sorted(views)} instead of {manifest['views']} views")


def matching_manifest(directory, identity):
    """The manifest of a cache to go on with, or of a new one; shards with damaged files are not in it.

    Raises:
        ValueError: if the directory holds something else.
    """
    identity = json.loads(json.dumps(identity))
    manifest = _read_manifest(directory)
    if manifest is None:
        require(
            all(name.startswith(".") for name in os.listdir(directory)),
            f"{directory} must be empty or hold a cache of latents.",
            "other files in it",
        )
        return {**identity, "is_complete": False, "shards": []}
    differing = [name for name, value in identity.items() if manifest.get(name) != value]
    found, asked = ({name: values.get(name) for name in differing} for values in (manifest, identity))
    require(
        not differing,
        f"{directory} holds latents made otherwise; take another directory, or delete it. They differ in: {found}.",
        asked,
    )
    whole = [shard for shard in manifest["shards"] if all(_is_of_size(directory, entry) for entry in _files_of(shard))]
    if len(whole) < len(manifest["shards"]):  # `cache_latents` makes the others again
        manifest.update(shards=whole, is_complete=False)
    return manifest


def complete_manifest(directory):
    """The manifest of a cache to read, whose files have the sizes that they were written with.

    Raises:
        ValueError: if there is none, if it isn't complete, and for files that are missing or cut.
    """
    manifest = _read_manifest(directory)
    require(
        manifest is not None,
        "`directory` must hold a cache of `cache_latents`.",
        f"directory={directory}",
    )
    require(
        manifest["format"] == FORMAT and manifest["is_complete"],
        f"The cache must be complete and of format {FORMAT}; call `cache_latents` again to go on.",
        f"{directory}, format {manifest['format']}, complete: {manifest['is_complete']}",
    )
    _check_contents(manifest, os.path.join(directory, MANIFEST))
    for shard in manifest["shards"]:
        for entry in _files_of(shard):
            check_file(directory, entry, verify=False)
    return manifest


def check_file(directory, entry, verify):
    """A DamagedFileError for a file of a cache that is missing, or of another size or, with `verify`, content."""
    if problem := what_is_wrong(os.path.join(directory, entry["file"]), entry, verify):
        raise DamagedFileError(
            "A file of the cache is missing or damaged; delete it and call `cache_latents` again to make it anew. "
            f"Received: {problem}"
        )


def _files_of(shard):
    return [shard[name] for name in ("moments", "labels") if name in shard]


def _is_of_size(directory, entry):
    return what_is_wrong(os.path.join(directory, entry["file"]), entry, verify=False) is None
