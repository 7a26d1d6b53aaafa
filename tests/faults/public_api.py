"""The public API by its `__all__`s and signatures, with a call of each function that works.

`find_targets` finds everything that is public; `CALLS` has what cannot be called by defaults alone. What is
added and has no entry fails a test, so that what is added later is tried, too.
"""

import dataclasses
import functools
import importlib
import inspect
import json
import pathlib
import pkgutil
import tempfile
from typing import Any

import keras
import numpy as np

import keras_umd
from keras_umd import Corruption, Objective, data, evaluation, latents, objectives, samplers
from keras_umd.training import checkpoints, run_directory  # noqa: F401 (part of `training`)
from keras_umd.training.black_box import write_black_box
from tests.weights import dit_oracle

# Keras or the library itself calls these, with objects that it has made; a check there would cost every step.
CALLED_BY_THE_LIBRARY = {
    "build call compute_output_shape compute_output_spec compute_loss compute_loss_and_updates",
    "get_config from_config get_compile_config compile_from_config load_own_variables save_own_variables",
    "train_step test_step make_train_function get_variable_layout make_test_function copied modulations",
    "class_attention embed project",
    "scores columns step table initial_memory loop rows num_calls num_times",  # of masks and samplers
    "mlp_width replaced",  # of a Block
    "views_without_images",  # of a Corruption
    "estimate errors as_pixels num_values image_losses targets total heads reads",  # of targets and terms
    "slopes level to_log_snr to_timesteps draw_log_snr support weight x0_share",  # of paths, laws and weightings
    "hidden changed graded without_places groups timesteps by_patch for_decoder",  # of masks, views and noise
    "missing num_draws num_visible num_decoded split check_grid scales corrupt box boxes is_flipped blocks",
    "condition predict_view network_layers prepare_images prepare_labels draw",
    "sinusoid signal_and_sigma settings extractor state_after method Modulations",
    "make settle hints prepare log_probabilities products patch_errors of_patches",  # of decoders and of terms
    "observe bins_of check_schedule check_views check_patches",  # of laws, and of terms and their targets
    "records batches draws",  # of an Order
    "update_step newest_weight rate_of",  # of optimizers and of averages
    "set_model set_params step_inputs check_bytes check_pixels check_records check_label check_classes",
}
CALLED_BY_THE_LIBRARY = {name for names in CALLED_BY_THE_LIBRARY for name in names.split()}


@dataclasses.dataclass
class Target:
    """Something public that can be called."""

    name: str
    owner: type | None  # the class of a method
    function: Any

    def __repr__(self):
        return self.name

    def prepared(self):
        """The callable, and arguments with which it works: fresh ones, since a call may change them."""
        values = CALLS.get(self.name, dict)()
        if self.owner is None:
            return self.function, values
        static = inspect.getattr_static(self.owner, self.function)
        if isinstance(static, (classmethod, staticmethod)):
            return getattr(self.owner, self.function), values
        return getattr(instance_of(self.owner), self.function), values

    def arguments(self):
        """The names of all arguments that can be passed by name."""
        function, values = self.prepared()
        kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        try:
            named = [p.name for p in inspect.signature(function).parameters.values() if p.kind in kinds]
        except ValueError:  # of a class in C
            named = []
        return list(dict.fromkeys([*named, *values]))


def public_modules():
    """All modules with an `__all__`, but those of backends and utilities."""
    for found in pkgutil.walk_packages(keras_umd.__path__, "keras_umd."):
        module = importlib.import_module(found.name)
        if found.name.split(".")[1] not in ("backend", "utils") and hasattr(module, "__all__"):
            yield module
    yield keras_umd


@functools.cache
def find_targets():
    """Every public function, class and method, each once."""
    targets, seen = [], set()
    for module in public_modules():
        for name in module.__all__:
            value = getattr(module, name)
            if not callable(value) or id(value) in seen or name in CALLED_BY_THE_LIBRARY:
                continue
            seen.add(id(value))
            targets.append(Target(name, None, value))
            if inspect.isclass(value):
                targets += _methods(value, seen)
    return targets


def _methods(owner, seen):
    for name, value in inspect.getmembers(owner, callable):
        function = inspect.unwrap(getattr(value, "__func__", value))
        is_ours = (getattr(function, "__module__", None) or "").startswith("keras_umd")
        is_called_by_us = name.startswith(("_", "on_")) or name in CALLED_BY_THE_LIBRARY
        if is_ours and not is_called_by_us and id(function) not in seen:
            seen.add(id(function))
            yield Target(f"{owner.__name__}.{name}", owner, name)


def instance_of(owner):
    """An object whose methods are tried."""
    if owner.__name__ in INSTANCES:
        return INSTANCES[owner.__name__]()
    return owner(**CALLS.get(owner.__name__, dict)())


# What the calls take


@functools.cache
def model():
    keras.utils.set_random_seed(0)
    made = small_umd(num_classes=3)
    made.compile("sgd")
    return made


def small_umd(**arguments):
    sizes = {"image_shape": (4, 4, 1), "patch_size": 2, "hidden_dim": 8, "num_layers": 1, "num_heads": 2}
    return keras_umd.UMD(**{**sizes, "decoder_layers": 1, "seed": 0, **arguments})


@functools.cache
def latent_model():
    return small_umd(image_shape=(4, 4, 4), value_range=None)


@functools.cache
def encoder():
    return model().feature_extractor()


def images(number=6, channels=1):
    return np.random.default_rng(0).integers(0, 256, (number, 4, 4, channels)).astype("uint8")


def floats(number=2):
    return np.random.default_rng(0).uniform(-1, 1, (number, 4, 4, 1)).astype("float32")


def tensor():
    return keras.ops.convert_to_tensor(floats())


def labels(number=6):
    return (np.arange(number) % 3).astype("int32")


