"""Evaluations for `keras_umd.callbacks.Monitor`: functions from a model in training to numbers or pictures.

They use the averaged weights where the model keeps an average.
"""

import contextlib

from keras_umd import plots
from keras_umd.backend.processes import num_processes, on_own_device
from keras_umd.evaluation.feature_scores import as_probes, probe_results
from keras_umd.evaluation.features import check_data, extract, labelled, pairs_of
from keras_umd.evaluation.reference import Reference
from keras_umd.evaluation.results import describe_model
from keras_umd.evaluation.sample_scores import evaluate_generator
from keras_umd.evaluation.statistics import rank_me
from keras_umd.utils.checks import (
    check_instances,
    check_integers,
    check_numbers,
    check_positive_integers,
    check_tensors,
    is_list,
    require,
)

# The paper takes 250 steps of DDIM; this sampler needs fewer.
FEW_STEPS = {"num_steps": 20, "sampler": "dpmpp_2m", "seed": 0}


class _Features:
    """Features of a model in training, from an extractor that is made and compiled once."""

    def __init__(self, pooling="cls", layer=None, timesteps=0, weights="average"):
        self._settings = {"pooling": pooling, "layer": layer, "timesteps": timesteps, "seed": 0}
        self._weights = weights
        self._model, self._extractor = None, None

    @contextlib.contextmanager
    def extractor(self, model):
        """Context of the extractor with the model's current weights; of several processes, each has its own."""
        with on_own_device() if num_processes() > 1 else contextlib.nullcontext():
            if model is not self._model:
                self._model, self._extractor = model, model.feature_extractor(**self._settings)
            self._extractor.copy_weights(model, self._weights)
            self._extractor.seed_generator.state.assign([0, 0])  # the same noise each time
            yield self._extractor


class TrackProbe(_Features):
    """Accuracies of probes on labelled images that the training doesn't see.

    Example:

    >>> probe = evaluation.TrackProbe((train, test), evaluation.FewShotProbe(shots=2))
    >>> monitor = keras_umd.callbacks.Monitor("runs/umd", probe, tensorboard=False)

    Args:
        data, probes: As in `evaluate_features`. A few thousand images are enough for the trend. Of a dictionary, the
            names of the results are `"data/probe"`.
        batch_size: Integer, for arrays.
        pooling, layer, timesteps, weights: As in `UMD.feature_extractor`.
    """

    def __init__(self, data, probes=None, *, batch_size=256, **features):
        super().__init__(**features)
        check_positive_integers(batch_size=batch_size)
        is_data = (isinstance(data, dict) and data) or (isinstance(data, (tuple, list)) and len(data) == 2)
        require(is_data, "`data` must be a pair (train, test), or a dictionary of such pairs.", data=data)
        self.data = data
        self.probes = as_probes(probes)
        self.batch_size = batch_size

    def __call__(self, model):
        results = {}
        with self.extractor(model) as extractor:
            for name, *pair in pairs_of(self.data):
                sets = [labelled(extract(extractor, x, self.batch_size)) for x in pair]
                for probe, result in probe_results(self.probes, *sets, describe_model(extractor)).items():
                    results[probe if name is None else f"{name}/{probe}"] = result
        return results


class TrackRank(_Features):
    """RankMe of the features of some images, without labels, which falls when they collapse (see `rank_me`).

    Example:

    >>> monitor = keras_umd.callbacks.Monitor("runs/umd", evaluation.TrackRank(images), tensorboard=False)

    Args:
        images: As in `extract`.
        batch_size: Integer, for arrays.
        pooling, layer, timesteps, weights: As in `UMD.feature_extractor`.
    """

    def __init__(self, images, *, batch_size=256, **features):
        super().__init__(**features)
        check_positive_integers(batch_size=batch_size)
        check_data(images=images)
        self.images = images
        self.batch_size = batch_size

    def __call__(self, model):
        with self.extractor(model) as extractor:
            return {"RankMe": rank_me(extract(extractor, self.images, self.batch_size).features)}


class TrackGeneration:
    """Fréchet distance, or other scores, of few samples in few steps: for the trend, not to report.

    Example:

    >>> network = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(name="features")])
    >>> reference = evaluation.Reference.of(network, images)
    >>> track = evaluation.TrackGeneration(reference, network, num_images=8, num_steps=3)
    >>> monitor = keras_umd.callbacks.Monitor("runs/umd", track, tensorboard=False)

    Args:
        reference, network, num_images, metrics, **options: As in `evaluate_generator`. By default 20 steps of
            DPM-Solver++, the same noise each time.
    """

    def __init__(self, reference, network, num_images=1000, *, metrics=("frechet",), **options):
        check_instances(Reference, "a Reference", reference=reference)
        check_positive_integers(num_images=num_images)
        is_list_of = is_list(metrics) and len(metrics) and all(isinstance(metric, str) for metric in metrics)
        require(is_list_of, "`metrics` must be a list of names, as of `evaluate_images`.", metrics=metrics)
        reference.check_network(network)
        self.reference, self.network = reference, network
        self.options = {"num_images": num_images, "metrics": metrics, **FEW_STEPS, **options}

    def __call__(self, model):
        return evaluate_generator(model, self.reference, self.network, verbose=False, **self.options)


class DrawSamples:
    """A grid of samples, from the same noise each time.

    Example:

    >>> draw = evaluation.DrawSamples(4, num_steps=5, labels=[0, 1, 2, 0])
    >>> callbacks = [keras_umd.callbacks.Monitor("runs/umd", draw, tensorboard=False)]

    Args:
        num_images: Integer. From a model with classes, image i is of class i modulo their number.
        columns: Integer. Defaults to a square grid.
        scale: Integer, as in `plots.image_grid`.
        **options: As in `UMD.generate`. By default 20 steps of DPM-Solver++.
    """

    def __init__(self, num_images=16, *, columns=None, scale=1, **options):
        check_positive_integers(num_images=num_images, scale=scale)
        check_integers(1, optional=True, columns=columns)
        self.num_images, self.columns, self.scale = num_images, columns, scale
        self.options = {**FEW_STEPS, **options}

    def __call__(self, model):
        labels = None if model.num_classes is None else [i % model.num_classes for i in range(self.num_images)]
        return {
            "samples": plots.image_grid(
                model.generate(labels, num_images=self.num_images, **self.options),
                columns=self.columns,
                scale=self.scale,
            )
        }


class DrawReconstructions:
    """Images, masked images and reconstructions; the same masks each time.

    Example:

    >>> draw = evaluation.DrawReconstructions(images[:4], scale=4)
    >>> draw(model)["reconstructions"].shape                      # a Monitor calls it while the model trains
    (100, 133, 3)

    Args:
        images: uint8 array `(n, height, width, channels)`.
        mask_ratio: Float in [0, 1).
        scale: Integer, as in `plots.image_grid`.
    """

    def __init__(self, images, *, mask_ratio=0.75, scale=1):
        check_tensors(None, types=("uint8",), images=images)
        check_numbers("[0, 1)", mask_ratio=mask_ratio)
        check_positive_integers(scale=scale)
        self.images, self.mask_ratio, self.scale = images, mask_ratio, scale

    def __call__(self, model):
        return {
            "reconstructions": plots.reconstruction_grid(
                self.images, model.reconstruct(self.images, mask_ratio=self.mask_ratio, seed=0), scale=self.scale
            )
        }
