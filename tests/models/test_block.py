"""A model with every setting of a `Block` trains, samples, is saved, scanned, adapted and exported as any other."""

import keras
import numpy as np
import pytest

from keras_umd.layers import Block
from tests.conftest import QUICK, array, trained_like

EVERYTHING = Block.modern(
    registers=2, in_context=3, bottleneck=5, value_residual=True, cls_to_decoder="all", self_conditioning=True
)
SIZES = {"block": EVERYTHING, "num_layers": 3, "decoder_layers": 2, "num_cls_tokens": 2}


def test_every_weight_is_trained_and_a_file_gives_the_same_features(small_model, images, labels, tmp_path):
    model = trained_like(small_model(**SIZES, num_classes=3))
    before = [array(variable) for variable in model.trainable_variables]
    model.compile("sgd", **QUICK)
    model.fit(images[:8], labels[:8], verbose=0)
    same = [v.path for v, old in zip(model.trainable_variables, before, strict=True) if np.all(array(v) == old)]
    assert not [path for path in same if "key/bias" not in path]
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.block == EVERYTHING
    np.testing.assert_array_equal(array(loaded.encode(images)), array(model.encode(images)))


@pytest.mark.host
def test_it_generates_and_is_fine_tuned(small_model):
    """The sampler looks up the conditions themselves, which tokens in context and self-conditioning read."""
    model = trained_like(small_model(**SIZES, num_classes=3))
    settings = {"labels": [0, 2], "num_steps": 2, "seed": 0}
    samples = {scale: model.generate(**settings, guidance=scale).astype("float32") for scale in (1.0, 2.0)}
    assert np.abs(samples[1.0] - samples[2.0]).max() > 0
    finetuned = model.with_classes(2)
    assert finetuned.block == EVERYTHING
    np.testing.assert_allclose(array(finetuned.encoder.blocks.registers), array(model.encoder.blocks.registers))


@pytest.mark.backends("jax")  # only JAX has the scan
def test_scanned_blocks_give_the_same_features(small_model, images):
    import jax

    model = trained_like(small_model(**SIZES))
    x, condition = model.prepare_images(images[:2]), model.condition(np.array([1, 5]))
    expected, actual = (jax.jit(lambda x, how=how: run(model.encoder, x, condition, how))(x) for how in (False, True))
    np.testing.assert_allclose(array(actual), array(expected), atol=1e-6 * np.abs(array(expected)).max())


def run(encoder, x, condition, scan_blocks):
    encoder.blocks.scan_blocks = scan_blocks
    return encoder(x, condition=condition)[0]


@pytest.mark.host
def test_the_extractor_of_an_adapted_model_has_its_features(small_model, images, tmp_path):
    model = trained_like(small_model(**SIZES))
    model.encoder.blocks[1].mlp_gate.enable_lora(2)
    model.encoder.patch_embedding.reduction.enable_lora(2)
    extractor = model.feature_extractor()
    np.testing.assert_allclose(array(extractor(images)), array(model.encode(images)), atol=1e-4)
    extractor.save(tmp_path / "extractor.keras")
    loaded = keras.models.load_model(tmp_path / "extractor.keras")
    np.testing.assert_array_equal(loaded.predict(images, verbose=0), extractor.predict(images, verbose=0))


@pytest.mark.host
@pytest.mark.usefixtures("thawed")
def test_it_is_quantised_and_takes_images_of_another_size(small_model, images):
    model = small_model(**SIZES)
    larger = model.feature_extractor((12, 8, 1), pooling=None)  # the rotation goes on
    assert larger(np.zeros((1, 12, 8, 1), "uint8")).shape == (1, 24, 16)
    model.quantize("int8")
    assert np.isfinite(array(model.encode(images))).all()


@pytest.mark.backends("tensorflow")  # a SavedModel is made by it
def test_an_exported_extractor_has_the_features(small_model, images, tmp_path):
    import tensorflow as tf

    extractor = trained_like(small_model(**SIZES)).feature_extractor()
    extractor.export(tmp_path / "exported", verbose=False)
    loaded = tf.saved_model.load(str(tmp_path / "exported"))
    served = loaded.serve(images.astype("float32") / 127.5 - 1)
    np.testing.assert_allclose(np.asarray(served), array(extractor(images)), atol=1e-5)


@pytest.mark.host
def test_weights_of_norms_and_added_tokens_do_not_decay(small_model):
    model = small_model(**SIZES)
    model.compile("adamw")
    excluded = {v.path for v in model.trainable_variables if not model.optimizer._use_weight_decay(v)}
    added = ("query_norm/scale", "value_mix", "registers", "context_positions")
    assert all(any(path.endswith(name) for path in excluded) for name in added)


@pytest.mark.host
def test_a_file_without_a_block_is_the_papers(small_model):
    config = small_model().get_config()
    del config["block"]
    model = type(small_model()).from_config(config)
    assert model.block == Block()