def features(seed=0):
    return np.random.default_rng(seed).normal(size=(12, 3))


def labelled():
    return (images(), labels())


def tokens():
    return np.zeros((1, 4, 8), "float32")


@functools.cache
def feature_network():
    inputs = keras.Input((4, 4, 1))
    return keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(inputs)))


@functools.cache
def reference():
    return evaluation.Reference.of(feature_network(), images(8), verbose=False)


@functools.cache
def autoencoder():
    pixels, codes = keras.Input((None, None, 3)), keras.Input((None, None, 4))
    down = keras.layers.Conv2D(8, 2, 2)(pixels)
    up = keras.layers.Conv2DTranspose(3, 2, 2)(codes)
    return latents.Autoencoder(keras.Model(pixels, down), keras.Model(codes, up), name="small", downsampling=2)


def dataset(**options):
    return data.from_arrays(images(), labels(), batch_size=2, **options)


def result():
    return evaluation.Result("accuracy", 0.5, {}, {}, 0.1)


def table():
    return evaluation.Table([{"timesteps": t, "layer": 1, "accuracy": result()} for t in (0, 1)])


def new_folder():
    return tempfile.mkdtemp(dir=".")


def cache_folder():
    still = data.from_arrays(images(4, 3), batch_size=2, training=False)
    latents.cache_latents(still, autoencoder(), "latents", verbose=False)
    return "latents"


PATHS = ("EDM", "Cosine", "RectifiedFlow", "Trigonometric")  # each has methods of its own, or the first of them


@functools.cache
def schedule():
    return keras_umd.corruption.schedules.Cosine(10)


INSTANCES = {
    "UMD": model,
    "FeatureExtractor": encoder,
    "NoiseSchedule": schedule,
    "Objective": lambda: Objective.denoising(Corruption()),
    "Dataset": lambda: dataset(training=False),
    "ImageDataset": lambda: dataset(training=False),
    "Reference": reference,
    "Result": result,
    "Table": table,
    "Autoencoder": autoencoder,
    "StableDiffusionAutoencoder": autoencoder,
    "Probe": lambda: evaluation.KNNProbe(3),
    "Sampler": lambda: samplers.DDIM(0.0),
    "RidgeClassifier": lambda: evaluation.RidgeClassifier().fit(features(), np.arange(12) % 3),
    "ConditionEmbedding": lambda: model().condition_embedding,
    "PositionEmbedding": lambda: model().encoder.position_embedding,
    "FIDInception": lambda: evaluation.FIDInception(),
    "AttentionPooling": lambda: built_pooling(),
    "EfficientProbe": lambda: trained_probe(),
}
SAMPLING = {"num_steps": 2, "seed": 0}

