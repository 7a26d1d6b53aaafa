"""Evaluation of representations and of generated images."""

from keras_umd.evaluation.feature_scores import evaluate_features, sweep_features
from keras_umd.evaluation.features import FeatureSet, extract
from keras_umd.evaluation.few_shot import FewShotProbe, RidgeClassifier
from keras_umd.evaluation.fine_tuning import fine_tune
from keras_umd.evaluation.frechet import frechet_distance, gaussian_distance
from keras_umd.evaluation.inception import FIDInception
from keras_umd.evaluation.inception_score import inception_score
from keras_umd.evaluation.kernel_distance import kernel_distance
from keras_umd.evaluation.linear_probe import LinearProbe
from keras_umd.evaluation.nearest_neighbours import KNNProbe
from keras_umd.evaluation.neighbourhoods import neighbourhood_scores
from keras_umd.evaluation.probes import Probe
from keras_umd.evaluation.provenance import Result, mean_of, versions
from keras_umd.evaluation.rank import rank_me
from keras_umd.evaluation.reference import Reference
from keras_umd.evaluation.sample_scores import evaluate_generator, evaluate_images, sweep_generation
from keras_umd.evaluation.statistics import FeatureStatistics
from keras_umd.evaluation.table import Table
from keras_umd.evaluation.tracking import DrawReconstructions, DrawSamples, TrackGeneration, TrackProbe, TrackRank
from keras_umd.evaluation.transfer import TRANSFER, transfer_datasets

__all__ = [
    "DrawReconstructions",
    "DrawSamples",
    "FIDInception",
    "FeatureSet",
    "FeatureStatistics",
    "FewShotProbe",
    "KNNProbe",
    "LinearProbe",
    "Probe",
    "Reference",
    "Result",
    "RidgeClassifier",
    "TRANSFER",
    "Table",
    "TrackGeneration",
    "TrackProbe",
    "TrackRank",
    "evaluate_features",
    "evaluate_generator",
    "evaluate_images",
    "extract",
    "fine_tune",
    "frechet_distance",
    "gaussian_distance",
    "inception_score",
    "kernel_distance",
    "mean_of",
    "neighbourhood_scores",
    "rank_me",
    "sweep_features",
    "sweep_generation",
    "transfer_datasets",
    "versions",
]
