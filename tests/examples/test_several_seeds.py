"""Models that are trained as one program end where each would alone."""

import importlib.util
import pathlib

import keras
import numpy as np
import pytest

import keras_umd
from keras_umd import data, methods, recipes

pytestmark = [pytest.mark.backends("jax"), pytest.mark.docs, pytest.mark.slow]  # it maps JAX' step over the seeds
EXAMPLE = pathlib.Path(__file__).parents[2] / "examples" / "several_seeds.py"
IMAGES = np.random.default_rng(0).integers(0, 256, (24, 8, 8, 3)).astype("uint8")
LABELS = np.arange(24, dtype="int32") % 3


def build(seed, steps_per_execution):
    keras.utils.set_random_seed(seed)
    sizes = {"patch_size": 4, "hidden_dim": 16, "num_layers": 1, "decoder_layers": 1, "num_heads": 2}
    model = keras_umd.UMD(image_shape=(8, 8, 3), num_classes=3, seed=seed, **sizes, **methods.umd_modern())
    optimizer = recipes.finetuning_optimizer(6, 8, base_learning_rate=0.1, ema_decay=0.9)
    model.compile(optimizer, steps_per_execution=steps_per_execution)
    return model


def batches(seed):
    return data.on_device(IMAGES, LABELS, batch_size=8, seed=seed)


@pytest.mark.filterwarnings("ignore:.*too few to carry noise")
def test_models_trained_together_are_those_trained_alone():
    spec = importlib.util.spec_from_file_location("several_seeds", EXAMPLE)
    several_seeds = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(several_seeds)
    together = [build(seed, 2) for seed in (0, 1)]
    losses = several_seeds.fit_together(together, [batches(0), batches(1)], epochs=2)
    assert losses[0]["loss"] != losses[1]["loss"]
    for seed in (0, 1):
        alone = build(seed, 1)
        history = alone.fit(batches(seed), epochs=2, verbose=0).history
        assert {name: values[-1] for name, values in history.items()} == pytest.approx(losses[seed], rel=1e-5)
        pairs = zip(alone.variables, together[seed].variables, strict=True)
        for one, other in pairs:
            np.testing.assert_allclose(
                np.asarray(one, "float64"), np.asarray(other, "float64"), atol=1e-5, err_msg=one.path
            )
        assert int(together[seed].optimizer.iterations) == 6
