"""Decoders that predict latents, look at another crop, or stand at several depths: what they are at their limits."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_umd import Corruption, Objective, Teacher, View, data, decoders, weights
from keras_umd.corruption import changes, masks
from keras_umd.layers import Block
from keras_umd.objectives import Alignment, Reconstruction
from keras_umd.objectives.targets import X0, Cells, Pixels
from tests.conftest import QUICK, array, trained_like

RNG = np.random.default_rng(0)
INPUTS = [RNG.normal(size=shape).astype("float32") for shape in ((2, 8), (2, 4, 8), (2, 8))]
ORDER = np.array([[5, 0, 3, 2, 1, 4], [1, 4, 0, 5, 2, 3]])
MASKED = {"visible": ORDER[:, :4], "masked": ORDER[:, 4:]}
SIZES = {"patch_size": 2, "grid": (2, 3), "channels": 3, "num_layers": 2, "num_heads": 2}
READ = {"first": "masked"}


def decoder(kind, **settings):
    keras.utils.set_random_seed(0)
    layer = kind.make(3, **{**SIZES, "pixel_predictions": ("first",), **settings})
    layer.build((None, 8), (None, None, 8))
    return trained_like(layer)


def copy_weights(source, target, renamed=()):
    """Those that both have, by path; returns the paths of the others of the target."""
    values, others = {variable.path: array(variable) for variable in source}, []
    for variable in target:
        path = variable.path
        for old, new in renamed:
            path = path.replace(old, new)
        if path in values:
            variable.assign(values[path])
        else:
            others.append(path)
    return others


def masked(*terms, view=None, **settings):
    view = View("clean", mask=masks.Random(0.75)) if view is None else view
    objective = Objective([Reconstruction("clean", Pixels()), *terms])
    return {"corruption": Corruption(views=[view]), "objective": objective, "conditioning": "token", **settings}


# Latents


@pytest.mark.host
@pytest.mark.parametrize("conditioning", ["adaln_zero", None])
def test_a_regressors_decoder_gets_latents_and_nothing_else(conditioning):
    layer = decoder(decoders.Regressor(2), conditioning=conditioning, hidden_dim=12, block=Block(qk_norm=True))
    representation, tokens, condition = INPUTS
    whole = layer(*INPUTS, **MASKED, read=READ)
    assert whole["latents"].shape == (2, 2, 8) and whole["first"].shape == (2, 2, 12)
    turned = layer(representation, tokens[:, ::-1], condition, **MASKED, read=READ)
    for name, values in whole.items():
        np.testing.assert_allclose(array(turned[name]), array(values), atol=1e-5)
    alone = layer(*INPUTS, visible=ORDER[:, :4], masked=ORDER[:, 5:], read=READ)
    assert np.abs(array(alone["latents"])[:, 0] - array(whole["latents"])[:, 1]).max() > 1e-4  # they see each other
    everything = array(layer(*INPUTS, **MASKED, read={"first": "all"})["first"])
    np.testing.assert_array_equal(everything[:, :4], np.zeros((2, 4, 12)))
    np.testing.assert_allclose(everything[:, 4:], array(whole["first"]), atol=1e-6)
    others = layer(representation, tokens + RNG.normal(size=8).astype("float32"), condition, **MASKED, read=READ)
    assert np.abs(array(others["first"]) - array(whole["first"])).max() > 1e-4
    layer.latents_norm.gamma.assign(np.zeros(12))  # latents that say nothing
    blind = [layer(representation, x, condition, **MASKED, read=READ)["first"] for x in (tokens, tokens * 2 - 1)]
    np.testing.assert_array_equal(*map(array, blind))


@pytest.mark.host
def test_latents_are_held_to_what_the_encoder_makes_of_masked_patches_alone(small_model, images):
    model = trained_like(small_model(**masked(Alignment("clean"), decoder=decoders.Regressor(1))))
    x, y = model.make_views(images[:3], seed=0)
    view = x["views"]["clean"]
    condition = model.condition(ops.zeros((1,), "int32"))
    _, expected = model.encoder(view["images"], condition=condition, visible=view["masked"])
    np.testing.assert_allclose(array(y["clean_alignment_loss"]), array(expected), atol=1e-6)
    outputs = model(x)
    errors = (array(outputs["clean"]["latents"]) - array(expected)) ** 2
    losses = model.objective.image_losses(outputs, y)
    np.testing.assert_allclose(array(losses["clean_alignment_loss"]), errors.mean((1, 2)), rtol=1e-5)


def test_a_teacher_without_memory_is_the_encoder_itself(small_model, images):
    pair = [masked(Alignment("clean"), teacher=Teacher(0.0)), masked(Alignment("clean"))]
    assert_trained_alike(pair, small_model, images)


@pytest.mark.host
def test_an_alignment_of_weight_0_is_none(small_model, images):
    assert_trained_alike([masked(Alignment("clean", weight=0.0)), masked()], small_model, images)


def assert_trained_alike(settings, small_model, images):
    """Bit for bit, in two steps."""
    histories, weights = [], []
    for own in settings:
        model = small_model(**own, decoder=decoders.Regressor(1))
        model.compile("sgd", **QUICK)
        histories.append(model.fit(images[:16], batch_size=8, verbose=0).history["clean_pixels_loss"])
        weights.append([array(variable) for variable in model.network_weights])
    np.testing.assert_array_equal(*histories)
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.host
def test_a_regressor_fills_in_and_says_what_it_cannot_do(small_model, images, tmp_path):
    model = small_model(**masked(Alignment("clean"), decoder=decoders.Regressor(1), decoder_hidden_dim=8))
    model.compile(keras.optimizers.Adam(1e-2))
    assert np.isfinite(model.fit(images[:8], batch_size=8, verbose=0).history["clean_alignment_loss"]).all()
    reconstruction = model.reconstruct(images[:2], seed=0)["reconstruction"]
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.reconstruct(images[:2], seed=0)["reconstruction"], reconstruction)
    assert model.anomaly_map(images[:2], seed=0).shape == (2, 8, 8)
    plain = small_model(corruption=Corruption.mae(), decoder=decoders.Regressor(1))
    missing = np.zeros((2, 8, 8, 1), bool)
    missing[0, :2] = True  # nothing of the second image
    np.testing.assert_array_equal(plain.impute(images[:2], missing)[1], images[1])
    with pytest.raises(ValueError, match=r"predicts masked patches alone.*'noisy', of which \['masked', 'visible'\]"):
        small_model(decoder=decoders.Regressor())
    with pytest.raises(ValueError, match="can't generate. Received: no masked patches"):
        plain.predict_view({"images": plain.prepare_images(images[:2]), "timesteps": np.zeros(1, "int32")})
    with pytest.raises(ValueError, match="needs predicted latents: a model with decoder=decoders.Regressor"):
        other = small_model(**masked(Alignment("clean")))
        x, y = other.make_views(images[:2], seed=0)
        other.objective.image_losses(other(x), y)
    with pytest.raises(ValueError, match="needs a view that masks"):
        small_model(**masked(Alignment("clean"), view=View("clean"))).make_views(images[:2])


# Another crop


@pytest.mark.host
def test_looking_at_a_crop_with_an_attention_that_adds_nothing_is_the_masked_autoencoder(small_model, images):
    view = View("clean", mask=masks.Random(0.75), change=changes.CropInCrop(area=(1, 1)))
    plain = trained_like(small_model(**masked()))
    model = trained_like(small_model(**masked(view=view, decoder=decoders.CrossSelf())))
    others = copy_weights(plain.network_weights, model.network_weights, [("decoder/blocks/", "decoder/")])
    assert others and all("cross" in path for path in others)
    x, y = plain.make_views(images[:3], seed=0)
    own, target = model.make_views(images[:3], seed=0)
    np.testing.assert_array_equal(array(own["views"]["clean"]["other"]), array(x["views"]["clean"]["images"]))
    expected, actual = array(plain(x)["clean"]["pixels"]), array(model(own)["clean"]["pixels"])
    assert own["views"]["clean"]["visible"].shape == (3, 4) and np.abs(actual - expected).max() > 1e-3
    for block in model.decoder.blocks:
        for part in ("kernel", "bias"):
            variable = getattr(block.cross_attention.output_projection, part)
            variable.assign(np.zeros(variable.shape))
    again = {"views": {"clean": {**x["views"]["clean"], "other": own["views"]["clean"]["other"]}}}
    np.testing.assert_allclose(array(model(again)["clean"]["pixels"]), expected, atol=1e-5)


def siamese(small_model):
    view = View("clean", mask=masks.Random(0.9), change=changes.CropInCrop())
    return small_model(**masked(view=view, decoder=decoders.CrossSelf(), decoder_hidden_dim=8))


def test_a_crop_in_a_crop_trains(small_model, images):
    model = siamese(small_model)
    model.compile("sgd", **QUICK)
    assert np.isfinite(model.fit(images[:8], batch_size=8, verbose=0).history["loss"]).all()


@pytest.mark.host
def test_the_other_crop_is_seen_by_masked_patches(small_model, images, tmp_path):
    model = trained_like(siamese(small_model))
    x, _ = model.make_views(images[:3], seed=0)
    view = x["views"]["clean"]
    predictions = [
        array(model.predict_view({**view, "other": other}, {"pixels": "masked"})["pixels"])
        for other in (view["other"], ops.flip(view["other"], axis=0))
    ]
    assert predictions[0].shape == (3, 15, 4) and np.abs(predictions[0] - predictions[1])[[0, 2]].max() > 1e-4
    np.testing.assert_allclose(predictions[0][1], predictions[1][1], atol=1e-5)
    reconstruction = model.reconstruct(images[:2], seed=0)["reconstruction"]
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.reconstruct(images[:2], seed=0)["reconstruction"], reconstruction)
    generating = small_model(decoder=decoders.CrossSelf())  # there is no other image: blocks look at their own
    assert generating.generate(num_images=2, num_steps=2, seed=0).shape == (2, 8, 8, 1)
    with pytest.raises(ValueError, match=r"need decoder=decoders.CrossSelf\(\). Received: Decoder, .*\['clean'\]"):
        small_model(**masked(view=model.corruption.views[0]))


# Several depths


def scales(**weights):
    """Two predictions, and the decoder that makes the first of block 1 and the second of block 2."""
    terms = [
        Reconstruction("clean", Cells(Pixels(), name, unit), weight=weights.get(name, 1.0))
        for name, unit in (("fine", 1), ("coarse", 2))
    ]
    return {
        **masked(num_layers=2, decoder=decoders.LocalScale({"fine": 1, "coarse": -1}, {"coarse": 2})),
        "objective": Objective(terms),
    }


@pytest.mark.host
def test_one_scale_behind_the_last_block_is_the_usual_decoder(small_model, images):
    objective = lambda: Objective([Reconstruction("clean", Pixels())])  # noqa: E731
    plain = trained_like(small_model(**masked()))
    kind = decoders.LocalScale({"pixels": -1})
    model = trained_like(small_model(**{**masked(decoder=kind), "objective": objective()}))
    renamed = [("decoder/of_pixels", "decoder")]
    assert copy_weights(plain.network_weights, model.network_weights, renamed) == []
    x, y = plain.make_views(images[:3], seed=0)
    np.testing.assert_array_equal(array(model(x)["clean"]["pixels"]), array(plain(x)["clean"]["pixels"]))
    results = [m.reconstruct(images[:2], seed=0)["reconstruction"] for m in (model, plain)]
    np.testing.assert_array_equal(*results)


@pytest.mark.host
def test_a_loss_at_a_block_trains_none_behind_it(small_model, images, tmp_path):
    model = small_model(**scales(coarse=0.0))
    model.compile("sgd", **QUICK)
    before = {variable.path: array(variable) for variable in model.encoder.weights}
    history = model.fit(images[:8], batch_size=8, verbose=0).history
    assert set(history) == {"loss", "clean_fine_loss", "clean_coarse_loss"}
    moved = {v.path for v in model.encoder.weights if np.abs(array(v) - before[v.path]).max() > 0}
    names = {path.split("/")[1] for path in moved if "/block" in path}
    assert names == {"block_0"} and any("patch_embedding" in path for path in moved), moved
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert repr(loaded.decoder_kind) == repr(model.decoder_kind)
    x, _ = model.make_views(images[:3], seed=0)
    for name in ("fine", "coarse"):
        np.testing.assert_allclose(array(loaded(x)["clean"][name]), array(model(x)["clean"][name]), atol=1e-6)


def test_patches_of_a_cell_predict_as_one_and_count_by_their_masked_share(small_model, images):
    model = trained_like(small_model(**scales()))
    x, y = model.make_views(images[:3], seed=0)
    outputs, view = model(x), x["views"]["clean"]
    hidden = array(view["masked"])
    cell_of = (hidden // 4 // 2) * 2 + hidden % 4 // 2  # of 2 x 2 patches in a grid of 4 x 4
    predictions = array(outputs["clean"]["coarse"])
    for row in range(3):
        for cell in set(cell_of[row]):
            of_cell = predictions[row][cell_of[row] == cell]
            np.testing.assert_allclose(of_cell, np.broadcast_to(of_cell[:1], of_cell.shape), atol=1e-6)
    x0 = array(view["images"]).reshape(3, 2, 4, 2, 4).transpose(0, 1, 3, 2, 4).reshape(3, 4, 16)
    values = (x0 - x0.mean(-1, keepdims=True)) / np.sqrt(x0.var(-1, keepdims=True) + 1e-6)
    expected = []
    for row in range(3):
        shares = np.bincount(cell_of[row], minlength=4) / 4
        errors = [
            ((predictions[row][cell_of[row] == cell][0] - values[row, cell]) ** 2).mean() if shares[cell] else 0.0
            for cell in range(4)
        ]
        expected.append(np.sum(shares * errors) / shares.sum())
    losses = array(model.objective.image_losses(outputs, y)["clean_coarse_loss"])
    np.testing.assert_allclose(losses, expected, rtol=1e-4)


@pytest.mark.host
def test_models_that_leave_layers_out_train_on_data_on_the_device(small_model, images):
    """Keras would run a model with layers that aren't built on the indices of a batch."""
    in_place = View("clean", mask=masks.InPlace(masks.Random(0.5)))
    linear = {"corruption": Corruption(views=[in_place]), "decoder": decoders.Linear()}
    for settings in (scales(), linear):
        model = small_model(**settings)
        model.compile("sgd")
        batches = data.on_device(images, batch_size=8, flip=False)
        assert np.isfinite(model.fit(batches, epochs=1, verbose=0).history["loss"]).all()


