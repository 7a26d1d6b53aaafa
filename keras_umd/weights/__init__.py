"""Weights from other codebases, and presets to others."""

from keras_umd.weights.diffusion import from_dit, from_jit, from_maskdit, from_sit
from keras_umd.weights.exporting import export
from keras_umd.weights.files import read_weights
from keras_umd.weights.mae import from_mae
from keras_umd.weights.sharing import upload
from keras_umd.weights.small_vision import load_small_vision
from keras_umd.weights.transfer import start_from
from keras_umd.weights.vit import from_vit
from keras_umd.weights.vit_export import to_timm, to_transformers

__all__ = [
    "export",
    "from_dit",
    "from_jit",
    "from_mae",
    "from_maskdit",
    "from_sit",
    "from_vit",
    "load_small_vision",
    "read_weights",
    "start_from",
    "to_timm",
    "to_transformers",
    "upload",
]
