"""Diffusion transformers of other codebases predict and generate what their formulas give, and go on training."""

import keras
import numpy as np
import pytest

from keras_umd import samplers
from keras_umd.weights import from_dit, from_jit, from_maskdit, from_sit
from tests.conftest import QUICK, array, assert_close
from tests.weights import dit_oracle as oracle

pytestmark = pytest.mark.usefixtures("op_by_op")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 4, 4, 4)).astype("float32")
TIMESTEPS, LABELS = np.array([1, 60, 500]), np.array([0, 2, 3])  # the last has no label
SIGMAS = 0.002 * 40_000 ** ((TIMESTEPS - 1) / 999)
KINDS = {
    "dit": (from_dit, "dit", {"num_heads": 2}),
    "sit": (from_sit, "dit", {"num_heads": 2}),
    "maskdit": (from_maskdit, "maskdit", {"num_heads": 2, "decoder_heads": 4}),
    "jit": (from_jit, "jit", {"value_range": None}),
}


def loaded(kind, **settings):
    convert, name, own = KINDS[kind]
    return convert(oracle.file(name), **{**own, **settings})


def predictions(model, x=X, timesteps=TIMESTEPS, labels=LABELS):
    tensors = [keras.ops.convert_to_tensor(value) for value in (x, timesteps, labels)]
    return {name: array(value) for name, value in model.estimate(*tensors).items()}


def predicted(kind, x=X, timesteps=TIMESTEPS, labels=LABELS):
    """What the oracle predicts at timesteps of the library: a velocity, the noise for DiT, x_0 for JiT."""
    if kind == "dit":
        return oracle.dit(oracle.file("dit"), x, timesteps - 1, labels)
    if kind == "maskdit":
        c_noise = np.log(0.002 * 40_000 ** ((timesteps - 1) / 999)) / 4
        return -oracle.maskdit(oracle.file("maskdit"), x, c_noise, labels)
    if kind == "jit":
        return oracle.jit(oracle.file("jit"), x, 1 - timesteps / 1000, labels)
    return -oracle.dit(oracle.file("dit"), x, 1 - timesteps / 1000, labels)


# The same numbers


