"""LoRA and quantisation: no weight is paired by its place, and none of two times are mixed."""

import gc
import warnings

import keras
import numpy as np
import pytest

from keras_umd import Corruption, data, recipes
from keras_umd.layers.dense import Dense
from keras_umd.weights import load_small_vision
from tests.conftest import QUICK, array, trained_like

pytestmark = pytest.mark.usefixtures("op_by_op", "thawed")

SAMPLING = {"num_images": 4, "num_steps": 3, "sampler": 0.0, "seed": 0}


def dense_layers(model):
    return [layer for part in model.network_layers() for layer in part._flatten_layers() if isinstance(layer, Dense)]


def with_lora(model, rank=2):
    """LoRA in the encoder, with factors whose product isn't zero."""
    rng = np.random.default_rng(3)
    for layer in model.encoder._flatten_layers():
        if isinstance(layer, keras.layers.Dense):
            layer.enable_lora(rank, lora_alpha=2 * rank)
            layer.lora_kernel_b.assign(0.3 * rng.normal(size=layer.lora_kernel_b.shape))
    return model


def samples(model, **options):
    return model.generate(**{**SAMPLING, **options}).astype(int)


def paths_of(model):
    return [variable.path for variable in model.network_weights]


def assert_same_state(model, other):
    assert paths_of(model) == paths_of(other)
    for value, expected in zip(model.variables, other.variables, strict=True):
        np.testing.assert_array_equal(array(value), array(expected), err_msg=value.path)


# LoRA


@pytest.mark.parametrize("average_first", [True, pytest.param(False, marks=pytest.mark.host)])
def test_a_model_with_lora_and_averages_trains_is_saved_and_goes_on(small_model, images, tmp_path, average_first):
    model = small_model(corruption=Corruption.dit(), conditioning="token")
    if average_first:  # pre-trained, and averaged
        model.compile(recipes.AdamW(1e-2, ema_decay=0.5), **QUICK)
        model.fit(images[:8], batch_size=8, verbose=0)
    with_lora(model)
    model.compile(recipes.AdamW(1e-2, ema_decay=0.5), **QUICK)
    assert model.averages[0].is_of(model.network_weights)
    assert float(array(model.averages[0].num_updates)) == average_first
    model.fit(images[:8], batch_size=8, epochs=2, verbose=0)
    factor = model.encoder.blocks[0].mlp_hidden.lora_kernel_b
    values = dict(zip(paths_of(model), model.weight_values(), strict=True))
    assert np.abs(array(values[factor.path]) - array(factor)).max() > 1e-5  # trained, and averaged

    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert_same_state(loaded, model)
    for weights in ("average", "raw"):
        np.testing.assert_array_equal(samples(loaded, weights=weights), samples(model, weights=weights))
    for trained in (model, loaded):
        trained.fit(images[:8], batch_size=8, shuffle=False, verbose=0)
    assert_same_state(loaded, model)


def test_averages_that_do_not_know_the_factors_are_not_mixed_with_them(small_model):
    model = small_model()
    model.track_average(0.9)
    model.averages[0].update()
    with_lora(model)
    with pytest.raises(ValueError, match="(?s)call `compile` again.*weights='raw'.*mlp_hidden/lora_kernel_a"):
        model.generate(**SAMPLING)
    with pytest.raises(ValueError, match="lora_kernel_a"):
        model.feature_extractor()
    assert samples(model, weights="raw").shape == (4, 8, 8, 1)
    before = model.averages[0]
    with pytest.raises(ValueError, match=r"decays=1\.0"):
        model.track_average([0.9, 1.0])
    assert model.averages == [before]  # a failed call changes nothing
    model.track_average(0.9)
    np.testing.assert_array_equal(samples(model), samples(model, weights="raw"))  # all of one time


def test_features_and_fine_tuning_have_the_factors_in_their_kernels(small_model, images):
    model = with_lora(trained_like(small_model()))
    expected = array(model.encode(images))
    extractor = model.feature_extractor()
    assert not any("lora" in variable.path for variable in extractor.weights)
    np.testing.assert_allclose(array(extractor(images)), expected, atol=1e-5)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # none lacks a partner
        finetuned = model.with_classes(None)
    np.testing.assert_allclose(array(finetuned.encode(images)), expected, atol=1e-5)
    assert not any("lora" in path for path in paths_of(finetuned))


