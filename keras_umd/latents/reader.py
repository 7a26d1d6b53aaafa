"""Cached latents as a data set, sampled on the device."""

import functools
import os
import threading
import warnings

import keras
import ml_dtypes
import numpy as np
from keras import ops

from keras_umd.data.dataset import Dataset
from keras_umd.data.loading import prefetched
from keras_umd.data.order import Order
from keras_umd.latents.autoencoder import Autoencoder
from keras_umd.latents.cache import REMEDY, check_file, complete_manifest
from keras_umd.sampling.image_noise import image_noise, noise_key
from keras_umd.utils.arrays import map_array
from keras_umd.utils.checks import check_bools, check_instances, check_paths, require
from keras_umd.utils.seeds import seed_generator

MAX_OPEN_FILES = 256  # operating systems allow about a thousand


def from_latents(
    directory,
    *,
    batch_size=64,
    training=True,
    labels=True,
    shuffle=None,
    drop_remainder=None,
    seed=0,
    shard_index=0,
    num_shards=1,
    autoencoder=None,
    verify=True,
):
    """The data set that `cache_latents` wrote, for a latent model.

    In training, one view of each image is chosen at random, mirrored or not, and its latent is drawn in the step, on
    the device. In evaluation it is the mean of the first view.

    Example:

    >>> dataset = latents.from_latents("latents", batch_size=256)                                       # doctest: +SKIP
    >>> model.fit(dataset, epochs=80)                                                                   # doctest: +SKIP

    Args:
        directory: String or path.
        batch_size: Integer, of this host.
        training, labels, shuffle, drop_remainder, seed, shard_index, num_shards: As of `keras_umd.data.from_folder`.
        autoencoder: `Autoencoder` that must be the one that made the cache, or `None` for no check.
        verify: Bool. Whether to compare each file with its checksum before it is first read. `False` saves reading
            every file once more, and compares sizes alone: a flipped bit would go into the training, and a warning
            says so.

    Returns:
        `keras_umd.data.Dataset`.

    Raises:
        DamagedFileError: a ValueError that names the file, for files that are missing or damaged; where only the
            contents are, when the file is first read.
        ValueError: for a cache that isn't complete.
    """
    check_paths(directory=directory)
    check_bools(training=training, labels=labels, verify=verify)
    check_bools(optional=True, shuffle=shuffle, drop_remainder=drop_remainder)
    check_instances(Autoencoder, "an Autoencoder", optional=True, autoencoder=autoencoder)
    manifest = complete_manifest(directory)
    if not verify:
        warnings.warn(
            f"Of the files in {os.fspath(directory)} only the sizes are compared with those that were written; damaged "
            "contents would be trained on. Leave out verify=False to compare the checksums",
            stacklevel=2,
        )
    if autoencoder is not None and autoencoder.fingerprint() != manifest["autoencoder_fingerprint"]:
        raise ValueError(
            f"`autoencoder` must be the one that made the cache, {manifest['autoencoder']!r} with its weights. "
            f"Received: {autoencoder.name!r} with the fingerprint {autoencoder.fingerprint()}"
        )
    require(
        not labels or manifest["class_names"] is not None,
        "The cache was made of images without labels; take labels=False.",
        "labels=True",
    )
    source = _Shards(directory, manifest, verify)
    shuffle, drop_remainder = (training if value is None else value for value in (shuffle, drop_remainder))
    order = Order(len(source), batch_size, shuffle, drop_remainder, seed, shard_index, num_shards)
    return Dataset(
        LatentLoader(source, order, training, labels),
        image_shape=manifest["latent_shape"],
        class_names=manifest["class_names"] if labels else None,
        training=training,
        identity={name: manifest[name] for name in ("autoencoder_fingerprint", "views", "flip", "dataset")},
        dtype="float32",
        device_layer=SampleLatents(seed, name="sample_latents") if training else None,
    )


