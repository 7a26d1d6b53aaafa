"""The latents of a data set, computed once instead of in every epoch."""

import hashlib
import json
import os

import keras
import ml_dtypes
import numpy as np
from keras import ops

from keras_umd.data.image_dataset import PreparedDataset
from keras_umd.data.prefetch import prefetched
from keras_umd.data.readers import Options
from keras_umd.diffusion.image_noise import image_noise, noise_key
from keras_umd.files import write_json, write_whole
from keras_umd.seeds import seed_generator

FORMAT = 1
SHARD_BYTES = 2**29  # a file stays open for each


def cache_latents(dataset, autoencoder, directory, views=1, flip=True, verbose=True):
    """Encode all images of a data set and write the distributions of their latents into a directory.

    Mean and deviation are kept, in bfloat16, so that every epoch draws latents anew. Called again, it goes on where it
    was stopped.

    Example:

    >>> images = keras_umd.data.from_folder("imagenet/train", 256, batch_size=64, training=False)
    >>> keras_umd.latents.cache_latents(images, StableDiffusionAutoencoder(), "imagenet_latents")
    >>> model = keras_umd.UMD.from_preset("umd_large_patch2_latent32")
    >>> model.fit(keras_umd.latents.from_latents("imagenet_latents", batch_size=1024, labels=False), epochs=400)

    Args:
        dataset: `keras_umd.data.ImageDataset` with every image in each epoch, and in the same order: of evaluation data
            (`training=False`), or with random crops, `training=True, flip=False, shuffle=False,
            drop_remainder=False`.
        autoencoder: `Autoencoder`.
        directory: String or path. Belongs to one cache: another data set or autoencoder is refused.
        views: Integer, how many crops of each image to keep. More than 1 needs random crops.
        flip: Bool. Whether to keep the mirror image of each crop, too.
        verbose: Bool. Whether to show a progress bar.

    Returns:
        The directory, for `from_latents`.

    Raises:
        ValueError: for a data set that doesn't fit, and if the directory holds something else.
    """
    if not isinstance(views, (int, np.integer)) or views < 1 or (views > 1 and not dataset.training):
        raise ValueError(
            "`views` must be a positive integer, and 1 where all crops of an image are the same, with training=False. "
            f"Received: views={views}, training={dataset.training}"
        )
    if dataset.identity["shuffle"] or dataset.drop_remainder:
        raise ValueError(
            "Every epoch must have all images in the same order; make the data set with training=False, or for random "
            "crops with training=True, flip=False, shuffle=False, drop_remainder=False. "
            f"Received: shuffle={dataset.identity['shuffle']}, drop_remainder={dataset.drop_remainder}"
        )
    latent_shape = autoencoder.latent_shape(dataset.image_shape[:2])
    identity = {
        "format": FORMAT,
        "autoencoder": autoencoder.name,
        "autoencoder_fingerprint": autoencoder.fingerprint(),
        "scale": autoencoder.scale,
        "latent_shape": list(latent_shape),
        "views": int(views),
        "flip": bool(flip),
        "class_names": dataset.class_names,
        "dataset": dataset.identity,
    }
    os.makedirs(directory, exist_ok=True)
    path = os.path.join(directory, "manifest.json")
    manifest = _matching_manifest(directory, path, identity)
    row_bytes = 2 * 2 * int(np.prod(latent_shape)) * (2 if flip else 1)
    shard_batches = max(1, SHARD_BYTES // (row_bytes * dataset.batch_size))
    starts = range(0, len(dataset), shard_batches)

    progress = keras.utils.Progbar(views * len(dataset), unit_name="batch") if verbose else None
    for view in range(views):
        for start in starts:
            stop = min(start + shard_batches, len(dataset))
            if not any((shard["view"], shard["batch"]) == (view, start) for shard in manifest["shards"]):
                state = dataset.get_state()
                if (state["epoch"], state["batch"]) != (view, start):  # else it has read ahead already
                    dataset.go_to(view, start)
                shard = _write_shard(dataset, autoencoder, directory, view, start, stop, flip)
                manifest["shards"].append(shard)
                write_json(path, manifest)
            if progress is not None:
                progress.update(view * len(dataset) + stop)
    contents = [[] for _ in range(views)]
    for shard in manifest["shards"]:
        contents[shard["view"]].append((shard["batch"], shard["count"], shard.get("labels_sha256")))
    if any(sorted(content) != sorted(contents[0]) for content in contents):
        raise ValueError(
            "Every view must have the same images. Those that can't be read must have changed meanwhile; delete "
            f"{directory} and start anew. Received: {contents}"
        )
    if not manifest["is_complete"]:
        manifest["is_complete"] = True
        write_json(path, manifest)
    return os.fspath(directory)


def from_latents(
    directory,
    batch_size=64,
    training=True,
    labels=True,
    shuffle=None,
    drop_remainder=None,
    seed=0,
    shard_index=0,
    num_shards=1,
    verify=False,
):
    """The data set that `cache_latents` wrote, for a latent model.

    In training, each image is one of its views, mirrored or not, by chance, and its latent is drawn in the step, on the
    device. In evaluation it is the mean of the first view.

    Args:
        directory: String or path.
        batch_size: Integer, of this host.
        training, labels, shuffle, drop_remainder, seed, shard_index, num_shards: As of `keras_umd.data.from_folder`.
        verify: Bool. Whether to compare all files with their checksums first.

    Returns:
        `keras_umd.data.ImageDataset`.

    Raises:
        ValueError: for a cache that isn't complete, or whose files are damaged.
    """
    manifest = _complete_manifest(directory, verify)
    if labels and manifest["class_names"] is None:
        raise ValueError("The cache was made of images without labels. Received: labels=True")
    source = _Shards(directory, manifest)
    settings = Options(
        image_size=manifest["latent_shape"][0],
        batch_size=batch_size,
        training=training,
        shuffle=shuffle,
        drop_remainder=drop_remainder,
        seed=seed,
        shard_index=shard_index,
        num_shards=num_shards,
    )
    order = settings.order(len(source))
    identity = {name: manifest[name] for name in ("autoencoder_fingerprint", "views", "flip", "dataset")}
    identity.update(seed=seed, shuffle=order.shuffle)
    dataset = PreparedDataset(
        LatentLoader(source, order, training, labels),
        num_images=order.num_own_records,
        image_shape=manifest["latent_shape"],
        class_names=manifest["class_names"] if labels else None,
        batch_size=batch_size,
        training=training,
        drop_remainder=order.drop_remainder,
        identity={**identity, "shard_index": shard_index, "num_shards": num_shards},
    )
    dataset.dtype = "float32"
    if training:
        dataset.device_layer = SampleLatents(seed, name="sample_latents")
    return dataset


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
                `(batch,)`, which images they are of; `epoch` `(batch,)`; and perhaps `labels` `(batch,)`.
        """
        mean, std = ops.split(ops.cast(batch["moments"], "float32"), 2, axis=-1)
        indices, epoch = (ops.cast(batch[name], "int32") for name in ("indices", "epoch"))
        noise = image_noise(ops.convert_to_tensor(self.key), indices, epoch[0], tuple(mean.shape[1:]))
        return mean + std * noise, batch.get("labels")


class LatentLoader:
    """Batches from the files of a cache, read ahead in a thread.

    Args:
        source: `_Shards`.
        order: `Order`.
        training: Bool. Whether to give moments to sample from, or means.
        with_labels: Bool.
    """

    def __init__(self, source, order, training, with_labels):
        self.source = source
        self.order = order
        self.training = training
        self.with_labels = with_labels
        self.num_batches = order.num_batches

    def batches(self, epoch, start):
        """The batches of an epoch, from batch `start` on."""
        records = self.order.records(epoch)

        def submit(pool, number):
            batch = {}
            return batch, [pool.submit(lambda: batch.update(self._read(records, epoch, number)))]

        for batch in prefetched(submit, range(start, self.num_batches)):
            if self.training:
                yield batch
            else:
                yield (batch["means"], batch["labels"]) if self.with_labels else batch["means"]

    def _read(self, records, epoch, number):
        records = self.order.in_batch(records, number)
        labels = {"labels": self.source.labels[records]} if self.with_labels else {}
        if not self.training:
            moments = self.source.read(records, np.zeros((len(records), 2), int)).astype("float32")
            return {"means": moments[..., : moments.shape[-1] // 2], **labels}
        draws = self.order.draws(epoch, number, len(records))[:, :2]
        versions = (draws * [self.source.num_views, self.source.num_mirrored]).astype(int)
        return {
            "moments": self.source.read(records, versions),
            "indices": records.astype("int32"),
            "epoch": np.full(len(records), epoch, "int32"),
            **labels,
        }


class _Shards:
    """The files of a cache: memory-mapped arrays `(count, mirrored, height, width, 2 * channels)`."""

    def __init__(self, directory, manifest):
        shards = sorted(manifest["shards"], key=lambda shard: (shard["view"], shard["batch"]))
        self.num_views = manifest["views"]
        self.num_mirrored = 2 if manifest["flip"] else 1
        self._views = [[] for _ in range(self.num_views)]
        for shard in shards:
            self._views[shard["view"]].append(np.load(os.path.join(directory, shard["file"]), mmap_mode="r"))
        self._starts = np.cumsum([0] + [len(shard) for shard in self._views[0]])  # the same in all views
        self.labels = None
        if manifest["class_names"] is not None:
            files = [shard["labels_file"] for shard in shards if shard["view"] == 0]
            self.labels = np.concatenate([np.load(os.path.join(directory, file)) for file in files])

    def __len__(self):
        return int(self._starts[-1])

    def read(self, records, versions):
        """bfloat16 moments `(n, height, width, 2 * channels)` of records in versions `(n, 2)`: view, mirrored."""
        moments = np.empty((len(records), *self._views[0][0].shape[2:]), "uint16")
        shards = np.searchsorted(self._starts, records, side="right") - 1
        rows = records - self._starts[shards]
        for i, (view, mirrored) in enumerate(versions):
            moments[i] = self._views[view][shards[i]][rows[i], mirrored]
        return moments.view(ml_dtypes.bfloat16)


def _write_shard(dataset, autoencoder, directory, view, start, stop, flip):
    """Encode some batches; returns what the manifest says of them."""
    moments, labels = [], []
    for _, batch in zip(range(start, stop), dataset, strict=False):
        images, batch_labels = batch if dataset.class_names is not None else (batch, None)
        mirrored = [images, images[:, :, ::-1]] if flip else [images]
        encoded = [np.concatenate(list(map(ops.convert_to_numpy, autoencoder.encode(x))), axis=-1) for x in mirrored]
        moments.append(np.stack(encoded, axis=1).astype(ml_dtypes.bfloat16))
        labels.append(batch_labels)
    moments = np.concatenate(moments)
    if not np.all(np.isfinite(moments.astype("float32"))):
        raise ValueError(f"The autoencoder must give finite latents. Received: others in batches {start} to {stop - 1}")
    name = f"view{view:02}-batch{start:07}"
    written = _write_array(directory, name, moments.view("uint16"))
    shard = {"view": view, "batch": start, "count": len(moments), **written}
    if labels[0] is not None:
        written = _write_array(directory, f"{name}-labels", np.concatenate(labels).astype("int32"))
        shard.update({f"labels_{key}": value for key, value in written.items()})
    return shard


def _write_array(directory, name, values):
    path = os.path.join(directory, f"{name}.npy")
    write_whole(path, lambda temporary: np.save(temporary, values))
    return {"file": f"{name}.npy", "bytes": os.path.getsize(path), "sha256": _checksum(path)}


def _checksum(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _matching_manifest(directory, path, identity):
    """The manifest of a cache that goes on, or of a new one."""
    identity = json.loads(json.dumps(identity))
    if not os.path.exists(path):
        if any(not name.startswith(".") for name in os.listdir(directory)):
            raise ValueError(f"{directory} must be empty or hold a cache of latents. Received: other files in it")
        manifest = {**identity, "is_complete": False, "shards": []}
        write_json(path, manifest)
        return manifest
    with open(path) as file:
        manifest = json.load(file)
    differing = [name for name, value in identity.items() if manifest.get(name) != value]
    if differing:
        found, asked = ({name: values.get(name) for name in differing} for values in (manifest, identity))
        raise ValueError(
            f"{directory} holds latents made otherwise; take another directory, or delete it. They differ in: {found}. "
            f"Received: {asked}"
        )
    return manifest


def _complete_manifest(directory, verify):
    path = os.path.join(directory, "manifest.json")
    if not os.path.exists(path):
        raise ValueError(f"`directory` must hold a cache of `cache_latents`. Received: directory={directory}")
    with open(path) as file:
        manifest = json.load(file)
    if manifest["format"] != FORMAT or not manifest["is_complete"]:
        raise ValueError(
            f"The cache must be complete and of format {FORMAT}; call `cache_latents` again to go on. "
            f"Received: {directory}, format {manifest['format']}, complete: {manifest['is_complete']}"
        )
    for shard in manifest["shards"]:
        for prefix in ("", "labels_"):
            if f"{prefix}file" not in shard:
                continue
            path = os.path.join(directory, shard[f"{prefix}file"])
            is_whole = os.path.exists(path) and os.path.getsize(path) == shard[f"{prefix}bytes"]
            if not is_whole or (verify and _checksum(path) != shard[f"{prefix}sha256"]):
                raise ValueError(f"A file of the cache is missing or damaged. Received: {path}")
    return manifest