def test_the_factors_of_an_average_are_added_to_the_kernels_of_that_average(small_model, images):
    model = with_lora(trained_like(small_model()))
    model.track_average(0.5)
    model.averages[0].update()
    averaged = array(model.encode(images))
    for variable in model.encoder.trainable_variables:
        variable.assign(array(variable) + 0.5)
    np.testing.assert_allclose(array(model.feature_extractor()(images)), averaged, atol=1e-5)
    assert np.abs(array(model.feature_extractor(weights="raw")(images)) - averaged).max() > 1e-2


def test_files_of_other_adaptations(small_model, images, tmp_path):
    model = with_lora(trained_like(small_model()))
    model.save_weights(tmp_path / "lora.weights.h5")
    plain = small_model()
    plain.load_weights(tmp_path / "lora.weights.h5")  # the factors are added to the kernels
    np.testing.assert_allclose(array(plain.encode(images)), array(model.encode(images)), atol=1e-5)
    plain.save_weights(tmp_path / "plain.weights.h5")
    model.load_weights(tmp_path / "plain.weights.h5")
    np.testing.assert_allclose(array(plain.encode(images)), array(model.encode(images)), atol=1e-5)
    layer = model.encoder.blocks[0].mlp_hidden
    assert np.any(array(layer.lora_kernel_a)) and not np.any(array(layer.lora_kernel_b))  # can be trained


def test_an_extractor_of_other_sizes_is_refused_and_stays_as_it_was(small_model):
    extractor, other = small_model().feature_extractor(), small_model(hidden_dim=32)
    before = [array(variable).copy() for variable in extractor.weights]
    with pytest.raises(ValueError, match="(?s)without a partner of their shape.*encoder/cls_tokens"):
        extractor.copy_weights(other)
    extractor.encoder.blocks[0].mlp_hidden.enable_lora(2)
    with pytest.raises(ValueError, match=r"partner of their shape.*mlp_hidden/lora_kernel_a"):
        extractor.copy_weights(small_model())
    for variable, value in zip((v for v in extractor.weights if "lora" not in v.path), before, strict=True):
        np.testing.assert_array_equal(array(variable), value)


def test_weights_that_begin_anew_are_named(small_model):
    model = small_model(decoder_hidden_dim=8)
    with pytest.warns(UserWarning) as warned:
        config = {**model.get_config(), "decoder_hidden_dim": 16}
        model.get_config = lambda: config
        model.with_classes(3)
    messages = " ".join(str(w.message) for w in warned)
    assert "has no place for these weights" in messages and "begin anew" in messages
    assert messages.count("decoder/mask_token") == 2 and "label_embedding" not in messages


# Quantisation


@pytest.mark.backends("torch")  # which weights are quantised is the same everywhere; op by op it takes the others 20 s
def test_what_is_quantised_is_the_average(small_model):
    model = trained_like(small_model())
    model.track_average(0.9)
    model.averages[0].update()
    for variable in model.decoder.head.trainable_variables:
        variable.assign(array(variable) + 1.0)
    average, raw = samples(model), samples(model, weights="raw")
    assert np.abs(raw - average).mean() > 20
    model.quantize("int8")
    quantized = samples(model)
    assert np.abs(quantized - average).mean() < 5
    assert model.averages == [] and "int8" in {str(v.dtype) for v in model.network_weights}
    np.testing.assert_array_equal(quantized, samples(model, weights="raw"))


@pytest.mark.parametrize("predict_from", ["eps", pytest.param("x0", marks=pytest.mark.host)])
def test_a_head_that_is_read_in_part_is_quantised_too(small_model, predict_from):
    model = trained_like(small_model(hidden_dim=32))
    expected = samples(model, predict_from=predict_from)
    model.quantize("int8", filters="projection")
    assert np.abs(samples(model, predict_from=predict_from) - expected).mean() < 5


