"""Losses, their parts and every gradient are those of the authors' code, given the same draws."""

import itertools

import keras
import numpy as np
import pytest
from keras import ops

from keras_umd import Corruption
from keras_umd.backend import compile_function
from keras_umd.weights import load_small_vision
from tests.conftest import array, assert_close
from tests.models.test_golden_forward import both_predictions

CONDITIONING = {"adaln": "adaln_zero", "noadaln": "token"}


def authors_batch(inputs, num_clean, corruption):
    """The authors' batch and draws in our order: theirs has the clean images last, ours spreads them."""
    num_noisy = 8 - num_clean
    is_clean = array(corruption.draw((8, 16, 16, 3), 4, seed=0)["timesteps"]) == 0
    assert is_clean.sum() == num_clean
    clean, noisy = np.flatnonzero(is_clean), np.flatnonzero(~is_clean)

    def arrange(noisy_rows, clean_rows):
        result = np.empty((8, *noisy_rows.shape[1:]), noisy_rows.dtype)
        result[noisy], result[clean] = noisy_rows[:num_noisy], clean_rows[:num_clean]
        return ops.convert_to_tensor(result)

    images = arrange(inputs["images"], inputs["images"][num_noisy:])
    labels = arrange(inputs["labels"], inputs["labels"][num_noisy:])
    draws = {
        "timesteps": arrange(inputs["t"][:, 0] + 1, np.zeros(8, "int32")),
        "noise": arrange(inputs["noise"], np.zeros_like(inputs["noise"])),
        "mask_noise": arrange(inputs["mask_noise_noised"], inputs["mask_noise_no_noise"]),
        "label_drop": arrange(inputs["label_drop"], np.zeros(8, bool)),
    }
    return images, labels, draws


def losses_of(model, x, y):
    """Loss as the training step computes it, and its parts from the trackers that `fit` logs."""

    def losses(x, y):
        loss = model.compute_loss(x, y, model(x))
        return loss, {tracker.name: tracker.result() for tracker in model.loss_part_trackers}

    variables = model.variables + model.metrics_variables
    loss, parts = compile_function(losses, variables)([variable.value for variable in variables], x, y)
    return loss, {name: float(array(part)) for name, part in parts.items()}


def gradients_of(model, x, y):
    variables = model.trainable_variables
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        def loss_at(values, x, y):
            with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
                return model.compute_loss(x, y, model(x))

        return jax.jit(jax.grad(loss_at))([variable.value for variable in variables], x, y)
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = model.compute_loss(x, y, model(x))
        return [tf.convert_to_tensor(g) for g in tape.gradient(loss, [variable.value for variable in variables])]
    import torch

    loss = model.compute_loss(x, y, model(x))
    return torch.autograd.grad(loss, [variable.value for variable in variables])


def authors_parts(parts):
    """Our logged parts as the authors' `dit_loss` and `mae_loss`."""
    result = {}
    if "clean_x0_loss" in parts:
        result["mae_loss"] = parts["clean_x0_loss"]
    if "noisy_eps_loss" in parts:
        result["dit_loss"] = (parts["noisy_eps_loss"] + parts["noisy_x0_loss"]) / 2
    return result


@pytest.mark.parametrize(
    ("file", "conditioning", "labels"),
    [
        ("loss_pretrain_adaln_cls1", "adaln_zero", False),
        ("loss_pretrain_noadaln_cls1", "token", False),
        ("loss_labels_adaln_cls1", "adaln_zero", True),
    ],
)
def test_losses_and_every_gradient_equal_the_authors(
    golden, golden_model, new_golden_model, file, conditioning, labels
):
    expected, inputs = golden(file), golden("loss_inputs")
    model = golden_model(conditioning, labels=labels)
    images, classes, draws = authors_batch(inputs, 4, model.corruption)
    x, y = model.make_views(images, classes if labels else None, draws=draws)
    assert_close(x["views"]["noisy"]["images"], inputs["x_t_first4_f64"], 2e-5)

    loss, parts = losses_of(model, x, y)
    assert_close(loss, expected["loss_f64"], 2e-5)
    for name, value in authors_parts(parts).items():
        assert_close(value, expected[f"{name}_f64"], 2e-5)

    # The expected gradients, brought into our shapes by the importer: a model that holds them as its weights.
    holder = new_golden_model(conditioning, labels=labels)
    load_small_vision(holder, {name[5:]: value for name, value in expected.items() if name.startswith("grad.")})
    gradients = [array(gradient) for gradient in gradients_of(model, x, y)]
    largest = max(np.abs(array(variable)).max() for variable in holder.trainable_variables)
    for variable, gradient in zip(holder.trainable_variables, gradients, strict=True):
        error = np.abs(gradient - array(variable)).max() / largest
        assert error <= 2e-5, f"{variable.path}: {error:.1e}"
    norm = np.sqrt(sum(np.sum(gradient.astype("float64") ** 2) for gradient in gradients))
    assert_close(norm, expected["grad_global_norm_f64"], 2e-5)