def test_a_dit_of_diffusers_predicts_what_diffusers_recorded(golden):
    recorded = golden("dit")
    weights = {name.removeprefix("weights/"): x for name, x in recorded.items() if name.startswith("weights/")}
    model = from_dit(weights, variance="keep", num_heads=2, image_size=4)
    actual = predictions(model, recorded["x"], recorded["timesteps"] + 1, recorded["labels"])
    eps, variance = np.split(recorded["outputs"], 2, axis=-1)
    assert np.abs(eps).max() > 0.1
    assert_close(actual["eps"], eps, 1e-5)
    assert_close(actual["variance"], variance, 1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_predictions_equal_the_papers_formulas(kind):
    (actual,) = predictions(loaded(kind)).values()
    expected = predicted(kind)
    assert np.abs(expected).max() > 0.5
    assert_close(actual, expected, 1e-5)


@pytest.mark.host
@pytest.mark.parametrize("settings", [{}, {"decoder_layers": 2}, {"method": "umd"}], ids=["dit", "split", "umd"])
@pytest.mark.parametrize("variance", ["keep", "drop"])
def test_a_dit_may_be_cut_anywhere_and_go_on_as_umd(settings, variance):
    arrays = oracle.file("dit", outputs=8)
    actual = predictions(from_dit(arrays, num_heads=2, variance=variance, **settings))
    expected = oracle.dit(arrays, X, TIMESTEPS - 1, LABELS)
    assert_close(actual["eps"], expected[..., :4], 1e-5)
    assert ("variance" in actual) == (variance == "keep")
    if variance == "keep":
        assert_close(actual["variance"], expected[..., 4:], 1e-5)
    assert not np.any(actual.get("x0", 0))


@pytest.mark.host
def test_masked_patches_of_a_maskdit_get_its_mask_tokens():
    model = loaded("maskdit")
    visible, masked = np.array([[3, 0], [1, 2], [0, 1]]), np.array([[1, 2], [0, 3], [2, 3]])
    view = {"images": X, "timesteps": TIMESTEPS, "labels": LABELS, "visible": visible, "masked": masked}
    view = {name: keras.ops.convert_to_tensor(value) for name, value in view.items()}
    patches = array(model.predict_view(view, {"v": "all"})["v"])  # (n, patches, values), visible ones first
    expected = -oracle.maskdit(oracle.file("maskdit"), X, np.log(SIGMAS) / 4, LABELS, visible, masked)
    expected = expected.reshape(3, 2, 2, 2, 2, 4).transpose(0, 1, 3, 2, 4, 5).reshape(3, 4, 16)
    order = np.concatenate([visible, masked], axis=1)
    assert_close(patches, np.take_along_axis(expected, order[..., None], axis=1), 1e-5)


@pytest.mark.host
def test_the_noise_of_a_jit_may_have_another_scale():
    (actual,) = predictions(loaded("jit", noise_scale=2.0), X / 2).values()
    assert_close(2 * actual, predicted("jit"), 1e-5)
    assert from_jit(oracle.file("jit"), noise_scale=2.0).value_range == (-0.5, 0.5)


# Samples, with the tables of conditions that a sampler computes before its loop


@pytest.mark.host
@pytest.mark.parametrize("kind", KINDS)
def test_samples_are_those_of_a_plain_loop(kind):
    model, labels, scale = loaded(kind), np.array([0, 2, 1]), 1.5
    times = np.array([900.0, 500.0, 100.0])
    levels = model.corruption.noise_schedule.levels(np.append(times, 0))
    x = X.astype("float64")
    for i, time in enumerate(times):
        signal, sigma = levels["signal"][i], levels["sigma"][i]
        at = np.full(3, time)
        guided = [predicted(kind, x, at, y) for y in (labels, np.full(3, 3))]
        output = guided[1] + scale * (guided[0] - guided[1])
        if kind == "dit":
            x0, eps = (x - sigma * output) / signal, output
        elif kind == "jit":
            x0, eps = output, (x - signal * output) / sigma
        else:
            slopes = levels["signal_slope"][i], levels["sigma_slope"][i]
            x0, eps = np.linalg.solve([[signal, sigma], slopes], np.stack([x.ravel(), output.ravel()])).reshape(
                2, *x.shape
            )
        x = levels["signal"][i + 1] * x0 + levels["sigma"][i + 1] * eps
    noise = X / levels["sigma"][0]  # the sampler scales it
    samples = model.generate(labels, sampler=samplers.Euler(times), guidance=scale, initial_noise=noise)
    assert_close(samples, x, 1e-4)


# Going on


@pytest.mark.host
def test_a_dit_goes_on_as_umd_with_its_clean_part_at_the_start():
    """The first loss of clean images is the mean square of their masked patches; then every weight learns."""
    model = from_dit(oracle.file("dit"), num_heads=2, method="umd")
    latents = RNG.normal(size=(8, 4, 4, 4)).astype("float32")
    x, targets = model.make_views(latents)
    outputs = model({"views": x["views"], "batch": x["batch"]})
    losses = model.objective.image_losses(outputs, targets)
    clean = next(name for name in losses if name.startswith("clean"))
    expected = np.mean(np.square(array(targets[clean])), axis=(1, 2))
    np.testing.assert_allclose(array(losses[clean]), expected, rtol=1e-5)
    before = [array(variable) for variable in model.trainable_variables]
    model.compile("sgd", **QUICK)
    model.fit(latents, np.arange(8) % 3, batch_size=8, epochs=2, verbose=0)
    still = [v.path for v, old in zip(model.trainable_variables, before, strict=True) if np.all(array(v) == old)]
    assert not [path for path in still if "key/bias" not in path]
    fixed = [v.path for v in model.network_weights if not v.trainable]
    assert len(fixed) == 2 and all(path.endswith("positions") for path in fixed)


@pytest.mark.host
@pytest.mark.parametrize("kind", ["sit", "maskdit", "jit"])
def test_the_others_go_on_training_as_they_did(kind):
    model = loaded(kind)
    before = [array(variable) for variable in model.trainable_variables]
    model.compile("sgd", **QUICK)
    history = model.fit(RNG.normal(size=(8, 4, 4, 4)).astype("float32"), np.arange(8) % 3, batch_size=8, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    still = [v.path for v, old in zip(model.trainable_variables, before, strict=True) if np.all(array(v) == old)]
    assert not [path for path in still if "key/bias" not in path]


@pytest.mark.host
@pytest.mark.parametrize("kind", KINDS)
def test_every_weight_is_the_files(kind):
    """Two files of the same sizes give two models that agree in no weight: nothing is left at its random start."""
    convert, name, own = KINDS[kind]
    first, second = (convert(oracle.file(name, seed=seed), **own) for seed in (0, 1))
    again = convert(oracle.file(name), **own)
    for one, other, same in zip(first.network_weights, second.network_weights, again.network_weights, strict=True):
        if "mask_token" in one.path and kind != "maskdit":
            continue  # nothing is masked
        if not one.path.endswith("beta"):
            assert np.abs(array(one) - array(other)).max() > 0, one.path
        np.testing.assert_array_equal(array(one), array(same), err_msg=one.path)


@pytest.mark.host
@pytest.mark.parametrize("kind", ["maskdit", "jit"])
def test_files_presets_and_extractors_have_the_same_numbers(kind, tmp_path):
    model = loaded(kind)
    expected = predictions(model)
    model.save(tmp_path / "model.keras")
    model.save_to_preset(tmp_path / "preset")
    for again in (keras.models.load_model(tmp_path / "model.keras"), type(model).from_preset(tmp_path / "preset")):
        for name, value in predictions(again).items():
            np.testing.assert_array_equal(value, expected[name])
    np.testing.assert_allclose(array(model.feature_extractor()(X)), array(model.encode(X)), atol=1e-5)


@pytest.mark.backends("jax")  # only JAX has the scan
@pytest.mark.parametrize("kind", ["maskdit", "jit"])
def test_scanned_blocks_predict_the_same(kind):
    (actual,) = predictions(loaded(kind, scan_blocks=True)).values()
    assert_close(actual, predicted(kind), 1e-5)


# Files


@pytest.mark.host
def test_a_checkpoints_moving_averages_are_taken_from_any_kind_of_file(tmp_path, capsys):
    network = oracle.file("dit")
    checkpoint = {f"ema.{name}": value for name, value in network.items()}
    checkpoint |= {f"model.{name}": value + 1 for name, value in network.items()}
    np.savez(tmp_path / "checkpoint.npz", **checkpoint, step=np.array(7))
    model = from_dit(tmp_path / "checkpoint.npz", num_heads=2)
    assert "CC BY-NC" in capsys.readouterr().out
    assert_close(predictions(model)["eps"], oracle.dit(network, X, TIMESTEPS - 1, LABELS), 1e-5)
    import torch  # this test runs beside it

    torch.save({"ema": {name: torch.from_numpy(value) for name, value in network.items()}}, tmp_path / "checkpoint.pt")
    again = from_dit(tmp_path / "checkpoint.pt", num_heads=2)
    np.testing.assert_array_equal(predictions(again)["eps"], predictions(model)["eps"])
    capsys.readouterr()
    jit = {f"model_ema1.net.{name}": value for name, value in oracle.file("jit").items()}
    assert_close(predictions(from_jit(jit, value_range=None))["x0"], predicted("jit"), 1e-5)
    assert "unknown" in capsys.readouterr().out


@pytest.mark.host
def test_entries_that_do_not_fit_are_all_named():
    arrays = oracle.file("dit")
    del arrays["blocks.1.mlp.fc1.bias"], arrays["pos_embed"]
    arrays["blocks.0.attn.q_norm.weight"] = np.ones(16)
    arrays["blocks.2.attn.proj.weight"] = np.ones((32, 31))
    arrays["t_embedder.mlp.0.bias"][3] = np.nan
    with pytest.raises(ValueError) as error:
        from_dit(arrays, num_heads=2, image_size=4)
    for problem in (
        "missing: blocks.1.mlp.fc1.bias",
        "missing: pos_embed",
        "unknown: blocks.0.attn.q_norm.weight",
        "shape of blocks.2.attn.proj.weight: (32, 31) instead of (32, 32)",
        "no finite numbers: t_embedder.mlp.0.bias",
    ):
        assert problem in str(error.value)


@pytest.mark.host
def test_what_no_setting_gives_is_refused_with_its_reason():
    dit, jit = oracle.file("dit"), oracle.file("jit")
    angles = {"feat_rope.freqs_cos": np.zeros((4, 16), "float32")}
    others = {**oracle.file("dit", outputs=4), "final_layer.linear.weight": np.ones((20, 32), "float32")}
    refused = {
        "num_heads": lambda: from_dit(dit),
        "num_heads.*divisor": lambda: from_dit(dit, num_heads=5),
        "variance": lambda: from_dit(dit, num_heads=2, variance="keep"),
        "decoder_layers": lambda: from_dit(dit, num_heads=2, decoder_layers=3),
        "The file decides all settings.*hidden_dim": lambda: from_sit(dit, num_heads=2, hidden_dim=8),
        "size of 4": lambda: from_dit(dit, num_heads=2, image_size=8),
        "freqs_cos.*theta": lambda: from_jit({**jit, **angles}),
        "missing: x_embedder.proj1.weight": lambda: from_jit(dit),
        "blocks of a transformer": lambda: from_dit({"kernel": np.ones(3)}),
        "as many channels": lambda: from_dit(others, num_heads=2),
    }
    for reason, call in refused.items():
        with pytest.raises(ValueError, match=f"(?s){reason}"):
            call()


@pytest.mark.host
def test_rotations_that_a_file_holds_are_ours(capsys):
    """The angle of each number of a head: rows, then columns, each twice, as neighbours turn together."""
    rows, columns = np.divmod(np.arange(4), 2)
    frequencies = 10_000.0 ** (-np.arange(4) / 4)
    angles = np.repeat(np.concatenate([rows[:, None] * frequencies, columns[:, None] * frequencies], axis=1), 2, axis=1)
    tables = {"feat_rope.freqs_cos": np.cos(angles), "feat_rope.freqs_sin": np.sin(angles)}
    tables["feat_rope_incontext.freqs_cos"] = np.concatenate([np.ones((3, 16)), np.cos(angles)])
    assert from_jit({**oracle.file("jit"), **tables}).count_params() == from_jit(oracle.file("jit")).count_params()
