"""How the blocks are run changes neither weights nor results."""

import keras
import numpy as np
import pytest

from keras_umd import UMD, Corruption
from tests.conftest import QUICK_STEP, array, in_one_program, trained_like

WAYS = {"remat": {"remat": True}, "scan": {"scan_blocks": True}, "both": {"scan_blocks": True, "remat": True}}
needs_jax = pytest.mark.backends("jax")  # only JAX has the scan
CASES = [
    ("remat", "adaln_zero"),
    *(pytest.param(*case, marks=needs_jax) for case in [("scan", "token"), ("both", "adaln_zero")]),
]


def history(model, images, labels):
    """The losses of three steps, and the weights after them."""
    losses = model.fit(images, labels, batch_size=8, epochs=1, shuffle=False, verbose=0).history
    return losses, [array(variable) for variable in model.trainable_variables]


@pytest.mark.parametrize(("way", "conditioning"), CASES)
def test_losses_and_updates_are_the_same(shared_model, images, labels, way, conditioning):
    """Of blocks that are modulated, and of plain ones, which get the condition as a token."""
    number = 2 if "scan_blocks" in WAYS[way] or keras.backend.backend() == "torch" else 1
    settings = {"num_layers": number, "decoder_layers": number, "decoder_hidden_dim": 8, "num_classes": 3}
    settings |= {"conditioning": conditioning, "corruption": Corruption.maskdit()}
    step = {**QUICK_STEP, "optimizer": "adam"}
    plain, other = (trained_like(shared_model(step, **settings, **how)) for how in ({}, WAYS[way]))
    (expected, weights), (losses, others) = (history(model, images, labels) for model in (plain, other))
    for name, values in expected.items():
        np.testing.assert_allclose(losses[name], values, rtol=1e-5)
    for ours, theirs in zip(weights, others, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


@needs_jax
def test_features_and_samples_of_a_scan_are_the_same(small_model, images):
    sizes = {"num_layers": 2, "decoder_layers": 2}
    plain, other = (trained_like(small_model(**sizes, scan_blocks=how)) for how in (False, True))
    np.testing.assert_allclose(array(other.encode(images)), array(plain.encode(images)), atol=1e-5)
    samples = [model.generate(num_images=2, num_steps=2, seed=0).astype(int) for model in (plain, other)]
    assert np.abs(samples[0] - samples[1]).max() <= 1  # of 255


def test_they_are_saved_and_kept_for_fine_tuning(small_model, tmp_path):
    model = small_model(scan_blocks=True, remat=True)
    model.save(tmp_path / "model.keras")
    for copy in (keras.saving.load_model(tmp_path / "model.keras"), model.with_classes(3)):
        assert copy.encoder.scan_blocks and copy.decoder.scan_blocks and copy.encoder.remat and copy.decoder.remat


@needs_jax
def test_a_frozen_encoder_stays_as_it_was_in_a_scan(small_model, images, labels):
    model = small_model(num_layers=2, scan_blocks=True).with_classes(3, freeze=["encoder"])
    before = [array(variable) for variable in model.encoder.weights]
    model.compile(**QUICK_STEP)
    history(model, images, labels)
    for variable, value in zip(model.encoder.weights, before, strict=True):
        np.testing.assert_array_equal(array(variable), value)


OTHER_STEPS = [("umd", 1.0), *((method, ratio) for method in ("mae", "maskdit", "dit") for ratio in (1.0, 0.5))]
# The other steps are other shapes of the same operations, or fewer of them.
STEPS = [("umd", 0.5), *(pytest.param(*case, marks=pytest.mark.backends("torch")) for case in OTHER_STEPS)]


@pytest.mark.parametrize(("method", "decoded_ratio"), STEPS)
def test_the_step_predicts_what_its_losses_read_and_no_more(small_model, images, method, decoded_ratio):
    corruption = getattr(Corruption, method)(decoded_ratio=decoded_ratio)
    model = trained_like(small_model(corruption=corruption))
    inputs, _ = model.make_views(images[:8], seed=0)
    assert keras.tree.flatten(inputs)[0].shape[0] == 8  # Keras weighs a batch's loss by the size of the first leaf
    for part, predictions in in_one_program(model)(inputs).items():
        view = inputs["views"][part]
        whole = {name: array(x) for name, x in in_one_program(model.predict_view)(view).items()}
        masked = 16 if "masked" not in view else view["masked"].shape[1]
        expected = {"x0": whole["x0"][:, -masked:]}
        if part == "noisy":
            expected["eps"] = whole["eps"][:, : 16 if masked == 16 else view["visible"].shape[1]]
        assert set(predictions) == {*expected, "representation", "tokens"}
        for name, values in expected.items():
            np.testing.assert_allclose(array(predictions[name]), values, atol=1e-5)


@needs_jax
def test_a_scan_compiles_one_block_instead_of_all():
    import jax

    def num_products(num_layers, **how):
        model = UMD(
            image_shape=(8, 8, 1),
            patch_size=2,
            hidden_dim=16,
            num_layers=num_layers,
            num_heads=2,
            decoder_layers=1,
            **how,
        )
        text = str(jax.make_jaxpr(lambda images: model(images))(np.zeros((2, 8, 8, 1), "float32")))
        return text.count("dot_general")

    assert num_products(6, scan_blocks=True) == num_products(3, scan_blocks=True)
    assert num_products(6) > num_products(3)
