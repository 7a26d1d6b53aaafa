"""Many images of one model: in batches, each image by its index, and what tells them from others."""

import json

import numpy as np

from keras_umd.sampling import guidance, samplers
from keras_umd.sampling.settings import settings_of
from keras_umd.utils.checks import MAX_COUNT, check_labels, check_positive_integers, is_between, require
from keras_umd.utils.fingerprint import as_json, fingerprint


class SampleStream:
    """Images that a model is to generate. Image i depends on the seed and on i, not on the batches.

    Args:
        model: `UMD`.
        num_images: Integer.
        labels: `"balanced"`, where image i gets the label i modulo the number of classes (no label from a model without
            classes); an int array `(num_images,)`; or `None` for no labels.
        seed: Integer.
        options: Dictionary, as of `UMD.generate`: `num_steps`, `guidance`, `sampler`, ...
    """

    def __init__(self, model, num_images, labels, seed, options):
        check_positive_integers(num_images=num_images)
        require(
            is_between(seed, 0, MAX_COUNT),
            "`seed` must be an integer of at least 0 and below 2**31, so that the images can be made again.",
            seed=seed,
        )
        for name in {"initial_noise", "image_indices"} & set(options):
            raise ValueError(f"Every image has its own noise, by its index; leave out `{name}`. Received: {name}")
        require(
            options.get("dtype", "uint8") == "uint8",
            "Files hold uint8 images; leave out `dtype`.",
            dtype=options.get("dtype"),
        )
        settings_of("generate", options)  # raises for wrong ones before anything is written
        self.model = model
        self.num_images = int(num_images)
        self.labels = _labels(labels, self.num_images, model.num_classes)
        self.seed = int(seed)
        self.options = options

    def batches(self, batch_size, start=0, stop=None):
        """The images in their order, from image `start` on, up to image `stop`, which is not among them."""
        batch_size = min(int(batch_size), self.num_images)
        stop = self.num_images if stop is None else stop
        for first in range(start, stop, batch_size):
            # The last batch is filled up with images that aren't kept: no second program for its size.
            indices = np.arange(first, first + batch_size) % self.num_images
            yield self.model.generate(
                labels=None if self.labels is None else self.labels[indices],
                num_images=batch_size,
                image_indices=indices,
                seed=self.seed,
                **self.options,
            )[: stop - first]

    def description(self):
        """All settings that the images depend on, as JSON values."""
        settings = dict(self.options)
        for name, read in (("sampler", samplers.get), ("guidance", guidance.get)):
            if settings.get(name) is not None:
                settings[name] = _describe_object(read(settings[name]))
        autoencoder = self.model.autoencoder
        description = {
            "model": _describe(self.model, self.options.get("weights", "average")),
            "autoencoder": None if autoencoder is None else autoencoder.fingerprint(),
            "num_images": self.num_images,
            "labels": None if self.labels is None else fingerprint([self.labels.astype("int64")]),
            "seed": self.seed,
            "options": settings,
        }
        return json.loads(json.dumps(description, default=as_json))


def _labels(labels, num_images, num_classes):
    if isinstance(labels, str) and labels == "balanced":
        return None if num_classes is None else np.arange(num_images) % num_classes
    if labels is None:
        return None
    labels = np.asarray(labels)
    check_labels(labels, num_classes)
    require(
        labels.shape == (num_images,),
        f"`labels` must be 'balanced', None or of shape ({num_images},).",
        f"labels of shape {labels.shape}",
    )
    return labels


def _describe_object(chosen):
    """The class and the settings of a sampler or of guidance, a weak model by its weights."""
    weak_model = getattr(chosen, "weak_model", None)
    settings = chosen.settings() if hasattr(chosen, "settings") else chosen.get_config()
    described = {} if weak_model is None else {"weak_model": _describe(weak_model)}
    return {"class": type(chosen).__name__, **settings, **described}


def _describe(model, weights="average"):
    config = model.get_config()
    return {
        **{name: config[name] for name in ("image_shape", "num_heads", "conditioning", "value_range")},
        "corruption": model.corruption.get_config(),
        "weights": fingerprint(model.weight_values(weights)),
    }