class SampleLatents(keras.layers.Layer):
    """Draws latents from their distributions, image by image, so that those of an epoch are the same in every run.

    Args:
        seed: Integer.
        **kwargs: As of `keras.layers.Layer`.
    """

    def __init__(self, seed, **kwargs):
        super().__init__(trainable=False, dtype="float32", **kwargs)
        self.key = noise_key(seed_generator(seed))
        self.built = True

    def call(self, batch):
        """float32 latents `(batch, height, width, channels)`, and their labels or `None`.

        Args:
            batch: Dictionary of `moments` `(batch, height, width, 2 * channels)`, mean and deviation; `indices`
                `(batch,)`, the numbers of their images; `epoch` `(batch,)`; and optionally `labels` `(batch,)`.
        """
        mean, std = ops.split(ops.cast(batch["moments"], "float32"), 2, axis=-1)
        indices, epoch = (ops.cast(batch[name], "int32") for name in ("indices", "epoch"))
        return mean + std * image_noise(
            ops.convert_to_tensor(self.key), indices, epoch[0], tuple(mean.shape[1:])
        ), batch.get("labels")


class LatentLoader:
    """Batches from the files of a cache, read ahead in a thread.

    Args:
        source: `_Shards`.
        order: `Order`.
        training: Bool. Whether batches are moments to sample from, or means.
        with_labels: Bool.
    """

    def __init__(self, source, order, training, with_labels):
        self.source = source
        self.order = order
        self.training = training
        self.with_labels = with_labels

    def batches(self, epoch, start):
        """The batches of an epoch, from batch `start` on."""

        def submit(pool, records, draws):
            batch = {}
            return batch, [pool.submit(lambda: batch.update(self._read(records, draws, epoch)))]

        for batch in prefetched(submit, self.order.batches(epoch, start)):
            if self.training:
                yield batch
            else:
                yield (batch["means"], batch["labels"]) if self.with_labels else batch["means"]

    def _read(self, records, draws, epoch):
        labels = {"labels": self.source.labels[records]} if self.with_labels else {}
        if not self.training:
            moments = self.source.read(records, np.zeros((len(records), 2), int)).astype("float32")
            return {"means": moments[..., : moments.shape[-1] // 2], **labels}
        versions = (draws[:, :2] * [self.source.num_views, self.source.num_mirrored]).astype(int)
        return {
            "moments": self.source.read(records, versions),
            "indices": records.astype("int32"),
            "epoch": np.full(len(records), epoch, "int32"),
            **labels,
        }


class _File:
    """An entry of the manifest, and whether this process has compared the file with it."""

    def __init__(self, entry):
        self.entry, self.is_verified, self.lock = entry, False, threading.Lock()


class _Shards:
    """The files of a cache: memory-mapped arrays `(count, mirrored, height, width, 2 * channels)`."""

    def __init__(self, directory, manifest, verify):
        shards = sorted(manifest["shards"], key=lambda shard: (shard["view"], shard["batch"]))
        self.num_views = manifest["views"]
        self.num_mirrored = 2 if manifest["flip"] else 1
        self._directory = directory
        self._verify = verify
        self._files = [
            [_File(shard["moments"]) for shard in shards if shard["view"] == v] for v in range(self.num_views)
        ]
        self._open = functools.lru_cache(MAX_OPEN_FILES)(self._load)
        first_view = [shard for shard in shards if shard["view"] == 0]
        self._starts = np.cumsum([0] + [shard["count"] for shard in first_view])  # the same in all views
        self._row_shape = (*manifest["latent_shape"][:2], 2 * manifest["latent_shape"][2])
        labels = [self._load(_File(shard["labels"])) for shard in first_view if "labels" in shard]
        self.labels = np.concatenate(labels) if labels else None
        require(
            self.labels is None or self.labels.shape == (len(self),),
            f"The manifest in {directory} must be of its files; {REMEDY[0].lower()}{REMEDY[1:]}.",
            f"{len(self)} images, labels of shape {np.shape(self.labels)}",
        )

    def _load(self, file):
        with file.lock:  # the threads that need a file wait while the first one verifies it
            if self._verify and not file.is_verified:
                check_file(self._directory, file.entry, verify=True)
                file.is_verified = True
        path = os.path.join(self._directory, file.entry["file"])
        return map_array(path, "Delete it and call `cache_latents` again to make it anew")

    def __len__(self):
        return int(self._starts[-1])

    def read(self, records, versions):
        """bfloat16 moments `(n, height, width, 2 * channels)` of records; `versions` `(n, 2)` are view and mirrored."""
        moments = np.empty((len(records), *self._row_shape), "uint16")
        shards = np.searchsorted(self._starts, records, side="right") - 1
        rows = records - self._starts[shards]
        for i, (view, mirrored) in enumerate(versions):
            moments[i] = self._open(self._files[view][shards[i]])[rows[i], mirrored]
        return moments.view(ml_dtypes.bfloat16)