# Arguments with which the call works, beside its defaults. Files are written to the working folder.
CALLS = {
    # Models
    "UMD": lambda: {
        "image_shape": (4, 4, 1),
        "patch_size": 2,
        "hidden_dim": 8,
        "num_layers": 1,
        "num_heads": 2,
        "decoder_layers": 1,
        "num_classes": 3,
    },
    "UMD.compile": lambda: {"optimizer": "sgd", "jit_compile": "auto", "run_eagerly": False},
    "UMD.denoise": lambda: {"images": floats(), "timestep": 2, "num_steps": 1},
    "UMD.encode": lambda: {"images": floats()},
    "UMD.evaluate": lambda: {"x": floats(), "y": labels(2), "batch_size": 2, "steps": None, "verbose": 0},
    "UMD.enable_lora": lambda: {"rank": 2},
    "UMD.export": lambda: {"filepath": "exported"},
    "UMD.fit": lambda: {
        "x": floats(),
        "y": labels(2),
        "batch_size": 2,
        "epochs": 1,
        "initial_epoch": 0,
        "verbose": 0,
        "validation_data": (floats(), labels(2)),
        "validation_split": 0.0,
        "steps_per_epoch": None,
        "validation_freq": 1,
        "validation_batch_size": None,
        "validation_steps": None,
        "callbacks": None,
    },
    "UMD.from_preset": lambda: {"preset": "umd_tiny_patch2_8", "num_layers": 1, "decoder_layers": 1},
    "UMD.save_to_preset": lambda: {"folder": new_folder()},
    "FeatureExtractor.from_preset": lambda: {"preset": saved_preset(encoder())},
    "FeatureExtractor.save_to_preset": lambda: {"folder": new_folder()},
    "Objective.from_preset": lambda: {"preset": saved_preset(Objective.denoising(Corruption()))},
    "Objective.save_to_preset": lambda: {"folder": new_folder()},
    "read_weights": lambda: {"path": weights_file()},
    "from_dit": lambda: {"source": dit_oracle.file("dit"), "num_heads": 2},
    "from_jit": lambda: {"source": dit_oracle.file("jit")},
    "from_maskdit": lambda: {"source": dit_oracle.file("maskdit"), "num_heads": 2, "decoder_heads": 4},
    "from_sit": lambda: {"source": dit_oracle.file("dit"), "num_heads": 2},
    "UMD.generate": lambda: {"num_images": 1, **SAMPLING},
    "UMD.generate_to": lambda: {"directory": new_folder(), "num_images": 1, "verbose": False, **SAMPLING},
    "UMD.inpaint": lambda: {"images": floats(1), "mask": np.ones((1, 4, 4, 1), bool), **SAMPLING},
    "UMD.impute": lambda: {"images": floats(), "missing": np.arange(16).reshape(1, 4, 4, 1) < 2, "seed": 0},
    "UMD.anomaly_map": lambda: {"images": floats(), "num_masks": 2, "seed": 0},
    "UMD.layout_map": lambda: {"mesh": mesh()},
    "UMD.loss_of": lambda: {"images": floats()},
    "UMD.make_views": lambda: {"images": floats()},
    "UMD.merge_lora": dict,
    "UMD.predict": lambda: {"x": floats(), "batch_size": 2, "verbose": 0, "steps": None},
    "UMD.reconstruct": lambda: {"images": floats(), "mask_ratio": 0.5},
    "UMD.track_average": lambda: {"decays": []},
    "UMD.trajectory": lambda: {"num_images": 1, "num_frames": 2, **SAMPLING},
    "UMD.with_classes": lambda: {"num_classes": 2},
    "FeatureExtractor": lambda: {
        "image_shape": (4, 4, 1),
        "patch_size": 2,
        "hidden_dim": 8,
        "num_layers": 1,
        "num_heads": 2,
    },
    "FeatureExtractor.copy_weights": lambda: {"model": model()},
    "FeatureExtractor.export": lambda: {"filepath": "exported"},
    "Encoder": lambda: {"patch_size": 2, "hidden_dim": 8, "num_layers": 1, "num_heads": 2},
    "Decoder": lambda: {
        "patch_size": 2,
        "grid": (2, 2),
        "channels": 1,
        "num_layers": 1,
        "num_heads": 2,
        "pixel_predictions": ("x0",),
    },
    "ConditionEmbedding": lambda: {"hidden_dim": 8},
    "ConditionEmbedding.table": lambda: {"timesteps": np.array([1]), "labels": np.array([0])},
    # Layers
    "Block.modern": lambda: {"registers": 2},
    "BlockStack": lambda: {"num_layers": 1, "num_heads": 2},
    "LabelEmbedding": lambda: {"num_classes": 3, "hidden_dim": 8},
    "Modulations": lambda: {"of_layers": ()},
    "PatchEmbedding": lambda: {"patch_size": 2, "hidden_dim": 8},
    "PatchHead": lambda: {"patch_size": 2, "channels": 1},
    "PositionEmbedding": lambda: {"grid": (2, 2)},
    "PositionEmbedding.interpolated": lambda: {"grid": (3, 3)},
    "RandomMasking": lambda: {"mask_ratio": 0.5},
    "SelfAttention": lambda: {"num_heads": 2},
    "TimestepEmbedding": lambda: {"hidden_dim": 8},
    "TransformerBlock": lambda: {"num_heads": 2},
    "patchify": lambda: {"images": floats(), "patch_size": 2},
    "unpatchify": lambda: {"patches": np.zeros((1, 4, 4), "float32"), "patch_size": 2, "grid": (2, 2)},
    "split_by_score": lambda: {"scores": np.zeros((1, 4), "float32"), "mask_ratio": 0.5},
    "take_tokens": lambda: {"tokens": tokens(), "indices": np.array([[0, 1]])},
    "restore": lambda: {"tokens": tokens(), "visible": np.array([[0, 1]]), "masked": np.array([[3, 2]])},
    # Corruption and objectives
    "NoiseSchedule.from_betas": lambda: {"betas": [0.1, 0.2]},
    "NoiseSchedule.add_noise": lambda: {"images": tensor(), "noise": tensor(), "timesteps": np.array([1, 2])},
    "NoiseSchedule.predict_noise": lambda: {"x_t": tensor(), "x0": tensor(), "timesteps": np.array([1, 2])},
    "NoiseSchedule.predict_x0": lambda: {"x_t": tensor(), "noise": tensor(), "timesteps": np.array([1, 2])},
    "NoiseSchedule.levels": lambda: {"timesteps": [1, 2]},
    "NoiseSchedule.log_snr": lambda: {"timesteps": [1, 2]},
    "NoiseSchedule.timesteps_at": lambda: {"log_snr": [0.0, 1.0]},
    "View": lambda: {"name": "clean"},
    "Objective": lambda: {"terms": [objectives.Reconstruction("clean", objectives.targets.X0())]},
    "VariancePreserving": lambda: {"betas": [0.1, 0.2]},
    **{f"{name}.levels": lambda: {"timesteps": [1, 2]} for name in PATHS},
    **{f"{name}.log_snr": lambda: {"timesteps": [1, 2]} for name in PATHS},
    **{f"{name}.timesteps_at": lambda: {"log_snr": [0.0, 1.0]} for name in PATHS},
    "Shifted": lambda: {"levels": keras_umd.corruption.levels.Uniform(), "shift": 2.0},
    "ShiftedGrid": lambda: {"shift": 2.0},
    "Function": lambda: {"function": keras.ops.exp},
    "Objective.denoising": lambda: {"corruption": Corruption()},
    "Objective.prediction": lambda: {"name": "x0", "views": ["noisy"]},
    "SamplingPolicy": lambda: {"view": "clean", "target": objectives.targets.X0()},
    "Difficulty": lambda: {"view": "clean", "target": objectives.targets.X0()},
    "Reconstruction": lambda: {"view": "clean", "target": objectives.targets.X0()},
    "Order": lambda: {"num_records": 6, "batch_size": 2, "shuffle": True, "drop_remainder": True},
    "Position": lambda: {"view": "clean", "grid": (2, 2), "hidden_dim": 8},
    "VariationalBound": lambda: {"view": "noisy", "levels": keras_umd.corruption.levels.Adaptive()},
    "Spectrum": lambda: {"view": "clean"},
    "Classification": lambda: {"view": "clean", "num_classes": 3, "hidden_dim": 8},
    "Alignment": lambda: {"view": "clean"},
    "Cells": lambda: {"target": objectives.targets.X0(), "name": "cells"},
    "LocalScale": lambda: {"taps": {"hog": -1}},
    "Channels": lambda: {"hidden": (0,)},
    "HideChannels": lambda: {"hidden": (0,)},
    "BandRatios": lambda: {"pairs": ((0, 1),), "channels": 2},
    "Term": lambda: {"view": "clean"},
    # Sampling
    "Constant": lambda: {"scale": 2.0},
    "Interval": lambda: {"scale": 2.0, "low": 0.5, "high": 1.0},
    "PowerCosine": lambda: {"scale": 2.0},
    "guide": lambda: {"strong": floats(), "weak": floats(), "scale": 2.0},
    "DDIM.sample": lambda: sampled(),
    "Sampler.sample": lambda: sampled(),
    "generate_to": lambda: {"model": model(), "directory": new_folder(), "num_images": 1, "verbose": False, **SAMPLING},
    # Training
    "BackupAndRestore": lambda: {"directory": "run"},
    "HistoryFile": lambda: {"path": "history.csv"},
    "ModelFile": lambda: {"path": "model.keras"},
    "Monitor": lambda: {"directory": "run", "evaluations": lambda model: {}},
    "standard": lambda: {"directory": "run"},
    "cosine_with_warmup": lambda: {"peak_learning_rate": 1e-3, "total_steps": 10, "warmup_steps": 1},
    "pretraining_optimizer": lambda: {"total_steps": 100, "batch_size": 8, "base_learning_rate": 1e-3},
    "finetuning_optimizer": lambda: {"total_steps": 100, "batch_size": 8},
    # Plans, plots, distribution, weights
    "Device": lambda: {"name": "mine", "bfloat16": 1e12, "float32": 1e12, "memory": 1e9},
    "Device.peak_flops": lambda: {"dtype": "float32"},
    "doctor": lambda: {"model": model()},
    "plan": lambda: {"model": model(), "batch_size": 8},
    "captioned": lambda: {"cells": [[images(1, 3)[0]]], "row_names": ["a"], "column_names": ["b"]},
    "guidance_grid": lambda: {"model": model(), "labels": [0], "guidance": (1.0,), "num_steps": (1,)},
    "heatmaps": lambda: {"table": table(), "value": "accuracy", "rows": "timesteps", "columns": "layer"},
    "image_grid": lambda: {"images": images()},
    "masks": lambda: {"method": keras_umd.corruption.masks.Random(), "grid": (2, 2)},
    "progress": lambda: {"losses": {"loss": [(1, 1.0), (2, 0.5)]}, "scores": {}},
    "reconstruction_grid": lambda: {"images": images(), "result": {"masked": images(), "reconstruction": images()}},
    "save_image": lambda: {"path": "image.png", "image": images(1, 3)[0]},
    "scatter": lambda: {"points": {"a": (1.0, 2.0, None)}, "x_label": "x", "y_label": "y"},
    "show": lambda: {"picture": images()},
    "strips": lambda: {"frames": images()[None]},
    "layout_map": lambda: {"mesh": mesh()},
    "ModelParallel": lambda: {"layout_map": keras_umd.distribution.layout_map(mesh())},
    "share": lambda: {"batch_size": 4},
    "load_small_vision": lambda: {"model": model(), "params": {}},
    "from_vit": lambda: {"source": vit_arrays(), "standardized": "half", "num_heads": 2},
    "from_mae": lambda: {"source": {**vit_arrays(), **mae_arrays()}, **MAE},
    **dict.fromkeys(("to_timm", "to_transformers"), lambda: {"model": model(), "folder": new_folder()}),
    # Data
    "Crop": lambda: {"image_size": 4},
    "Dataset": lambda: {
        "loader": dataset().loader,
        "image_shape": (4, 4, 1),
        "class_names": None,
        "training": True,
        "identity": {},
    },
    "ImageDataset": lambda: {
        "loader": dataset().loader,
        "image_shape": (4, 4, 1),
        "class_names": None,
        "training": True,
        "identity": {},
    },
    "Dataset.go_to": lambda: {"epoch": 0},
    "Dataset.set_state": lambda: {"state": dataset(training=False).get_state()},
    "Dataset.as_arrays": lambda: {"verbose": False},
    "ImageDataset.as_arrays": lambda: {"verbose": False},
    "from_arrays": lambda: {"images": images(), "labels": labels(), "batch_size": 2},
    "on_device": lambda: {"images": images(), "labels": labels(), "batch_size": 2},
    # Latents
    "Autoencoder": lambda: {"encoder": autoencoder().encoder, "decoder": autoencoder().decoder, "name": "small"},
    "Autoencoder.encode": lambda: {"images": images(1, 3)},
    "Autoencoder.decode": lambda: {"latents": np.zeros((1, 2, 2, 4), "float32")},
    "Autoencoder.sample": lambda: {"mean": floats(), "std": np.ones_like(floats())},
    "Autoencoder.latent_shape": lambda: {"image_size": 4},
    "Autoencoder.image_shape": lambda: {"latent_shape": (2, 2, 4)},
    # Evaluation
    "DrawReconstructions": lambda: {"images": images()},
    "FeatureSet": lambda: {"features": features(), "labels": None, "digest": ""},
    "FeatureStatistics": lambda: {"dim": 3},
    "FeatureStatistics.update": lambda: {"features": features()},
    "FeatureStatistics.merge": lambda: {"other": evaluation.FeatureStatistics(3)},
    "KNNProbe.accuracies": lambda: probed(),
    "FewShotProbe.accuracies": lambda: probed(),
    "LinearProbe.accuracies": lambda: probed(),
    "Probe.accuracies": lambda: probed(),
    "RidgeClassifier.fit": lambda: {"features": features(), "labels": labels(12)},
    "RidgeClassifier.accuracy": lambda: {"features": features(), "labels": labels(12)},
    "RidgeClassifier.scores": lambda: {"features": features()},
    "KNNProbe": lambda: {"k": 3},
    "LinearProbe": lambda: {"epochs": 1, "batch_size": 4},
    "FewShotProbe": lambda: {"shots": 1, "num_draws": 1},
    "Reference": lambda: {"mean": np.zeros(2), "covariance": np.eye(2)},
    "Reference.of": lambda: {"network": feature_network(), "images": images(), "verbose": False},
    "Reference.load": lambda: {"path": saved_reference()},
    "Reference.save": lambda: {"path": "reference.npz"},
    "Reference.check_network": lambda: {"network": feature_network()},
    "Result": lambda: {"metric": "accuracy", "value": 0.5, "protocol": {}, "subject": {}},
    "Result.differs_from": lambda: {"other": result()},
    "Result.minus": lambda: {"other": result()},
    "Result.load": lambda: {"path": saved_result()},
    "Result.save": lambda: {"path": "result.json"},
    "Table.best": lambda: {"column": "accuracy"},
    "Table.save": lambda: {"path": "table.json"},
    "TrackGeneration": lambda: {"reference": reference(), "network": feature_network()},
    "TrackProbe": lambda: {"data": (labelled(), labelled())},
    "TrackRank": lambda: {"images": images()},
    "evaluate_features": lambda: {
        "encoder": encoder(),
        "data": (labelled(), labelled()),
        "probes": evaluation.KNNProbe(3),
        "verbose": False,
    },
    "sweep_features": lambda: {
        "model": model(),
        "data": (labelled(), labelled()),
        "probes": evaluation.KNNProbe(3),
        "timesteps": (0,),
        "verbose": False,
    },
    "evaluate_generator": lambda: {
        "model": model(),
        "reference": reference(),
        "network": feature_network(),
        "num_images": 2,
        "metrics": ("frechet",),
        "verbose": False,
        **SAMPLING,
    },
    "sweep_generation": lambda: {
        "model": model(),
        "reference": reference(),
        "network": feature_network(),
        "num_images": 2,
        "num_steps": (2,),
        "verbose": False,
    },
    "evaluate_images": lambda: {
        "images": images(),
        "reference": reference(),
        "network": feature_network(),
        "metrics": ("frechet",),
        "verbose": False,
    },
    "extract": lambda: {"encoder": encoder(), "dataset": images()},
    "fine_tune": lambda: {"encoder": encoder(), "data": (labelled(), labelled()), "epochs": 1, "verbose": False},
    "frechet_distance": lambda: {"features": features(), "reference": features(1)},
    "kernel_distance": lambda: {
        "features": features(),
        "reference": features(1),
        "num_subsets": 2,
        "subset_size": 4,
    },
    "gaussian_distance": lambda: {
        "mean": np.zeros(2),
        "covariance": np.eye(2),
        "other_mean": np.zeros(2),
        "other_covariance": np.eye(2),
    },
    "inception_score": lambda: {"probabilities": np.full((4, 2), 0.5), "splits": 2},
    "mean_of": lambda: {"results": [result(), result()]},
    "neighbourhood_scores": lambda: {"features": features(), "reference": features(1)},
    "rank_me": lambda: {"features": features()},
    "transfer_datasets": lambda: {"image_size": 4},
    "cache_latents": lambda: {
        "dataset": data.from_arrays(images(4, 3), batch_size=2, training=False),
        "autoencoder": autoencoder(),
        "directory": "cached",
        "verbose": False,
    },
    "from_latents": lambda: {"directory": cache_folder(), "batch_size": 2, "labels": False},
}
# They need files, downloads or packages of their own; the tests of their folders have their arguments, and here only
# those calls are tried that must fail before any of these is asked for.
CALLS |= {
    "from_folder": lambda: {"directory": image_folder(), "image_size": 4, "batch_size": 2, "loader": "python"},
    "from_webdataset": lambda: {"paths": "images.tar", "image_size": 4, "batch_size": 2},
    "from_tfrecords": lambda: {"paths": "images.tfrecord", "image_size": 4, "batch_size": 2},
    "from_tfds": lambda: {"name": "nothing", "split": "train", "image_size": 4, "batch_size": 2},
    "StableDiffusionAutoencoder": lambda: {"weights": None},
}
CALLS |= {
    "Corruption.views_without_images": lambda: {"batch_size": 8},
    "ImageDataset.go_to": lambda: {"epoch": 0},
    "AttentionPooling": lambda: {"num_queries": 2},
    "AttentionPooling.maps": lambda: {"tokens": tokens()},
    "EfficientProbe": lambda: {"num_queries": 2, "epochs": 1, "batch_size": 4},
    "EfficientProbe.accuracies": lambda: probed_tokens(),
    "EfficientProbe.attention_maps": lambda: {"tokens": tokens()},
    "KNNSweep": lambda: {"ks": (1, 3), "temperatures": (0.1,)},
    "KNNSweep.accuracies": lambda: probed(),
    "KNNSweep.sweep": lambda: probed(),
    "MaskedBranch": lambda: {"encoder": encoder(), "num_classes": 3},
    "start_from": lambda: {"model": small_umd(), "source": small_umd()},
    "MixedBatches": lambda: {"batches": labelled(), "num_classes": 3, "batch_size": 2},
    "PowerProfile": lambda: {"std": 0.1},
    "Recipe": lambda: {
        "name": "mine",
        "optimizer": keras.optimizers.SGD(),
        "batch_size": 2,
        "epochs": 1,
        "total_steps": 4,
    },
    "Selection": lambda: {"sampling": {}, "result": result(), "sweep": table(), "finals": table()},
    "SnapshotAverages": lambda: {"directory": "averages"},
    "StopAfter": lambda: {"minutes": 1},
    "MaskStages": lambda: {"masks": {0: keras_umd.corruption.masks.Random(0.5)}},
    "MaskStages.rising": lambda: {"epochs": 3},
    "attention_grid": lambda: {"images": images(), "maps": np.ones((len(images()), 2, 4)), "grid": (2, 2)},
    "classification": lambda: {"model": model(), "num_images": 8, "num_classes": 3, "batch_size": 2, "epochs": 1},
    "conditional_pretraining": lambda: {
        "num_images": 8,
        "num_classes": 3,
        "batch_size": 2,
        "epochs": 1,
        "base_learning_rate": 1e-3,
    },
    "constant_with_warmup": lambda: {"peak_learning_rate": 1e-3, "warmup_steps": 1},
    "evaluate_representation": lambda: {
        "model": model(),
        "data": (labelled(), labelled()),
        "neighbours": evaluation.KNNSweep(ks=(1,)),
        "linear": evaluation.LinearProbe(epochs=1),
        "efficient": evaluation.EfficientProbe(2, epochs=1),
        "verbose": False,
    },
    "extract_tokens": lambda: {"encoder": model().feature_extractor(pooling=None), "dataset": images()},
    "load_tokens": lambda: {"directory": token_folder()},
    "label_agreement": lambda: {"probabilities": np.full((6, 3), 1 / 3), "labels": labels()},
    "posthoc_average": lambda: {"model": averaging_model(), "directory": snapshot_folder(), "std": 0.15},
    "select": lambda: {
        "model": model(),
        "reference": reference(),
        "network": feature_network(),
        "guidance": (1.0,),
        "num_images": 2,
        "final_images": 2,
        "num_finalists": 1,
        "num_steps": 2,
        "verbose": False,
    },
    "small": lambda: {"num_images": 6, "steps": 10, "image_shape": (8, 8, 1), "num_classes": 3},
    "export": lambda: {"model": model(), "path": "encoder.onnx"},
    "upload": lambda: {"folder": "preset", "uri": "hf://somebody/preset"},
    "train_classifier": lambda: {
        "images": images(),
        "labels": labels(),
        "width": 2,
        "epochs": 1,
        "batch_size": 4,
        "verbose": False,
    },
    "read_idx": lambda: dict(zip(("images", "labels"), idx_files(), strict=True)),
    "replay": lambda: {"path": black_box()},
}
CANNOT_WORK_HERE = {
    "from_webdataset",
    "from_tfrecords",
    "from_tfds",
    "StableDiffusionAutoencoder",
    "load_small_vision",  # its arguments are a file of the authors
    "upload",  # needs a hub
    "BackupAndRestore.restore_last",  # needs a checkpoint
    "UMD.quantize",  # changes the model for all that follow
    "export",  # needs the converters of its format
    "UMD.enable_lora",  # changes the model for all that follow
    "UMD.export",  # needs TensorFlow
    "FeatureExtractor.export",
    "ModelParallel",  # changes how every variable after it is made
    "show",  # opens a window
    "Table.save",
}