SETTINGS = ("dit", "maskdit", "mae", "finetune")
VARIANTS = ("adaln_cls1", "adaln_cls4", "noadaln_cls1", "noadaln_cls4")
EVERYWHERE = list(zip(VARIANTS, SETTINGS, strict=True))  # each setting and each variant; PyTorch has all pairs
PAIRS = [
    pair if pair in EVERYWHERE else pytest.param(*pair, marks=pytest.mark.backends("torch"))
    for pair in itertools.product(VARIANTS, SETTINGS)
]


@pytest.mark.parametrize(("variant", "case"), PAIRS)
def test_the_settings_of_dit_maskdit_mae_and_finetuning_give_the_authors_losses(golden, golden_model, variant, case):
    expected, inputs = golden("loss_scalars"), golden("loss_inputs")
    corruption, num_clean = {
        "dit": (Corruption.dit(), 0),
        "maskdit": (Corruption.maskdit(), 0),
        "mae": (Corruption.mae(), 8),
        "finetune": (Corruption(clean_ratio=0.25, noisy_mask_ratio=0.0), 2),
    }[case]
    name, cls = variant.split("_cls")
    model = golden_model(CONDITIONING[name], int(cls), labels=case == "finetune", **corruption.get_config())
    images, labels, draws = authors_batch(inputs, num_clean, corruption)
    x, y = model.make_views(images, labels if case == "finetune" else None, draws=draws)
    loss, parts = losses_of(model, x, y)
    assert_close(loss, expected[f"{variant}.{case}.loss_f64"], 2e-5)
    for part, value in authors_parts(parts).items():
        assert_close(value, expected[f"{variant}.{case}.{part}_f64"], 2e-5)


def reference_loss(prediction, x0, noise, mask):
    """MAE's and DiT's losses in plain NumPy: (eps over visible, x_0 over masked) pixels of prediction images."""
    channels = x0.shape[-1]
    x0_error, eps_error = (prediction[..., :channels] - x0) ** 2, (prediction[..., channels:] - noise) ** 2
    mask = np.broadcast_to(mask, x0.shape).astype(bool)
    if not mask.any():
        return eps_error.mean(), x0_error.mean()
    return eps_error[~mask].mean(), x0_error[mask].mean()


@pytest.mark.host
@pytest.mark.parametrize("method", ["mae", "dit", "maskdit"])
def test_each_method_is_a_setting_of_umd(golden, golden_model, method):
    """The three limits of the objective against formulas of their own, computed from the prediction as an image."""
    from keras_umd.layers import restore, unpatchify

    corruption = getattr(Corruption, method)()
    model = golden_model(labels=False, **corruption.get_config())
    inputs = golden("loss_inputs")
    draws = corruption.draw((8, 16, 16, 3), 4, seed=3)
    x, y = model.make_views(inputs["images"], draws=draws)
    view = x["views"]["clean" if method == "mae" else "noisy"]
    patches = both_predictions(model, view)
    mask = np.zeros((8, 16), bool)
    if "masked" in view:
        patches = restore(patches, view["visible"], view["masked"])
        np.put_along_axis(mask, array(view["masked"]), True, axis=1)
        assert mask.sum(axis=1).tolist() == [{"mae": 12, "maskdit": 8}[method]] * 8
    mask = array(unpatchify(np.repeat(mask[:, :, None], 16, axis=2), (4, 4), (4, 4)))
    prediction = array(unpatchify(patches, (4, 4), (4, 4)))
    eps, x0 = reference_loss(prediction, inputs["images"], array(draws["noise"]), mask)
    expected = x0 if method == "mae" else (eps + x0) / 2
    assert_close(model.compute_loss(x, y, model(x)), expected, 2e-5)
