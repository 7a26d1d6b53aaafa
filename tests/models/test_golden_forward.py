"""The network's outputs are those of the authors' code."""

import numpy as np
import pytest
from keras import ops

from keras_umd.layers import patchify, restore, split_by_score, take_tokens, unpatchify
from keras_umd.sampling.guidance import guide
from tests.conftest import array, assert_close

VARIANTS = {"adaln_cls1": "adaln_zero", "noadaln_cls1": "token"}
CASES = {  # noise level, label, and mask ratio of each golden case
    "a": {},
    "b": {"t": True, "y": True},
    "c75": {"mask": (0.75, "mask_noise_75")},
    "c375": {"t": True, "y": True, "mask": (0.375, "mask_noise_375")},
}


def both_predictions(model, view):
    """x_0 and noise of all patches as the authors' head gives them: for each pixel the channels of both."""
    outputs = model.predict_view(view)
    x0, eps = array(outputs["x0"]), array(outputs["eps"])
    x0, eps = (x.reshape(*x.shape[:2], 16, 3) for x in (x0, eps))
    return ops.convert_to_tensor(np.concatenate([x0, eps], axis=-1).reshape(*x0.shape[:2], -1))


def forward(model, inputs, t=False, y=False, mask=None):
    """Prediction as an image of 2 * channels, representation, and the mask, as the golden files have them."""
    timesteps = inputs["t"][:, 0] if t else np.zeros(4, "int32")
    view = {"images": ops.convert_to_tensor(inputs["image"]), "timesteps": ops.convert_to_tensor(timesteps)}
    if y:
        view["labels"] = ops.convert_to_tensor(inputs["y"])
    if mask:
        view["visible"], view["masked"] = split_by_score(ops.convert_to_tensor(inputs[mask[1]]), mask[0])
    representation, _ = model.encoder(
        view["images"], condition=model.condition(view["timesteps"], view.get("labels")), visible=view.get("visible")
    )
    patches = both_predictions(model, view)
    if mask:
        patches = restore(patches, view["visible"], view["masked"])
    return unpatchify(patches, model.patch_size, model.grid), representation, view


@pytest.mark.parametrize(
    ("case", "has_labels"),
    [("a", True), ("b", True), ("c75", True), ("c375", True), ("a", False), ("b", False), ("c75", False)],
)
@pytest.mark.parametrize("variant", VARIANTS)
def test_predictions_and_representations_equal_the_authors(golden, golden_model, variant, case, has_labels):
    expected = golden(f"forward_{variant}")
    inputs = golden("forward_inputs")
    key = case if has_labels else f"{case}_nolabelmodel"
    settings = dict(CASES[case])
    if not has_labels:
        settings.pop("y", None)
    prediction, representation, view = forward(golden_model(VARIANTS[variant], labels=has_labels), inputs, **settings)
    assert_close(prediction, expected[f"{key}.pred_f64"], 2e-5)
    assert_close(representation, expected[f"{key}.rep_f64"], 2e-5)
    if "mask" in settings:
        removed = np.zeros((4, 16))
        np.put_along_axis(removed, array(view["masked"]), 1, axis=1)
        image_mask = array(unpatchify(np.repeat(removed[:, :, None], 16, axis=2), (4, 4), (4, 4)))
        np.testing.assert_array_equal(image_mask, expected[f"{key}.image_mask"])


@pytest.mark.parametrize("variant", VARIANTS)
def test_guided_prediction_equals_the_authors(golden, golden_model, variant):
    expected, inputs = golden(f"forward_{variant}"), golden("forward_inputs")
    model = golden_model(VARIANTS[variant])
    conditional = forward(model, inputs, t=True, y=True)
    unconditional = forward(model, inputs, t=True)
    guided = guide(conditional[0], unconditional[0], 3.0)
    assert_close(guided, expected["d.pred_f64"], 2e-5)
    representations = np.concatenate([array(conditional[1]), array(unconditional[1])])
    assert_close(representations, expected["d.rep_doubled_f64"], 2e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_estimate_splits_the_prediction_into_x0_and_noise(golden, golden_model, variant):
    expected, inputs = golden(f"forward_{variant}"), golden("forward_inputs")
    model = golden_model(VARIANTS[variant])
    estimate = model.estimate(*(ops.convert_to_tensor(x) for x in (inputs["image"], inputs["t"][:, 0], inputs["y"])))
    assert_close(estimate["x0"], expected["b.pred_f64"][..., :3], 2e-5)
    assert_close(estimate["eps"], expected["b.pred_f64"][..., 3:], 2e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_inner_values_equal_the_authors(golden, golden_model, variant):
    expected, inputs = golden(f"forward_{variant}"), golden("forward_inputs")
    model = golden_model(VARIANTS[variant])
    t, y = (ops.convert_to_tensor(x) for x in (inputs["t"][:, 0], inputs["y"]))
    embedding = model.condition_embedding
    assert_close(embedding.timestep_embedding.sinusoid(t), expected["mid.time_sinusoid_f64"], 2e-5)
    assert_close(embedding.timestep_embedding(t), expected["mid.time_cond_f64"], 2e-5)
    assert_close(embedding.label_embedding(y), expected["mid.y_cond_f64"], 2e-5)
    assert_close(embedding(t, labels=y), expected["mid.cond_f64"], 2e-5)
    assert_close(model.encoder.patch_embedding(inputs["image"]), expected["mid.patch_embed_f64"], 2e-5)
    visible, masked = split_by_score(ops.convert_to_tensor(inputs["mask_noise_375"]), 0.375)
    order = np.argsort(np.concatenate([array(visible), array(masked)], axis=1), axis=1)
    np.testing.assert_array_equal(order, expected["mid.ids_restore"])
    visible_patches = take_tokens(patchify(ops.convert_to_tensor(inputs["image"]), (4, 4)), visible)
    embedded = model.encoder.patch_embedding(visible_patches)
    assert_close(embedded, expected["mid.visible_patch_embed_without_pos_f64"], 2e-5)
    condition = embedding(t, labels=y)
    _, tokens = model.encoder(inputs["image"], condition=condition, visible=visible)
    assert_close(tokens, expected["mid.encoded_visible_f64"], 2e-5)