def idx_files():
    """Two images of 4x4 pixels and their labels, as MNIST has them."""
    for name, shape in (("images.idx", (2, 4, 4)), ("labels.idx", (2,))):
        header = bytes([0, 0, 8, len(shape)]) + b"".join(size.to_bytes(4, "big") for size in shape)
        pathlib.Path(name).write_bytes(header + bytes(int(np.prod(shape))))
    return "images.idx", "labels.idx"


def black_box():
    """A step that was left out, in a file."""
    failing = model()
    draws = failing.corruption.draw((4, *failing.image_shape), failing.patch_size, seed=0)
    batch = {"images": floats(4), "labels": None, "draws": draws}
    write_black_box("black_box.zip", failing, batch, {"epoch": 0, "batch": 0, "loss": 0.0, "norm": 0.0})
    return "black_box.zip"


def image_folder():
    keras_umd.plots.save_image("photos/a/1.png", images(1, 3)[0])
    keras_umd.plots.save_image("photos/a/2.png", images(1, 3)[0])
    return "photos"


def saved_preset(saved):
    folder = f"preset_of_{type(saved).__name__}"
    if not pathlib.Path(folder).exists():
        saved.save_to_preset(folder)
    return folder


MAE = {"standardized": "half", "num_heads": 2, "decoder_heads": 1, "image_shape": (4, 4, 1)}


