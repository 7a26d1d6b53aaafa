"""The manifest of a cache of latents: its settings, its files and their checksums."""

import hashlib
import json
import os

import numpy as np

from keras_umd.utils.atomic import write_json, write_whole

FORMAT = 1
MANIFEST = "manifest.json"


def write_array(directory, name, values):
    """Write a file of a cache; returns its entry for the manifest: name, size and checksum."""
    path = os.path.join(directory, f"{name}.npy")
    write_whole(path, lambda temporary: np.save(temporary, values))
    return {"file": f"{name}.npy", "bytes": os.path.getsize(path), "sha256": _checksum(path)}


def _checksum(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_manifest(directory, manifest):
    """Write the manifest, atomically."""
    write_json(os.path.join(directory, MANIFEST), manifest)


def _read_manifest(directory):
    """The manifest of a cache, or `None`."""
    path = os.path.join(directory, MANIFEST)
    if not os.path.exists(path):
        return None
    with open(path) as file:
        manifest = json.load(file)
    return manifest if {"format", "is_complete", "shards"} <= set(manifest) else None


def matching_manifest(directory, identity):
    """The manifest of a cache to go on with, or of a new one; shards with damaged files are not in it.

    Raises:
        ValueError: if the directory holds something else.
    """
    identity = json.loads(json.dumps(identity))
    manifest = _read_manifest(directory)
    if manifest is None:
        if any(not name.startswith(".") for name in os.listdir(directory)):
            raise ValueError(f"{directory} must be empty or hold a cache of latents. Received: other files in it")
        return {**identity, "is_complete": False, "shards": []}
    differing = [name for name, value in identity.items() if manifest.get(name) != value]
    if differing:
        found, asked = ({name: values.get(name) for name in differing} for values in (manifest, identity))
        raise ValueError(
            f"{directory} holds latents made otherwise; take another directory, or delete it. They differ in: {found}. "
            f"Received: {asked}"
        )
    whole = [shard for shard in manifest["shards"] if not list(_damaged_files(directory, shard))]
    if len(whole) < len(manifest["shards"]):  # `cache_latents` makes the others again
        manifest.update(shards=whole, is_complete=False)
    return manifest


def complete_manifest(directory, verify):
    """The manifest of a cache to read.

    Raises:
        ValueError: if there is none, if it isn't complete, and for damaged files; with `verify` by their checksums.
    """
    manifest = _read_manifest(directory)
    if manifest is None:
        raise ValueError(f"`directory` must hold a cache of `cache_latents`. Received: directory={directory}")
    if manifest["format"] != FORMAT or not manifest["is_complete"]:
        raise ValueError(
            f"The cache must be complete and of format {FORMAT}; call `cache_latents` again to go on. "
            f"Received: {directory}, format {manifest['format']}, complete: {manifest['is_complete']}"
        )
    for shard in manifest["shards"]:
        for path in _damaged_files(directory, shard, verify):
            raise ValueError(
                "A file of the cache is missing or damaged; delete it and call `cache_latents` again to make it anew. "
                f"Received: {path}"
            )
    return manifest


def _damaged_files(directory, shard, verify=False):
    """Yields the files of a shard that are missing, or of another size or content than they were."""
    for name in {"moments", "labels"} & set(shard):
        path = os.path.join(directory, shard[name]["file"])
        is_whole = os.path.exists(path) and os.path.getsize(path) == shard[name]["bytes"]
        if not is_whole or (verify and _checksum(path) != shard[name]["sha256"]):
            yield path
