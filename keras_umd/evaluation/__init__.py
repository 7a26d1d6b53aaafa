"""Evaluation of representations and of generated images."""

from keras_umd.evaluation.attention_pooling import AttentionPooling
from keras_umd.evaluation.classifier import train_classifier
from keras_umd.evaluation.efficient_probe import EfficientProbe
from keras_umd.evaluation.feature_scores import TRANSFER, evaluate_features, sweep_features, transfer_datasets
from keras_umd.evaluation.features import FeatureSet, extract
from keras_umd.evaluation.few_shot import FewShotProbe, RidgeClassifier
from keras_umd.evaluation.fine_tuning import fine_tune
from keras_umd.evaluation.image_scores import (
    frechet_distance,
    gaussian_distance,
    inception_score,
    kernel_distance,
    label_agreement,
)
from keras_umd.evaluation.inception import FIDInception
from keras_umd.evaluation.linear_probe import LinearProbe
from keras_umd.evaluation.nearest_neighbours import KNNProbe
from keras_umd.evaluation.neighbour_sweep import KNNSweep
from keras_umd.evaluation.neighbourhoods import neighbourhood_scores
from keras_umd.evaluation.probes import Probe
from keras_umd.evaluation.reference import Reference
from keras_umd.evaluation.representation import evaluate_representation
from keras_umd.evaluation.results import Result, Table, mean_of, versions
from keras_umd.evaluation.sample_scores import evaluate_generator, evaluate_images, sweep_generation
from keras_umd.evaluation.selection import Selection, select
from keras_umd.evaluation.statistics import FeatureStatistics, rank_me
from keras_umd.evaluation.tokens import extract_tokens, load_tokens
from keras_umd.evaluation.tracking import DrawReconstructions, DrawSamples, TrackGeneration, TrackProbe, TrackRank

__all__ = [
    "AttentionPooling",
    "DrawReconstructions",
    "DrawSamples",
    "EfficientProbe",
    "FIDInception",
    "FeatureSet",
    "FeatureStatistics",
    "FewShotProbe",
    "KNNProbe",
    "KNNSweep",
    "LinearProbe",
    "Probe",
    "Reference",
    "Result",
    "RidgeClassifier",
    "Selection",
    "TRANSFER",
    "Table",
    "TrackGeneration",
    "TrackProbe",
    "TrackRank",
    "evaluate_features",
    "evaluate_generator",
    "evaluate_images",
    "evaluate_representation",
    "extract",
    "extract_tokens",
    "fine_tune",
    "frechet_distance",
    "gaussian_distance",
    "inception_score",
    "kernel_distance",
    "label_agreement",
    "load_tokens",
    "mean_of",
    "neighbourhood_scores",
    "rank_me",
    "select",
    "sweep_features",
    "sweep_generation",
    "train_classifier",
    "transfer_datasets",
    "versions",
]