def vit_arrays(width=8, blocks="blocks.0."):
    """The weights of the smallest ViT by timm's names."""
    matrices = {"attn.qkv": (3, 1), "attn.proj": (1, 1), "mlp.fc1": (4, 1), "mlp.fc2": (1, 4)}
    arrays = {f"{blocks}{name}.weight": np.zeros((m * width, n * width)) for name, (m, n) in matrices.items()}
    arrays |= {f"{blocks}{name}.bias": np.zeros(m * width) for name, (m, _) in matrices.items()}
    norms = (f"{blocks}norm1", f"{blocks}norm2", "norm" if blocks == "blocks.0." else "decoder_norm")
    arrays |= {f"{norm}.{kind}": np.zeros(width) for norm in norms for kind in ("weight", "bias")}
    if blocks != "blocks.0.":
        return arrays
    tokens = {"cls_token": np.zeros((1, 1, width)), "pos_embed": np.zeros((1, 5, width))}
    return arrays | tokens | {"patch_embed.proj.weight": np.zeros((8, 1, 2, 2)), "patch_embed.proj.bias": np.zeros(8)}


def mae_arrays():
    """The weights of a decoder for it, by facebookresearch's names."""
    arrays = {"decoder_embed.weight": (4, 8), "decoder_embed.bias": (4,), "mask_token": (1, 1, 4)}
    arrays |= {"decoder_pos_embed": (1, 5, 4), "decoder_pred.weight": (4, 4), "decoder_pred.bias": (4,)}
    return {name: np.zeros(shape) for name, shape in arrays.items()} | vit_arrays(4, "decoder_blocks.0.")