@pytest.mark.host
@pytest.mark.parametrize("decoder", [decoders.Regressor(1), decoders.LocalScale({"pixels": -1})])
def test_what_predicts_nothing_of_noisy_images_is_fine_tuned_with_another_decoder(small_model, decoder):
    pretrained = small_model(**masked(decoder=decoder))
    with pytest.raises(ValueError, match=r"predicts nothing of noisy images.*start_from.* Received: decoder="):
        pretrained.with_classes(3)
    conditional = small_model(corruption=Corruption.dit(), num_classes=3)
    assert any("encoder" in path for path in weights.start_from(conditional, pretrained))
    assert conditional.generate([0, 2], num_steps=2, seed=0).shape == (2, 8, 8, 1)


@pytest.mark.host
def test_scales_are_checked_with_the_model(small_model):
    with pytest.raises(ValueError, match=r"`taps` must be blocks of the encoder.*taps=\{'pixels': 2\}"):
        small_model(**masked(decoder=decoders.LocalScale({"pixels": 2})))
    with pytest.raises(ValueError, match=r"name all that the objective predicts.*for \['pixels'\]"):
        small_model(**masked(decoder=decoders.LocalScale({"hog": -1})))
    with pytest.raises(ValueError, match=r"must name all that the objective predicts. Received: \['x0'\]"):
        terms = [Reconstruction("clean", X0()), Reconstruction("clean", Pixels())]
        small_model(**{**masked(decoder=decoders.LocalScale({"pixels": -1})), "objective": Objective(terms)})
    with pytest.raises(ValueError, match="`units` must be divisors"):
        small_model(**masked(decoder=decoders.LocalScale({"pixels": -1}, {"pixels": 3})))
    with pytest.raises(ValueError, match="`units` must be of predictions in `taps`"):
        decoders.LocalScale({"pixels": -1}, {"hog": 2})
    with pytest.raises(ValueError, match="`unit` must have a number for each space axis"):
        Cells(X0(), "cells", 2)({"x0": ops.zeros((1, 4, 4, 4, 1))}, 2)
