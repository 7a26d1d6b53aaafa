"""The models and the images of the parts."""

import inspect

import keras
import numpy as np

import keras_umd
from device.runner import LeftOut

TINY = {"image_shape": (8, 8, 3), "patch_size": 2, "hidden_dim": 32, "num_layers": 1, "num_heads": 2}
TINY_BATCH = 4
DTYPE = "mixed_bfloat16"


def make_model(setting, method, size, batch_size, steps_per_execution=1, **options):
    """A compiled model, fresh; options that this version of keras_umd doesn't have leave the part out."""
    known = inspect.signature(keras_umd.UMD).parameters
    unknown = [name for name in options if name not in known]
    if unknown:
        raise LeftOut(f"this keras_umd has no {' and '.join(unknown)}")
    if steps_per_execution > 1 and keras.backend.backend() == "torch":
        raise LeftOut("Keras has no `steps_per_execution` on PyTorch")
    keras.utils.set_random_seed(0)
    if setting.tiny:
        corruption = getattr(keras_umd.Corruption, method)()
        model = keras_umd.UMD(**TINY, decoder_layers=1, corruption=corruption, dtype=DTYPE, seed=0, **options)
    else:
        model = keras_umd.UMD.from_preset(f"{method}_{size}", dtype=DTYPE, seed=0, **options)
    optimizer = keras_umd.recipes.pretraining_optimizer(total_steps=10**6, batch_size=batch_size)
    model.compile(optimizer, steps_per_execution=steps_per_execution)
    return model


def batch_that_fits(setting, model, wanted, limit):
    """The batch size, halved until `plan` expects it to take less than 0.8 of `limit` bytes."""
    size = TINY_BATCH if setting.tiny else wanted
    while limit and size > 1 and keras_umd.plan(model, size).memory.total > 0.8 * limit:
        size //= 2
    return size


def random_images(model, number):
    rng = np.random.default_rng(0)
    shape = (number, *model.image_shape)
    if model.value_range is None:
        return rng.standard_normal(shape, "float32")
    return rng.integers(0, 256, shape, "uint8")