def weights_file():
    np.savez("weights.npz", kernel=np.zeros(2))
    return "weights.npz"


def saved_result():
    with open("result.json", "w") as file:
        json.dump(result().card, file)
    return "result.json"


def saved_reference():
    reference().save("reference.npz")
    return "reference.npz"


def probed():
    return {"train": (features(), labels(12)), "test": (features(), labels(12))}


def probed_tokens():
    made = np.random.default_rng(0).normal(size=(12, 4, 8)).astype("float32")
    return {"train": (made, labels(12)), "test": (made, labels(12))}


@functools.cache
def trained_probe():
    probe = evaluation.EfficientProbe(2, epochs=1, batch_size=4)
    probe.accuracies(**probed_tokens())
    return probe


@functools.cache
def built_pooling():
    pooling = evaluation.AttentionPooling(2)
    pooling.build(tokens().shape)
    return pooling


@functools.cache
def token_folder():
    evaluation.extract_tokens(model().feature_extractor(pooling=None), images(), "tokens")
    return "tokens"


@functools.cache
def averaging_model():
    made = small_umd()
    made.track_average(keras_umd.recipes.PowerProfile(0.1))
    made.averages[0].update()
    return made


@functools.cache
def snapshot_folder():
    snapshots = keras_umd.callbacks.SnapshotAverages("snapshots")
    snapshots.set_model(averaging_model())
    snapshots.on_train_end()
    return "snapshots"


