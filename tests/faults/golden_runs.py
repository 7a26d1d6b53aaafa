"""Loss curves of a small UMD, so that a change of numerics cannot pass unseen.

KERAS_BACKEND=jax python -m tests.faults.golden_runs      records those of a backend into tests/golden/runs.json
"""

import json
import pathlib

import keras
import numpy as np

from keras_umd import UMD, recipes

PATH = pathlib.Path(__file__).parents[1] / "golden" / "runs.json"


def images():
    """16 images of 8x8 pixels that have structure: waves of random direction, length and phase."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:8, :8]
    waves = [np.sin(rng.uniform(-1, 1) * x + rng.uniform(-1, 1) * y + rng.uniform(0, 6)) for _ in range(16)]
    return np.round(127.5 + 127.5 * np.stack(waves)[..., None]).astype("uint8")


def losses(optimizer, num_steps, dtype=None):
    """The loss of each of `num_steps` steps, all of the same batch."""
    keras.utils.set_random_seed(0)
    model = UMD(
        image_shape=(8, 8, 1),
        patch_size=2,
        hidden_dim=32,
        num_layers=2,
        num_heads=2,
        decoder_layers=1,
        seed=0,
        dtype=dtype,
    )
    model.compile(optimizer)
    batch = images()
    history = model.fit(batch, batch_size=len(batch), epochs=num_steps, shuffle=False, verbose=0)
    return history.history["loss"]


def precisions():
    """The mean of the last 50 of 300 steps with AdamW, in bfloat16 and in float32: of the same images and draws."""
    dtypes = ("float32", "mixed_bfloat16")
    return {dtype: float(np.mean(losses(recipes.AdamW(3e-4, weight_decay=0.05), 300, dtype)[-50:])) for dtype in dtypes}


def curves():
    """50 steps with SGD, and the mean of the last 50 of 300 steps with AdamW."""
    adamw = recipes.AdamW(1e-3, weight_decay=0.05)
    return {"sgd": losses(keras.optimizers.SGD(0.05), 50), "adamw_last_50": float(np.mean(losses(adamw, 300)[-50:]))}


if __name__ == "__main__":
    recorded = json.loads(PATH.read_text()) if PATH.exists() else {}
    recorded[keras.backend.backend()] = curves()
    PATH.write_text(json.dumps(recorded, indent=1, sort_keys=True) + "\n")
