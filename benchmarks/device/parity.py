"""One training step and one sample, beside the numbers in tests/golden that CPUs computed."""

import contextlib
import os

import common
import keras
import numpy as np
from keras import ops

import keras_umd
from device.runner import LeftOut
from keras_umd.backend import compile_function, full_precision
from keras_umd.weights import load_small_vision

GOLDEN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tests", "golden")
SIZES = {"image_shape": (16, 16, 3), "patch_size": 4, "hidden_dim": 48, "num_layers": 2, "num_heads": 4}
PRECISIONS = {  # the policy, and how the device multiplies
    "full": ("float32", full_precision),
    "default": ("float32", contextlib.nullcontext),
    "bfloat16": ("mixed_bfloat16", contextlib.nullcontext),
}


def parity(setting):
    """Relative errors of loss, gradients and features, and the levels by which pixels of a sample differ."""
    if not os.path.exists(GOLDEN):
        raise LeftOut("tests/golden isn't here")
    rows = {}
    for name in ["full"] if setting.tiny else PRECISIONS:
        policy, precision = PRECISIONS[name]
        with precision():
            rows[name] = step_errors(policy)
            if policy == "float32":
                rows[name] |= sample_errors()
    return rows


def golden(name):
    with np.load(os.path.join(GOLDEN, f"{name}.npz")) as arrays:
        return dict(arrays)


# One step


def step_errors(policy):
    """Of loss and gradients, with the weights, images and draws of the authors' code, beside its float64 results."""
    expected, inputs = golden("loss_pretrain_adaln_cls1"), golden("loss_inputs")
    params = {key: value for key, value in golden("params").items() if not key.startswith("label_")}
    params["cls"] = params["cls"][:, :1]
    model, holder = (keras_umd.UMD(**SIZES, decoder_layers=1, dtype=dtype) for dtype in (policy, "float32"))
    load_small_vision(model, params)
    gradients = {name.removeprefix("grad."): value for name, value in expected.items() if name.startswith("grad.")}
    load_small_vision(holder, gradients)
    x, y = model.make_views(*authors_batch(model, inputs))
    loss, found = loss_and_gradients(model, x, y)
    wanted = [to_numpy(variable) for variable in holder.trainable_variables]
    errors = {"loss": abs(loss - expected["loss_f64"]) / expected["loss_f64"]}
    if found is not None:
        largest = max(np.abs(gradient).max() for gradient in wanted)
        pairs = zip(found, wanted, strict=True)
        errors["gradients"] = max(np.abs(to_numpy(gradient) - target).max() for gradient, target in pairs) / largest
    return {name: float(value) for name, value in errors.items()}


def authors_batch(model, inputs):
    """Images, no labels, and draws, in the order in which a batch is shared: theirs has the four clean images last."""
    is_clean = to_numpy(model.corruption.draw((8, 16, 16, 3), 4, seed=0)["timesteps"]) == 0

    def arrange(noisy, clean):
        result = np.empty((8, *noisy.shape[1:]), noisy.dtype)
        result[~is_clean], result[is_clean] = noisy[:4], clean[:4]
        return ops.convert_to_tensor(result)

    draws = {
        "timesteps": arrange(inputs["t"][:, 0] + 1, np.zeros(8, "int32")),
        "noise": arrange(inputs["noise"], np.zeros_like(inputs["noise"])),
        "mask_noise": arrange(inputs["mask_noise_noised"], inputs["mask_noise_no_noise"]),
        "label_drop": arrange(inputs["label_drop"], np.zeros(8, bool)),
    }
    return arrange(inputs["images"], inputs["images"][4:]), None, None, 0.0, draws


def loss_and_gradients(model, x, y):
    """The loss, and on JAX and PyTorch the gradients of the trainable variables; else `None`."""
    variables = model.trainable_variables
    values = [variable.value for variable in variables]
    if common.BACKEND == "torch":
        import torch

        loss = model.compute_loss(x, y, model(x))
        return loss.item(), torch.autograd.grad(loss, values)

    def loss_at(values, x, y):
        with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
            return model.compute_loss(x, y, model(x))

    if common.BACKEND == "jax":
        import jax

        loss, gradients = jax.jit(jax.value_and_grad(loss_at))(values, x, y)
        return float(loss), gradients
    program = compile_function(lambda x, y: model.compute_loss(x, y, model(x)), model.variables)
    return float(to_numpy(program([variable.value for variable in model.variables], x, y))), None


# One sample


def sample_errors():
    """Of the model in tests/golden/nothing_moved: its features, and its images of a seed."""
    folder = os.path.join(GOLDEN, "nothing_moved")
    with np.load(os.path.join(folder, "umd.npz")) as arrays:
        expected = dict(arrays)
    model = keras.saving.load_model(os.path.join(folder, "umd.keras"))
    images = np.tanh(np.random.default_rng(0).normal(size=(24, 8, 12, 3))).astype("float32")[:4]
    features = np.asarray(model.predict(images, verbose=0), "float32")
    samples = model.generate(labels=[0, 2], num_steps=3, seed=0)
    levels = np.abs(samples.astype(int) - expected["generated"].astype(int))
    return {
        "features": float(np.abs(features - expected["predicted"]).max() / np.abs(expected["predicted"]).max()),
        "levels": int(levels.max()),
        "equal_pixels": float((levels == 0).mean()),
    }


def to_numpy(x):
    return np.asarray(ops.convert_to_numpy(ops.cast(getattr(x, "value", x), "float32")))