def sampled():
    zeros = np.zeros((1, 2), "float32")
    return {"denoise": lambda x, t: (x, x), "x_T": zeros, "schedule": schedule(), "num_steps": 2, "seed": 0}


def mesh():
    return keras.distribution.DeviceMesh((1,), ["batch"], devices=["cpu:0"])


ANY = "anything"
NUMBERS = "0, 0.5"
TEXT = "'False', '', '../x'"
# Values that look bad and are right, or do no harm: of arguments with this name, or of one function.
ACCEPTED = {
    # Names and paths are free, as far as they can be used; below their folder or not is the user's choice.
    **dict.fromkeys(("name", "view", "title", "x_label", "y_label", "network", "metric", "digest"), TEXT),
    **dict.fromkeys(("directory", "path", "data_dir", "folder"), "'False', '../x'"),
    **dict.fromkeys(("Adaptive.floor", "Attention.show", "Attention.probability", "Teacher.decay"), NUMBERS),
    "HardPatches.share": "0",
    "masked_branch": NUMBERS,
    "augment": "None, lambda",  # judged by what it returns
    **dict.fromkeys(("license", "description"), f"None, {TEXT}"),
    "load_weights": "None, True",
    "results": "[]",
    "log_to": "[], empty array",
    **{f"{name}.save_to_preset.dtype": "None" for name in ("UMD", "FeatureExtractor", "Objective")},
    # Shares, rates and factors
    **dict.fromkeys(("clean_ratio", "clean_mask_ratio", "noisy_mask_ratio", "ratio", "mask_ratio"), NUMBERS),
    **dict.fromkeys(("label_dropout", "dropout", "max_bad_share", "eta", "sampler"), NUMBERS),
    **dict.fromkeys(("decoded_ratio", "share", "utilization", "learning_rate", "mlp_ratio"), "0.5"),
    **dict.fromkeys(("base_learning_rate", "peak_learning_rate"), "0.5"),
    **dict.fromkeys(("weight_decay", "epsilon", "weight", "low"), NUMBERS),
    **dict.fromkeys(("l2", "temperature", "power", "budget", "bfloat16", "float32", "memory"), "0.5, 1e300, 2**63"),
    **dict.fromkeys(("watts", "scale"), "0, 0.5, 1e300, 2**63"),
    "deviations": "0, 0.5, 1e300, 2**63",
    "high": "inf, 1e300, 2**63",
    **dict.fromkeys(("max_pixels", "max_bytes", "max_records", "max_classes"), "2**63"),  # limits may be out of reach
    "weight": "-1, 0, 0.5",
    **dict.fromkeys(("decays", "ema_decay"), "0, 0.5, [], empty array"),
    # Integers that may be 0
    **dict.fromkeys(("seed", "shard_index", "epoch", "batch", "initial_epoch", "warmup_steps", "padding"), "0"),
    "timesteps": "0",
    "hint": TEXT,
    "hints": "None, {}",
    "LocalScale.units": "{}",
    "verbose": "True, 0",  # 0 is Keras' False
    # Optional, with another default
    "UMD.compile.jit_compile": "True",
    "num_classes": "None",
    "block": "None",
    "sigma": "0.5, 1e300, 2**63",
    "plan.utilization": "None, 0.5",  # `None`: at its ceiling
    **dict.fromkeys(("Device.bandwidth",), "0.5, 1e300, 2**63"),
    "product_share": "0.5",
    "VariationalBound.decay": "0.5",
    "UMD.anomaly_map.timestep": "0, 0.5",
    **dict.fromkeys(("offset", "adjust"), "-1, 0, 0.5"),
    **dict.fromkeys(("focal", "wrap", "reaches_end", "gives_class", "has_noise_embedding"), "True"),
    # Of other codebases' networks
    **dict.fromkeys(("least", "Timesteps.scale"), "-1, 0, 0.5"),
    "mlp_epsilon": NUMBERS,
    "encoder_norm": "None",
    "from_jit.noise_scale": "0.5",
    **dict.fromkeys(("from_dit.decoder_layers", "from_sit.decoder_layers", "BlockStack.num_layers"), "0"),
    **dict.fromkeys(("Decoder.num_layers", "num_cls_tokens"), "0"),
    "attempts": "0",
    "not_read": "None, {}",
    **dict.fromkeys(("qk_norm", "rope", "value_residual", "self_conditioning"), "True"),
    **dict.fromkeys(("registers", "in_context"), "0"),
    "in_context_from": "0",
    "num_cls_tokens": "0",
    "layer_scale": "-1, 0, 0.5",
    "unbiased": "True",
    **dict.fromkeys(("from_vit.standardized", "from_mae.standardized"), "None"),
    **dict.fromkeys(("from_vit.source", "from_mae.source"), ""),
    "conditioning": "None",
    "value_range": "None",
    "pooling": "None",
    "shots": "None",
    "metrics": "None",
    **dict.fromkeys(("num_steps", "samplers", "guidance"), "None, [None]"),  # the defaults of `generate`
    **dict.fromkeys(("batch_size", "labels", "weak_model", "optimizer", "weights", "features"), "None"),
    # Bools
    **dict.fromkeys(("training", "flip", "shuffle", "drop_remainder", "keep_features", "smallest", "verify"), "True"),
    **dict.fromkeys(("scan_blocks", "remat", "run_eagerly", "normalize", "shard_weights", "tensorboard"), "True"),
    "resume": "True",
    # Recipes
    **dict.fromkeys(("drop_path", "mixup", "cutmix", "label_smoothing", "warmup_epochs"), NUMBERS),
    "layer_decay": "0.5",
    "rates": "{}",
    **dict.fromkeys(("undecayed", "source"), TEXT),
    **dict.fromkeys(("settings", "sampling"), "{}"),
    "averages": "[], empty array",
    "conditional_pretraining.averages": "",
    "conditional_pretraining.guidance": "0, 0.5, 1e300, 2**63",
    "select.guidance": "",
    "intervals": "[None]",
    "pack": "None, True",
    "sweep_features.seed": "None, 0",
    **dict.fromkeys(("y", "validation_data"), "None"),
    "validation_split": "None, 0, 0.5",
    **dict.fromkeys(("UMD.prediction.name", "Objective.prediction.name"), "None"),
    **dict.fromkeys(("Difficulty.name", "SamplingPolicy.name"), f"{TEXT}, None"),
    **dict.fromkeys(("has_mask_token", "has_place_token"), "True"),
    "FeatureSet.features": "array of nan",  # a container; they are checked where they come from
    "FeatureSet.labels": "None, array of -1",
    "from_folder.labels": "True",
    "from_latents.labels": "True",
    # Free data, which may be empty
    **dict.fromkeys(
        ("identity", "protocol", "subject", "versions", "pictures", "losses", "scores", "points"), "None, {}"
    ),
    "heads": "{}",
    "callbacks": "None, [], {}",
    "freeze": "[]",
    **dict.fromkeys(("class_names", "row_names", "column_names"), "array of strings"),
    "TrackGeneration.metrics": "array of strings",  # looked at when the network is there
    "TrackProbe.data": ANY,  # read when the model is there
    **dict.fromkeys(("TrackRank.images",), "[], [None]"),
    # Functions
    **dict.fromkeys(("evaluations", "LinearProbe.optimizer"), "None, lambda"),
    # Values on a device aren't read
    **dict.fromkeys(("scores", "NoiseSchedule.timesteps_at.log_snr"), ANY),
    **{f"NoiseSchedule.{name}.timesteps": "array of -1" for name in ("add_noise", "predict_noise", "predict_x0")},
    **{f"{name}.levels.timesteps": "0, 0.5, [], empty array" for name in PATHS},
    **{f"{name}.log_snr.timesteps": "0, 0.5, [], empty array" for name in PATHS},
    **{f"{name}.timesteps_at.log_snr": ANY for name in PATHS},
    **dict.fromkeys((f"{name}.mean" for name in ("LogNormal", "LogSNRNormal", "LogitNormal")), "-1, 0, 0.5"),
    **dict.fromkeys(("EDM.sigma_min", "EDM.sigma_max", "Shifted.shift", "ShiftedGrid.shift"), "0.5"),
    **dict.fromkeys(("max_weight", "gamma", "mean_weight"), "0.5"),
    "masked_weight": NUMBERS,
    "StopAfter.minutes": "0.5, 1e300, 2**63",
    "StopAfter.cpu": "True",
    **dict.fromkeys(
        ("Frequency.radius", "low_pass", "ColorAdapt.probability", "unplaced", "smooth", "TruncatedNormal.mean"),
        NUMBERS,
    ),
    **dict.fromkeys(("TruncatedNormal.high", "Uniform.high", "MaskStages.rising.high", "until"), "0.5"),
    "Bordered.width": "0",
    **dict.fromkeys(("Corruption.weighting", "Function.function"), "lambda"),  # a function of the log-SNR
    "Objective.pixel_predictions": "array of strings",
    "NoiseSchedule.levels.timesteps": "0, [], empty array",
    "NoiseSchedule.log_snr.timesteps": "0, [], empty array",
    **dict.fromkeys(("strong", "weak"), "-1, 0, 0.5, -1e300, 1e300, 2**63, empty array, array of -1, array of nan"),
    "guide.scale": "-1, 0, 0.5, -1e300, 1e300, 2**63, empty array, array of -1, array of nan",
    # NaN is what a diverged training is worth
    **dict.fromkeys(("value", "deviation"), "None, nan, inf, -1, 0, 0.5, -1e300, 1e300, 2**63"),
}
# What an error may call an argument instead of its name.
ALIASES = {
    "data": "dataset|train",
    **dict.fromkeys(("from_dit.source", "from_sit.source", "from_maskdit.source", "from_jit.source"), "path"),
    "x": "images",
    "y": "labels",
    "validation_data": "images|labels",
    "UMD.prediction.name": "predict_from",
    "Objective.prediction.name": "predict_from",
    "samplers": "sampler",
    **dict.fromkeys(("read_idx.images", "read_idx.labels"), "idx file"),
    "Autoencoder.sample.mean": "mean|std",
    "Objective.prediction.views": "model",
    **dict.fromkeys(("from_vit.source", "from_mae.source"), "path"),  # of the file
}
# Good values among the bad ones, whose call takes long or fails for what the value is: a function that returns nothing.
SKIPPED = {("jit_compile", "True"), ("denoise", "lambda"), ("optimizer", "lambda"), ("select.num_steps", "None")}
