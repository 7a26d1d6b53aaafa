"""`doctor` tells what is so, and each hint stands where its reason holds and nowhere else."""

import copy
import dataclasses
import json
import sys

import keras
import pytest

import keras_umd
from keras_umd.planning.hints import hints

FLAG = {
    "jax": "XLA_PYTHON_CLIENT_MEM_FRACTION",
    "tensorflow": "TF_FORCE_GPU_ALLOW_GROWTH",
    "torch": "PYTORCH_CUDA_ALLOC_CONF",
}
FRAMEWORKS = {"jax", "tensorflow", "torch"}


@pytest.fixture
def without_other_frameworks(monkeypatch):
    for name in FRAMEWORKS - {keras.backend.backend()}:
        monkeypatch.setitem(sys.modules, name, None)  # an import raises ImportError


def test_it_says_what_runs_here(without_other_frameworks, monkeypatch):
    backend = keras.backend.backend()
    monkeypatch.setenv(FLAG[backend], "0.9")  # of GPUs alone: it does nothing here
    found = keras_umd.doctor()
    module = sys.modules[backend]
    assert found.versions["backend"] == f"{backend} {module.__version__}"
    assert (found.devices["platform"], found.precision["policy"]) == ("cpu", "float32")
    assert found.compilation["flags"][FLAG[backend]] == "0.9"
    kernel, reason = found.attention["kernel"], found.attention["reason"]
    page = str(found)
    assert repr(found) == page and f"{kernel}: {reason}" in page
    for hint in found.hints:
        assert hint.change in page and hint.reason in page
    json.dumps(dataclasses.asdict(found))


@pytest.mark.backends("jax")
def test_the_compilation_cache_is_the_one_in_use():
    import jax

    kept = jax.config.jax_compilation_cache_dir
    try:
        for folder in (None, "programs"):
            jax.config.update("jax_compilation_cache_dir", folder)
            found = keras_umd.doctor()
            assert found.compilation["cache"] == folder
            assert ("JAX_COMPILATION_CACHE_DIR" in str(found)) == (folder is None)
    finally:
        jax.config.update("jax_compilation_cache_dir", kept)


@pytest.mark.host
def test_a_model_has_a_precision_and_heads_of_its_own(small_model):
    found = keras_umd.doctor(small_model(dtype="bfloat16"))
    assert (found.precision["policy"], found.attention["head_dim"]) == ("bfloat16", 8)
    assert any("mixed_bfloat16 for training" in hint.change for hint in found.hints)
    with pytest.raises(ValueError, match="`model` must be a keras_umd.UMD or None. Received: model='umd'"):
        keras_umd.doctor("umd")


GOOD = {  # nothing to change
    "versions": {"backend": "jax 0.10.2"},
    "devices": {
        "platform": "gpu",
        "kinds": ["NVIDIA A100-SXM4-80GB"],
        "in_use": 1,
        "known_as": "A100 80GB",
        "on_the_machine": ["NVIDIA GPU"],
    },
    "attention": {"kernel": "cuDNN flash", "reason": "it fits", "head_dim": 64, "is_switched_off": False},
    "precision": {
        "policy": "mixed_bfloat16",
        "compute_dtype": "bfloat16",
        "variable_dtype": "float32",
        "float32_products": "tensorfloat32",
    },
    "compilation": {"flags": {}, "cache": "programs", "slow_modes": []},
    "data": {"decoders": ["OpenCV", "Pillow"], "cpu_cores": 16},
}
CPU = {"devices.platform": "cpu", "devices.kinds": ["cpu"]}
CHANGED = [  # what differs from that, and words of each hint that follows
    ({}, []),
    (CPU, ["build of jax for the NVIDIA GPU"]),
    ({"devices.kinds": ["NVIDIA A100-SXM4-80GB"] * 2}, ["DataParallel"]),
    ({"precision.compute_dtype": "float32"}, ['"mixed_bfloat16"']),
    ({"precision.compute_dtype": "float32", "devices.known_as": "T4"}, ['"mixed_float16"']),
    (
        {
            "versions.backend": "torch 2.13",
            "precision.compute_dtype": "float32",
            "precision.float32_products": "float32",
        },
        ["mixed_bfloat16", 'set_float32_matmul_precision("high")'],
    ),
    ({"devices.platform": "tpu", "precision.compute_dtype": "float16"}, ["bfloat16 instead of float16"]),
    ({"precision.variable_dtype": "bfloat16"}, ["mixed_bfloat16 for training"]),
    ({"versions.backend": "tensorflow 2.21"}, ["KERAS_BACKEND=jax"]),
    ({"attention.is_switched_off": True}, ["enable_flash_attention"]),
    ({"compilation.cache": None}, ["JAX_COMPILATION_CACHE_DIR"]),
    ({"compilation.slow_modes": ["jax_debug_nans"]}, ["Switch off jax_debug_nans"]),
    ({"compilation.flags": {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}}, ["out of XLA_FLAGS"]),
    ({"data.decoders": ["TensorFlow"]}, ["pip install pillow"]),
    ({"devices.platform": "tpu", "data.decoders": ["OpenCV", "Pillow", "TensorFlow"]}, ["tensorflow-cpu"]),
    ({"data.cpu_cores": 2}, ["on_device"]),
    ({**CPU, "devices.on_the_machine": [], "precision.compute_dtype": "float32", "data.cpu_cores": 2}, []),
]


@pytest.mark.host
@pytest.mark.parametrize(("changes", "expected"), CHANGED)
def test_a_hint_stands_where_its_reason_holds(changes, expected):
    facts = copy.deepcopy(GOOD)
    for name, value in changes.items():
        group, key = name.split(".")
        facts[group][key] = value
    found = hints(facts)
    assert len(found) == len(expected)
    for hint, words in zip(found, expected, strict=True):
        assert words in hint.change and hint.reason