@pytest.mark.parametrize("mode", ["int8", pytest.param("int4", marks=pytest.mark.host)])
def test_a_quantised_model_is_saved_and_loaded(plain_model, images, tmp_path, mode):
    model = trained_like(plain_model())
    model.compile(recipes.AdamW(1e-3, ema_decay=0.5), **QUICK)
    model.quantize(mode, filters="projection")  # on JAX each shape is compiled
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert_same_state(loaded, model)
    assert {layer.quantization_mode for layer in dense_layers(loaded)} == {mode, None}
    np.testing.assert_array_equal(array(loaded.encode(images)), array(model.encode(images)))
    with pytest.raises(ValueError, match="can't be trained; take the model of before"):
        loaded.with_classes(3)
    if mode == "int4":
        with pytest.raises(ValueError, match=r"quantised to int4"):
            loaded.feature_extractor()
        return
    features = array(loaded.feature_extractor()(images))
    expected = array(model.encode(images))
    assert np.abs(features - expected).mean() < 0.05 * np.abs(expected).mean()


@pytest.mark.host
def test_quantisation_does_not_search_all_memory_for_garbage_again_and_again(plain_model):
    model, searches = plain_model(), []

    def watch(phase, about):
        if phase == "start" and about["generation"] == 2:
            searches.append(gc.get_freeze_count())

    gc.callbacks.append(watch)
    try:
        model.quantize("int8")
    finally:
        gc.callbacks.remove(watch)
    assert len(searches) > 10 and min(searches) > 10_000  # Keras searches after each kernel
    assert gc.get_freeze_count() == 0
    gc.freeze()
    frozen = gc.get_freeze_count()
    plain_model().quantize("int8")
    assert gc.get_freeze_count() <= frozen  # of a user's: nothing is added to it


@pytest.mark.host
def test_an_extractor_with_lora_or_int8_is_saved_and_loaded(plain_model, images, tmp_path):
    extractor = trained_like(plain_model()).feature_extractor(pooling="mean")
    for adapt in (lambda: extractor.encoder.blocks[0].mlp_hidden.enable_lora(2), lambda: extractor.quantize("int8")):
        adapt()
        extractor.save(tmp_path / "extractor.keras")
        loaded = keras.models.load_model(tmp_path / "extractor.keras")
        np.testing.assert_allclose(array(loaded(images)), array(extractor(images)), atol=1e-6)


@pytest.mark.host
def test_a_failed_quantisation_leaves_the_model_as_it_was(plain_model):
    model = trained_like(plain_model())
    model.compile(recipes.AdamW(1e-3, ema_decay=0.5), **QUICK)
    model.averages[0].update()
    for variable in model.encoder.trainable_variables:
        variable.assign(array(variable) + 0.1)
    before = [(variable, array(variable).copy()) for variable in model.variables]
    for arguments, message in (
        ({"mode": "int3"}, "mode=int3"),
        ({"mode": "float8"}, "mode='float8'"),
        ({}, "either `mode` or `config`"),
        ({"mode": "int8", "filters": "convolution"}, "filters='convolution'"),
        ({"mode": "int8", "filters": "("}, r"regular expression.*filters='\('"),
        ({"mode": "int8", "filters": 3}, "filters=3"),
        ({"mode": "int8", "weights": 0.7}, "weights=0.7"),
    ):
        with pytest.raises(ValueError, match=message):
            model.quantize(**arguments)
    assert len(model.averages) == 1 and model.optimizer is not None
    for variable, (known, value) in zip(model.variables, before, strict=True):
        assert variable is known
        np.testing.assert_array_equal(array(variable), value)
    model.quantize("int8")
    with pytest.raises(ValueError, match="quantised already"):
        model.quantize("int8")


@pytest.mark.host
def test_quantisation_by_layer_does_not_mix_with_averages(small_model):
    model = small_model()
    model.track_average(0.9)
    model.averages[0].update()
    model.encoder.blocks[0].mlp_hidden.quantize("int8")
    with pytest.raises(ValueError, match=r"(?s)weights='raw'.*mlp_hidden/kernel"):
        model.generate(**SAMPLING)
    with pytest.warns(UserWarning, match=r"averages are dropped: \['encoder/block_0/mlp_hidden/kernel'\]"):
        model.track_average(0.9)
    model.generate(**SAMPLING)


@pytest.mark.host
def test_a_quantised_model_with_lora_keeps_both(plain_model, images, tmp_path):
    model = with_lora(trained_like(plain_model()))
    model.quantize("int8")
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(array(loaded.encode(images)), array(model.encode(images)), atol=1e-6)


def some_lora(model):
    model.encoder.blocks[1].mlp_hidden.enable_lora(2, b_initializer="ones")


def lora_everywhere(model):
    model.enable_lora(2)
    for block in model.encoder.blocks:
        block.attention.query.lora_kernel_b.assign(np.ones((2, model.hidden_dim)))


