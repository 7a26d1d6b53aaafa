"""DiffMAE: the encoder sees clean visible patches, the decoder masked ones through noise."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_umd import UMD, Corruption, View, decoders
from keras_umd.corruption import levels, masks, noise, schedules, weightings
from keras_umd.corruption.view import network_inputs
from keras_umd.methods import diffmae
from keras_umd.objectives import Objective, Reconstruction, VariationalBound
from keras_umd.objectives.targets import Eps
from tests.conftest import QUICK, array, trained_like

RNG = np.random.default_rng(0)
X = RNG.uniform(-1, 1, (4, 8, 8, 1)).astype("float32")
KINDS = {"joint": None, "cross": decoders.Cross(), "cross and self": decoders.CrossSelf()}


class Nothing(schedules.Cosine):
    """A schedule without signal at any timestep."""

    def signal_and_sigma(self, timesteps, rank=4):
        ones = ops.ones((ops.shape(timesteps)[0], *(1,) * (rank - 1)))
        return 0 * ones, ones


def view_of(kind=noise.OfMasked, ratio=0.75, **settings):
    return View("noisy", noise=kind(**settings), mask=masks.Random(ratio))


def settings(decoder=None, **corruption):
    corruption = Corruption(views=[view_of()], noisy_losses=["x0"], **corruption)
    return {"corruption": corruption, "decoder": decoder, "conditioning": "token"}


def patches_of(images, chosen):
    """Patches of 2 x 2 of `(n, 8, 8, 1)`, of these indices: `(n, k, 4)`."""
    patches = images.reshape(-1, 4, 2, 4, 2).transpose(0, 1, 3, 2, 4).reshape(-1, 16, 4)
    return np.take_along_axis(patches, chosen[:, :, None], axis=1)


def zero_embedding(model):
    for variable in model.decoder.noise_embedding.weights:
        variable.assign(np.zeros(variable.shape))


def copy_to(model, source):
    """Give a model the weights that another has, by path; the paths that the other lacks."""
    values = {variable.path: array(variable) for variable in source.network_weights}
    for variable in model.network_weights:
        if variable.path in values:
            variable.assign(values[variable.path])
    return [variable.path for variable in model.network_weights if variable.path not in values]


# What is seen


def test_the_encoder_sees_the_clean_image_and_the_decoder_the_noisy_one():
    own, other = Corruption(views=[view_of()]), Corruption(views=[view_of(noise.Gaussian)])
    draws = own.draw(X.shape, 2, seed=3)
    for name, drawn in other.draw(X.shape, 2, seed=3).items():
        np.testing.assert_array_equal(array(draws[name]), array(drawn))
    view = own.corrupt(ops.convert_to_tensor(X), draws, 2, labels=np.arange(4))["noisy"]
    np.testing.assert_array_equal(array(view["images"]), X)
    assert not array(view["timesteps"]).any()
    np.testing.assert_array_equal(array(view["noisy_timesteps"]), array(draws["timesteps"]))
    factors = own.noise_schedule.levels(array(draws["timesteps"]))
    signal, sigma = (factors[name].reshape(-1, 1, 1, 1) for name in ("signal", "sigma"))
    np.testing.assert_allclose(array(view["noisy_images"]), signal * X + sigma * array(draws["noise"]), atol=1e-6)
    usual = other.corrupt(ops.convert_to_tensor(X), draws, 2, labels=np.arange(4))["noisy"]
    for name in set(usual) - {"images", "timesteps", "level"}:
        np.testing.assert_array_equal(array(view[name]), array(usual[name]))
    assert set(view) - set(usual) == {"noisy_images", "noisy_timesteps"}


@pytest.mark.host
@pytest.mark.parametrize("kind", KINDS)
def test_a_masked_place_has_the_mask_token_plus_the_embedding_of_its_noisy_patch(kind, small_model, monkeypatch):
    model = trained_like(small_model(**settings(KINDS[kind]), decoder_hidden_dim=8))
    x, _ = model.make_views(X, seed=0)
    view, inputs = x["views"]["noisy"], []
    stack = type(model.decoder.blocks)
    usual = stack.call

    def call(self, tokens, *args, **options):
        if self is model.decoder.blocks:
            inputs.append(array(tokens))
        return usual(self, tokens, *args, **options)

    monkeypatch.setattr(stack, "call", call)
    model.predict_view(view, {"x0": "masked"})
    decoder, masked = model.decoder, array(view["masked"])
    kernel, bias = (array(variable) for variable in decoder.noise_embedding.projection.weights)
    assert kernel.shape == (4, 8)
    embedded = patches_of(array(view["noisy_images"]), masked) @ kernel + bias
    expected = array(decoder.mask_token) + embedded + array(decoder.position_embedding.positions)[masked]
    np.testing.assert_allclose(inputs[0][:, -12:], expected, atol=1e-5)


@pytest.mark.host
@pytest.mark.parametrize("conditioning", ["adaln_zero", "token"])
def test_the_decoder_alone_is_told_of_noise_and_label(conditioning, small_model):
    model = trained_like(small_model(**{**settings(), "conditioning": conditioning}, num_classes=3))
    x, _ = model.make_views(X, np.array([0, 1, 2, 0]), seed=0)
    view = x["views"]["noisy"]
    outputs = model.predict_view(view)
    later = {"noisy_timesteps": view["noisy_timesteps"] // 2, "labels": (view["labels"] + 1) % 3}
    for name, value in {**later, "noisy_images": ops.flip(view["noisy_images"], axis=1)}.items():
        changed = model.predict_view({**view, name: value})
        np.testing.assert_array_equal(array(changed["tokens"]), array(outputs["tokens"]))
        assert np.abs(array(changed["x0"]) - array(outputs["x0"])).max() > 1e-4, name
    clean = {"images": view["images"], "visible": view["visible"], "timesteps": np.zeros(1, "int32")}
    np.testing.assert_allclose(array(model.predict_view(clean, {})["tokens"]), array(outputs["tokens"]), atol=1e-6)


# Its limit


@pytest.mark.host
@pytest.mark.parametrize(
    ("kind", "conditioning"),
    [("joint", "adaln_zero"), ("cross", "token"), ("cross and self", "token"), ("joint", None)],
)
def test_without_signal_and_embedding_it_is_the_masked_autoencoder(kind, conditioning, small_model):
    schedule = Nothing()
    own = {**settings(KINDS[kind], schedule=schedule), "conditioning": conditioning}
    model = trained_like(small_model(**own))
    mae = Corruption(schedule=schedule, views=[View("noisy", mask=masks.Random(0.75))])
    plain = small_model(**{**own, "corruption": mae})
    assert copy_to(plain, model) == []
    assert {path.split("/")[1] for path in copy_to(model, plain)} == {"noise_embedding"}
    zero_embedding(model)
    draws = model.corruption.draw(X.shape, 2, seed=0)
    draws["timesteps"] = ops.zeros_like(draws["timesteps"])
    (x, y), (other, target) = (m.make_views(X, draws=draws) for m in (model, plain))
    np.testing.assert_array_equal(array(x["views"]["noisy"]["noisy_images"]), array(draws["noise"]))
    expected, actual = plain(other), model(x)
    np.testing.assert_allclose(array(actual["noisy"]["x0"]), array(expected["noisy"]["x0"]), atol=1e-6)
    losses = [m.objective.image_losses(*pair) for m, pair in ((plain, (expected, target)), (model, (actual, y)))]
    np.testing.assert_allclose(*(array(loss["noisy_x0_loss"]) for loss in losses), rtol=1e-6)
    results = [m.reconstruct(X, seed=0)["mask"] for m in (plain, model)]
    np.testing.assert_array_equal(*results)


@pytest.mark.host
def test_without_signal_nothing_of_masked_patches_is_seen(small_model):
    predictions = []
    for schedule in (Nothing(), "cosine"):
        model = trained_like(small_model(**settings(schedule=schedule)))
        draws = model.corruption.draw(X.shape, 2, seed=0)
        masked = array(model.make_views(X, draws=draws)[0]["views"]["noisy"]["masked"])
        hidden = np.zeros((4, 16), "float32")
        np.put_along_axis(hidden, masked, 1, axis=1)
        hidden = hidden.reshape(4, 4, 1, 4, 1).repeat(2, axis=2).repeat(2, axis=4).reshape(4, 8, 8, 1)
        pair = [model.make_views(images, draws=draws)[0] for images in (X, np.where(hidden, 0.9, X))]
        predictions.append([array(model(x)["noisy"]["x0"]) for x in pair])
    np.testing.assert_array_equal(*predictions[0])
    assert np.abs(predictions[1][0] - predictions[1][1]).max() > 1e-3


# What is learned


@pytest.mark.host
def test_every_loss_is_of_masked_patches_and_can_be_weighed_by_level(small_model):
    view = view_of(levels=levels.LogitNormal())
    corruption = Corruption(views=[view], noisy_losses=["x0", "eps", "v"], weighting=weightings.V(max_weight=9))
    objective = Objective.denoising(corruption)
    assert objective.reads("noisy") == dict.fromkeys(("x0", "eps", "v"), "masked")
    draws = corruption.draw(X.shape, 2, seed=0)
    views = corruption.corrupt(ops.convert_to_tensor(X), draws, 2)
    target = objective.targets(views, 2)["noisy_eps_loss"]
    masked = array(views["noisy"]["masked"])
    np.testing.assert_allclose(array(target["values"]), patches_of(array(draws["noise"]), masked), atol=1e-6)
    factors = corruption.noise_schedule.levels(array(draws["timesteps"]))
    snr = np.square(factors["signal"] / factors["sigma"])
    weights = array(objective.targets(views, 2)["noisy_x0_loss"]["weights"])[:, 0]
    np.testing.assert_allclose(weights / weights[0], np.minimum(1 + snr, 9) / np.minimum(1 + snr, 9)[0], rtol=1e-4)


def test_training_lowers_the_loss_and_teaches_the_embedding(small_model):
    model = small_model(**settings(decoders.CrossSelf()))
    model.compile(keras.optimizers.Adam(2e-2), **QUICK)
    before = array(model.decoder.noise_embedding.projection.kernel)
    tile = np.tile(RNG.uniform(-1, 1, (1, 2, 2, 1)), (8, 4, 4, 1)).astype("float32")
    losses = model.fit(tile, batch_size=8, epochs=6, verbose=0).history["noisy_x0_loss"]
    assert losses[-1] < 0.7 * losses[0]
    assert np.abs(array(model.decoder.noise_embedding.projection.kernel) - before).min() > 1e-4


@pytest.mark.host
@pytest.mark.parametrize(
    "own",
    [
        {"scan_blocks": True, "remat": True, "num_layers": 2, "decoder_layers": 2},
        {"dtype": "mixed_bfloat16", "decoder_hidden_dim": 8, "decoder": decoders.Cross(taps="all")},
        {"image_shape": (16, 2), "patch_size": (4,), "decoder": decoders.CrossSelf()},
    ],
)
def test_other_ways_to_run_it(own, small_model):
    model = small_model(**{**settings(), **own})
    model.compile("sgd")
    images = RNG.uniform(-1, 1, (4, *model.image_shape)).astype("float32")
    assert np.isfinite(model.fit(images, batch_size=2, verbose=0).history["loss"]).all()


@pytest.mark.host
def test_a_view_beside_it_keeps_its_own_noise(small_model):
    shares = {"mask": masks.Random(0.75), "share": 0.5}
    views = [View("shown", noise=noise.OfMasked(), **shares), View("seen", noise=noise.Gaussian(), **shares)]
    model = trained_like(small_model(corruption=Corruption(views=views)))
    assert model.corruption.clean_ratio == 0.5
    x, _ = model.make_views(X, seed=0)
    assert "noisy_images" in x["views"]["shown"] and "noisy_images" not in x["views"]["seen"]
    outputs = model(x)
    assert set(outputs) == {"shown", "seen"} and outputs["shown"]["x0"].shape == (2, 12, 4)
    assert model.generate(num_images=1, num_steps=2, seed=0).shape == (1, 8, 8, 1)  # by the view that is seen


# What is done with it


@pytest.mark.host
def test_the_method_fills_in_from_noise_alone_and_is_saved(small_model, images, tmp_path):
    method = diffmae()
    assert repr(method["corruption"].views[0].noise) == "OfMasked(levels=Uniform())"
    model = trained_like(small_model(**method))
    first, again = (model.reconstruct(images[:2], seed=0) for _ in range(2))
    np.testing.assert_array_equal(first["reconstruction"], again["reconstruction"])
    visible = np.broadcast_to(~first["mask"], images[:2].shape)
    np.testing.assert_array_equal(first["reconstruction"][visible], images[:2][visible])
    hidden = np.where(first["mask"], 255 - images[:2], images[:2])  # other masked patches, of which nothing is seen
    np.testing.assert_array_equal(
        model.reconstruct(hidden, seed=0)["reconstruction"][~visible], first["reconstruction"][~visible]
    )
    zero_embedding(model)
    assert np.any(model.reconstruct(images[:2], seed=0)["reconstruction"] != first["reconstruction"])
    missing = np.zeros((2, 8, 8, 1), bool)
    missing[0, :2] = True
    np.testing.assert_array_equal(model.impute(images[:2], missing, seed=0)[1], images[1])
    assert model.anomaly_map(images[:2], seed=0).shape == (2, 8, 8)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert repr(loaded.corruption) == repr(model.corruption)
    results = [m.reconstruct(images[:2], seed=0)["reconstruction"] for m in (loaded, model)]
    np.testing.assert_array_equal(*results)
    np.testing.assert_array_equal(array(loaded.encode(images[:2])), array(model.encode(images[:2])))


@pytest.mark.host
def test_it_is_fine_tuned_to_generate(small_model, images):
    model = trained_like(small_model(**diffmae()))
    with pytest.raises(ValueError, match="can't generate; fine-tune a copy"):
        model.generate(num_images=1)
    with pytest.raises(ValueError, match="can't generate"):
        model.inpaint(images[:1], np.ones((1, 8, 8, 1), bool))
    with pytest.raises(ValueError, match="learned nothing of noise"):
        model.anomaly_map(images[:2], timestep=10)
    with pytest.warns(UserWarning, match="no place for these weights: .*noise_embedding"):
        tuned = model.with_classes(3)
    (view,) = tuned.corruption.views
    assert repr(view.noise) == "Gaussian(levels=Uniform())" and view.mask is None
    assert tuned.decoder.noise_embedding is None
    assert tuned.generate([0, 1], num_steps=2, seed=0).shape == (2, 8, 8, 1)


@pytest.mark.host
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: View("noisy", noise=noise.OfMasked()), "needs a `mask` that masks some"),
        (lambda: view_of(ratio=0.0), "needs a `mask` that masks some"),
        (lambda: view_of(levels=levels.Adaptive()), "levels.Adaptive learns from visible patches"),
        (lambda: Corruption(views=[view_of()], noisy_losses=["x0"], noisy_patches="all"), "must be None where the dec"),
        (lambda: UMD(**settings(decoders.Linear())), r"need decoder=None.*decoder=Linear\(\), and the views \['no"),
        (lambda: UMD(**settings(decoders.Regressor(1))), "decoders.CrossSelf"),
        (
            lambda: Objective(
                [Reconstruction("noisy", Eps(), "masked"), VariationalBound("noisy", levels.Adaptive())]
            ).check_views(Corruption(views=[view_of()])),
            "must be those of the noisy view",
        ),
    ],
)
def test_what_it_refuses(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.host
def test_a_decoder_without_the_embedding_says_so(small_model):
    model = small_model(corruption=Corruption.mae(), conditioning="token")
    draws = model.corruption.draw(X.shape, 2, seed=0)
    view = network_inputs(settings()["corruption"].corrupt(ops.convert_to_tensor(X), draws, 2)["noisy"])
    with pytest.raises(ValueError, match="gets `noisy_images` with has_noise_embedding=True"):
        model.predict_view(view)
