"""Shared fixtures: the golden arrays, models that carry their parameters, and small models, new or used before."""

import gc
import os
import pathlib

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# The tests compile many small programs once, in processes of their own too; optimizing those costs more than running.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "true")
# The same on TensorFlow; and programs of loops that are simpler to compile, each as one LLVM module. It halves what
# compilation costs. XLA ends a process that has flags which it doesn't know; constraints.txt has versions that do.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1 "
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
)
# Many tests train the same small model: its step compiles once for all of them, and for the processes that they start.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(pathlib.Path(__file__).parents[1] / ".pytest_cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

import keras
import numpy as np
import pytest

from keras_umd import UMD, Corruption
from keras_umd.weights import load_small_vision
from tests import shared
from tests.tiers import (  # noqa: F401 (hooks)
    pytest_collection_modifyitems,
    pytest_configure,
    pytest_runtest_makereport,
    pytest_runtest_protocol,
    pytest_terminal_summary,
)

# Where the step isn't the subject: TensorFlow takes four seconds to trace each, and PyTorch and JAX take none or one.
QUICK = {"run_eagerly": True} if keras.backend.backend() == "tensorflow" else {}
# Where only that it is compiled counts. XLA would take longer on TensorFlow, and so would AdamW.
QUICK_STEP = {"optimizer": "sgd", "jit_compile": False if keras.backend.backend() == "tensorflow" else "auto"}
# Where the method isn't the subject: one view, whose blocks read no condition, is half of the program and of its cost.
PLAIN = {"corruption": Corruption.mae(), "conditioning": "token"}
GOLDEN = pathlib.Path(__file__).parent / "golden"

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    # To optimize a graph that runs for a few steps takes longer than they do: a sixth of what a small step costs.
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})


def pytest_collection_finish():
    """What is imported stays: to look for garbage in it again and again takes a tenth of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@pytest.fixture
def thawed():
    """What was frozen above may be frozen again by a test: the library leaves it to those who have frozen something."""
    gc.unfreeze()
    yield
    gc.freeze()


@pytest.fixture
def op_by_op():
    """Without graphs on TensorFlow: to trace one takes seconds, and each of these tests makes its own and runs it once.

    For tests whose subject is what is computed, and not how programs are made.
    """
    if keras.backend.backend() != "tensorflow":
        yield
        return
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture(scope="session")
def golden():
    """Loads a golden file by name, as a dictionary."""

    def load(name):
        with np.load(GOLDEN / f"{name}.npz") as arrays:
            return dict(arrays)

    return load


@pytest.fixture(scope="session")
def golden_params(golden):
    """The authors' parameters for one of their model variants (tests/golden/README.md)."""

    def params(conditioning="adaln_zero", num_cls_tokens=1, labels=True):
        chosen = {}
        for name, value in golden("params").items():
            is_modulation = name.startswith("final_modulation") or (".Dense_0." in name and "MlpBlock" not in name)
            is_modulation = is_modulation and not name.startswith(("time_trunk", "label_trunk"))
            if is_modulation and conditioning != "adaln_zero":
                continue
            if name.startswith("label_") and not labels:
                continue
            chosen[name] = value[:, :num_cls_tokens] if name == "cls" else value
        return chosen

    return params


@pytest.fixture(scope="session")
def new_golden_model(golden_params):
    """A UMD of the golden configuration with the authors' parameters, for a test that changes it."""

    def build(conditioning="adaln_zero", num_cls_tokens=1, labels=True, **corruption):
        model = UMD(
            image_shape=(16, 16, 3),
            patch_size=4,
            hidden_dim=48,
            num_layers=2,
            num_heads=4,
            decoder_layers=1,
            num_classes=10 if labels else None,
            num_cls_tokens=num_cls_tokens,
            conditioning=conditioning,
            corruption=Corruption(**corruption),
            dtype="float32",
        )
        load_small_vision(model, golden_params(conditioning, num_cls_tokens, labels))
        return model

    return build


@pytest.fixture(scope="session")
def golden_model(new_golden_model):
    """The same for all tests that only read it."""
    models = {}

    def get(*args, **settings):
        key = shared.key_of([args, settings])
        if key not in models:
            models[key] = new_golden_model(*args, **settings)
        return models[key]

    return get


@pytest.fixture
def images():
    """24 random uint8 images of the shape of `small_model`."""
    return np.random.default_rng(0).integers(0, 256, (24, 8, 8, 1)).astype("uint8")


@pytest.fixture
def labels():
    return np.random.default_rng(1).integers(0, 3, 24)


@pytest.fixture
def small_model():
    """Builds the smallest UMD that has everything: reproducible weights and draws."""

    def build(**overrides):
        keras.utils.set_random_seed(0)
        sizes = {"image_shape": (8, 8, 1), "patch_size": 2, "hidden_dim": 16, "num_heads": 2}
        return UMD(**{**sizes, "num_layers": 1, "decoder_layers": 1, "seed": 0, **overrides})

    return build


@pytest.fixture
def plain_model(small_model):
    """As `small_model`, but the method that costs least, for tests of what is done with a model."""
    return lambda **overrides: small_model(**{**PLAIN, **overrides})


@pytest.fixture
def shared_model(small_model):
    """As `small_model`, but with programs that earlier tests have compiled; `compiled` is what `compile` takes.

    Each call gives a model of its own. For tests that change variables, optimizer and averages, not what computes.
    """
    taken = []

    def take(compiled=None, **overrides):
        taken.append(shared.take(small_model, compiled, overrides))
        return taken[-1][1].model

    yield take
    for key, model in taken:
        shared.give_back(key, model)


def array(x):
    """Any tensor or variable as a NumPy array."""
    return np.asarray(keras.ops.convert_to_numpy(x.value if isinstance(x, keras.Variable) else x))


def in_one_program(function):
    """The function, on JAX as one program: op by op it makes one for each operation and shape, of 10 ms each.

    What it calls must be built. Random sequences stay where they are.
    """
    if keras.backend.backend() != "jax":
        return function
    import jax

    def run(*args):
        with keras.StatelessScope():
            return function(*args)

    return jax.jit(run)


def trained_like(model):
    """Random weights in the places that start at zero, so that inputs reach the outputs."""
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign(array(variable) + 0.1 * rng.normal(size=variable.shape))
    return model


def assert_close(actual, expected, tolerance):
    """Equal relative to the largest entry, as tests/golden/README.md asks for."""
    actual, expected = array(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    scale = np.abs(expected).max()
    error = np.abs(actual - expected).max() / scale
    assert error <= tolerance, f"relative error {error:.2e} above {tolerance:.0e}"