def int8_everywhere(model):
    for block in model.encoder.blocks:
        block.mlp_hidden.quantize("int8")


@pytest.mark.backends("jax")  # the others have no scan
@pytest.mark.parametrize("adapt", [some_lora, lora_everywhere, int8_everywhere])
def test_adapted_blocks_run_in_a_scan_or_beside_it(small_model, images, adapt):
    results = []
    for scan_blocks in (False, True):
        model = trained_like(small_model(num_layers=2, scan_blocks=scan_blocks))
        adapt(model)
        results.append(array(model.encode(images)))
    np.testing.assert_allclose(*results, atol=1e-5)


@pytest.mark.host
def test_parameters_of_the_authors_are_refused_by_an_adapted_model(golden_params, new_golden_model):
    model = new_golden_model()
    model.encoder.blocks[0].mlp_hidden.enable_lora(2)
    with pytest.raises(ValueError, match="before LoRA or quantisation"):
        load_small_vision(model, golden_params())


@pytest.mark.host
def test_the_recipe_for_fine_tuning_takes_lora(small_model, images):
    """The input of faults/r05: LoRA, an optimizer with an average, and a data set."""
    model = small_model()
    with_lora(model)
    model.compile(recipes.finetuning_optimizer(total_steps=8, batch_size=8), **QUICK)
    model.fit(data.from_arrays(images[:8], batch_size=8), verbose=0)
    assert model.feature_extractor() is not None and model.with_classes(3) is not None


# Fine-tuning with LoRA


def test_fine_tuning_with_lora_trains_factors_and_labels_alone(small_model, images, labels, tmp_path):
    model = trained_like(small_model()).with_classes(3)
    before = array(model.encode(images))
    model.enable_lora(2, alpha=4.0)
    np.testing.assert_allclose(array(model.encode(images)), before, atol=1e-6)  # the product starts at 0
    assert {layer.name for layer in dense_layers(model) if layer.lora_enabled} == {"query", "value"}
    values = {variable.path: array(variable).copy() for variable in model.network_weights}
    model.compile(recipes.AdamW(1e-2, ema_decay=0.5), **QUICK)
    model.fit(images[:8], labels[:8], batch_size=8, epochs=2, verbose=0)
    moved = {v.path for v in model.network_weights if np.abs(array(v) - values[v.path]).max() > 0}
    small = {"lora_kernel_a", "lora_kernel_b", "bias", "cls_tokens", "mask_token"}
    assert {path.split("/")[-1] for path in moved if "embedding" not in path} <= small
    assert any("label_embedding" in path for path in moved) and any("decoder" in path for path in moved)
    assert not any("mlp" in path or "norm" in path for path in moved)

    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert_same_state(loaded, model)
    trainable = [variable.path for variable in model.trainable_variables]
    assert [variable.path for variable in loaded.trainable_variables] == trainable
    for weights in ("average", "raw"):
        merged = loaded.merge_lora(weights)
        assert not any("lora" in path for path in paths_of(merged))
        assert len(merged.trainable_variables) > len(trainable) and merged.averages == []
        np.testing.assert_allclose(
            array(merged.encode(images)), array(model.encode(images, weights=weights)), atol=1e-5
        )
        difference = samples(merged, labels=[0, 1, 2, 0]) - samples(model, labels=[0, 1, 2, 0], weights=weights)
        assert np.abs(difference).max() <= 1


@pytest.mark.host
def test_lora_is_refused_where_it_cannot_be_added(small_model):
    model = small_model()
    for arguments, message in (
        ({"rank": 0}, "rank=0"),
        ({"rank": 2, "alpha": 0}, "alpha=0"),
        ({"rank": 2, "filters": "convolution"}, "filters='convolution'"),
        ({"rank": 2, "filters": "("}, "regular expression"),
    ):
        with pytest.raises(ValueError, match=message):
            model.enable_lora(**arguments)
    assert all(layer.trainable for layer in dense_layers(model))
    model.enable_lora(2, filters=None)
    assert all(layer.lora_enabled for layer in dense_layers(model) if "embedding/" not in layer.path)
    with pytest.raises(ValueError, match="has LoRA factors"):
        model.enable_lora(2)
    quantized = small_model()
    quantized.quantize("int8")
    with pytest.raises(ValueError, match="quantised"):
        quantized.enable_lora(2)
