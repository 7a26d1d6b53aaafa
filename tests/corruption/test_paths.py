"""Continuous paths, laws of noise levels and weightings, against formulas in NumPy."""

import math

import keras
import numpy as np
import pytest
from keras import ops

from keras_umd import Corruption, Objective
from keras_umd.backend import compile_function
from keras_umd.corruption import levels, schedules, weightings
from keras_umd.objectives import Reconstruction
from keras_umd.objectives.reconstruction import weight_of_error
from keras_umd.objectives.targets import X0, Eps, Velocity
from tests.conftest import array

PATHS = {
    "vp": schedules.Cosine(),
    "flow": schedules.RectifiedFlow(),
    "trigonometric": schedules.Trigonometric(),
    "edm": schedules.EDM(),
}
EXACT = {"rtol": 1e-6, "atol": 1e-6}
L = np.linspace(-8, 8, 33)  # log-SNRs


def level_at(schedule, log_snr):
    """The level at log-SNRs in float64, as tensors would have it."""
    level = schedule.levels(schedule.timesteps_at(log_snr))
    signal_slope, sigma_slope = schedule.slopes(level["signal"], level["sigma"])
    level.update(signal_slope=signal_slope, sigma_slope=sigma_slope)
    return {name: np.asarray(value, "float64") for name, value in level.items()}


@pytest.mark.host
def test_paths_are_their_formulas():
    tau = np.array([1e-3, 0.1, 0.5, 0.9, 1.0])
    flow, circle, edm = (PATHS[name].levels(1000 * tau) for name in ("flow", "trigonometric", "edm"))
    np.testing.assert_allclose([flow["signal"], flow["sigma"]], [1 - tau, tau], **EXACT)
    angle = np.pi / 2 * tau
    np.testing.assert_allclose([circle["signal"], circle["sigma"]], [np.cos(angle), np.sin(angle)], **EXACT)
    noise = 0.002 * (80 / 0.002) ** ((1000 * tau - 1) / 999)
    scale = 1 / np.sqrt(0.25 + noise**2)
    np.testing.assert_allclose([edm["signal"], edm["sigma"]], [scale, noise * scale], **EXACT)
    np.testing.assert_allclose(0.25 * edm["signal"] ** 2 + edm["sigma"] ** 2, 1, **EXACT)  # the variance of the input
    assert flow["signal"][-1] == circle["signal"][-1] == 0


@pytest.mark.parametrize("name", PATHS)
def test_tensors_and_host_agree_and_the_log_snr_has_an_inverse(name):
    schedule = PATHS[name]
    timesteps = np.array([0, 1, 1.5, 30, 400.25, 990])
    expected = schedule.levels(timesteps)
    level = schedule.level(ops.convert_to_tensor(timesteps.astype("float32")), rank=2)
    for factor in ("signal", "sigma"):
        np.testing.assert_allclose(array(level[factor])[:, 0], expected[factor], rtol=2e-5, atol=1e-7)
    slopes = schedule.slopes(expected["signal"], expected["sigma"])
    np.testing.assert_allclose(array(level["signal_slope"])[:, 0], slopes[0], rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(array(level["sigma_slope"])[:, 0], slopes[1], rtol=2e-5, atol=1e-6)
    assert (expected["signal"][0], expected["sigma"][0]) == (1, 0)  # the clean image
    log_snr = schedule.log_snr(timesteps[1:])
    assert np.all(np.diff(log_snr) < 0)
    np.testing.assert_allclose(schedule.timesteps_at(log_snr), timesteps[1:], rtol=1e-6)
    tensor = ops.convert_to_tensor(log_snr.astype("float32"))
    np.testing.assert_allclose(array(schedule.to_timesteps(tensor)), timesteps[1:], rtol=1e-4)
    as_float32 = ops.convert_to_tensor(timesteps[1:].astype("float32"))
    np.testing.assert_allclose(array(schedule.to_log_snr(as_float32)), log_snr, rtol=1e-4, atol=1e-4)
    compiled = compile_function(lambda x: schedule.to_timesteps(x), [], jit_compile=True)  # as in a training step
    np.testing.assert_allclose(array(compiled([], tensor)), timesteps[1:], rtol=1e-4)
    beyond = array(schedule.to_timesteps(ops.convert_to_tensor(np.array([-1e9, 1e9], "float32"))))
    np.testing.assert_allclose(beyond, [1000, 1], rtol=1e-6)


@pytest.mark.host
def test_a_flow_is_the_variance_preserving_path_up_to_its_scale():
    tau = PATHS["flow"].timesteps_at(L) / 1000
    np.testing.assert_allclose(tau, 1 / (1 + np.exp(L / 2)), **EXACT)
    flow, vp = level_at(PATHS["flow"], L), level_at(PATHS["trigonometric"], L)
    scale = np.sqrt(tau**2 + (1 - tau) ** 2)
    np.testing.assert_allclose([flow["signal"], flow["sigma"]], [scale * vp["signal"], scale * vp["sigma"]], **EXACT)


@pytest.mark.host
def test_slopes_are_derivatives_of_the_factors():
    step = 1e-4
    for name, rate in (("flow", 1 / 1000), ("trigonometric", np.pi / 2000)):
        before, now, after = (PATHS[name].levels(300 + step * i) for i in (-1, 0, 1))
        slopes = PATHS[name].slopes(now["signal"], now["sigma"])
        for factor, slope in zip(("signal", "sigma"), slopes, strict=True):
            np.testing.assert_allclose((after[factor] - before[factor]) / (2 * step * rate), slope, rtol=1e-5)


@pytest.mark.host
def test_all_losses_are_errors_of_x0_times_weights_of_the_log_snr():
    e = np.exp(L)
    expected = {
        ("vp", weightings.X()): np.ones_like(L),
        ("flow", weightings.Eps()): e,
        ("trigonometric", weightings.V()): 1 + e,
        ("flow", weightings.V()): (1 + np.exp(L / 2)) ** 2,
        ("flow", weightings.V(max_weight=400)): np.minimum((1 + np.exp(L / 2)) ** 2, 400),
        ("edm", weightings.V()): 4 + e,  # 1 / sigma_data^2 + e^l
        ("vp", weightings.MinSNR(5.0)): np.minimum(e, 5),
        ("edm", weightings.Function(lambda x: ops.exp(x / 2), max_weight=3.0)): np.minimum(np.exp(L / 2), 3),
    }
    for (path, weighting), weights in expected.items():
        np.testing.assert_allclose(array(weighting(level_at(PATHS[path], L))), weights, rtol=1e-6)


@pytest.mark.host
@pytest.mark.parametrize("path", ["flow", "trigonometric", "edm"])
def test_the_error_of_any_prediction_counts_the_same(path):
    """w_eps |d eps|^2 = w_v |d v|^2 = w_x0 |d x0|^2, where a wrong prediction makes the error of x_0."""
    level, error = level_at(PATHS[path], L), 1e-3
    x_t = level["signal"] * 0.3 + level["sigma"] * 0.7
    velocity = level["signal_slope"] * 0.3 + level["sigma_slope"] * 0.7
    weighting = weightings.MinSNR(5.0)
    for target, exact in ((X0(), 0.3 + 0 * L), (Eps(), 0.7 + 0 * L), (Velocity(), velocity)):
        x0, eps = target.estimate(exact, x_t, level)
        np.testing.assert_allclose(x0, 0.3, rtol=1e-5)
        np.testing.assert_allclose(eps, 0.7, rtol=1e-5)
        wrong = target.estimate(exact + error, x_t, level)[0]
        weighted = array(weight_of_error(weighting, target, level)) * error**2
        np.testing.assert_allclose(weighted, np.minimum(np.exp(L), 5) * (wrong - x0) ** 2, rtol=1e-5)


@pytest.mark.host
def test_edm_is_the_prediction_of_velocity():
    """The training of EDM (Table 1 of Karras et al., 2022), from its formulas, equals ours for the same network."""
    rng, schedule = np.random.default_rng(0), schedules.EDM()
    y, noise = 0.5 * rng.normal(size=(4, 4, 4, 1)), rng.normal(size=(4, 4, 4, 1))
    sigma = np.array([0.01, 0.3, 1.0, 20.0]).reshape(-1, 1, 1, 1)
    c_skip, c_out = 0.25 / (sigma**2 + 0.25), sigma * 0.5 / np.sqrt(sigma**2 + 0.25)
    c_in, loss_weight = 1 / np.sqrt(sigma**2 + 0.25), (sigma**2 + 0.25) / (sigma * 0.5) ** 2
    network = rng.normal(size=y.shape)
    denoised = c_skip * (y + sigma * noise) + c_out * network
    losses = (loss_weight * (denoised - y) ** 2).mean(axis=(1, 2, 3))

    corruption = Corruption.dit(schedule=schedule, noisy_losses=["v"], levels=levels.LogNormal())
    timesteps = schedule.timesteps_at(-2 * np.log(sigma.ravel())).astype("float32")
    draws = {"timesteps": timesteps, "noise": noise, "mask_noise": np.zeros((4, 4)), "label_drop": np.zeros(4, bool)}
    draws = {name: ops.convert_to_tensor(x) for name, x in draws.items()}
    views = corruption.corrupt(ops.convert_to_tensor(y), draws, 2)
    np.testing.assert_allclose(array(views["noisy"]["images"]), c_in * (y + sigma * noise), rtol=1e-4, atol=1e-5)
    objective = Objective.denoising(corruption)
    outputs = {"noisy": {"v": Velocity()({"x0": 0 * y, "noise": -network, "level": ones_level()}, (2, 2))}}
    ours = objective.image_losses(outputs, objective.targets(views, (2, 2)))["noisy_v_loss"]
    np.testing.assert_allclose(array(ours), losses, rtol=1e-4)
    weights = weightings.V()(level_at(schedule, -2 * np.log(sigma.ravel())))
    np.testing.assert_allclose(array(weights), loss_weight.ravel(), rtol=1e-5)


def ones_level():
    return {"signal_slope": 1.0, "sigma_slope": 1.0}


# Laws of the levels


def normal_cdf(x):
    return np.array([0.5 * (1 + math.erf(value / math.sqrt(2))) for value in x])


LAWS = [  # with mean and deviation of the log-SNR
    (levels.LogSNRNormal(1.0, 1.5), 1.0, 1.5),
    (levels.LogitNormal(0.8, 0.8), -1.6, 1.6),
    (levels.LogNormal(-1.2, 1.2), 2.4, 2.4),
    (levels.Shifted(levels.LogitNormal(), 3.0), -2 * np.log(3), 2.0),
    (levels.Shifted(levels.Shifted(levels.LogitNormal(), 1.5), 2.0), -2 * np.log(3), 2.0),
]


@pytest.mark.parametrize(("law", "mean", "deviation"), LAWS)
def test_levels_that_are_drawn_follow_their_law(law, mean, deviation):
    for schedule in (PATHS["flow"], PATHS["vp"]):
        timesteps = array(law.draw(8000, schedule, keras.random.SeedGenerator(0)))
        assert timesteps.dtype == "float32" and timesteps.min() >= 1 and timesteps.max() <= 1000
        log_snr = np.sort(schedule.log_snr(timesteps))
        ranks = (np.arange(8000) + 0.5) / 8000
        inside = (log_snr > schedule.log_snr(999.9)) & (log_snr < schedule.log_snr(1.001))  # ends are piled up
        distance = np.abs(normal_cdf((log_snr - mean) / deviation) - ranks)[inside].max()
        assert distance < 0.02  # Kolmogorov and Smirnov's at one in 300


def test_uniform_levels_between_integers():
    timesteps = array(levels.ContinuousUniform().draw(8000, PATHS["flow"], keras.random.SeedGenerator(0)))
    ranks = (np.arange(8000) + 0.5) / 8000
    np.testing.assert_allclose(np.sort(timesteps), 1 + 999 * ranks, atol=20)
    assert np.mean(timesteps == np.round(timesteps)) < 0.1


@pytest.mark.host
def test_a_shift_of_levels_is_that_of_the_share_of_noise():
    schedule, seed = PATHS["flow"], lambda: keras.random.SeedGenerator(0)
    tau, shifted = (
        array(law.draw(100, schedule, seed())) / 1000
        for law in (levels.LogitNormal(), levels.Shifted(levels.LogitNormal(), 3.0))
    )
    np.testing.assert_allclose(shifted, 3 * tau / (1 + 2 * tau), rtol=1e-5)
    of_uniform = array(levels.Shifted(levels.Uniform(), 3.0).draw(100, schedule, seed())) / 1000
    tau = array(levels.Uniform().draw(100, schedule, seed())) / 1000
    np.testing.assert_allclose(of_uniform, 3 * tau / (1 + 2 * tau), rtol=1e-4)


@keras.saving.register_keras_serializable("tests")
class Middle(levels.Levels):
    """A user's own, with the one method that training needs."""

    def draw(self, batch_size, schedule, seed):
        return keras.random.uniform((batch_size,), 400.0, 600.0, seed=seed)


@pytest.mark.host
@pytest.mark.parametrize(
    ("path", "law", "weighting", "name"),
    [
        ("flow", levels.LogitNormal(0.8, 0.8), weightings.V(max_weight=400), "x0"),
        ("flow", levels.ContinuousUniform(), weightings.V(max_weight=25), "x0"),
        ("vp", levels.Uniform(), weightings.MinSNR(5.0), "eps"),
        ("vp", levels.Uniform(), weightings.V(max_weight=100), "x0"),
        ("edm", levels.LogNormal(), weightings.MinSNR(5.0), "v"),
        ("trigonometric", levels.Shifted(levels.LogSNRNormal(), 2.0), weightings.MinSNR(5.0), "v"),
        ("flow", Middle(), weightings.V(), "x0"),
    ],
)
def test_weights_have_mean_one_under_the_levels_that_are_drawn(path, law, weighting, name):
    corruption = Corruption.dit(schedule=PATHS[path], levels=law, noisy_losses=[name], weighting=weighting)
    (term,) = Objective.denoising(corruption).terms
    timesteps = law.draw(300_000, PATHS[path], keras.random.SeedGenerator(3))
    level = PATHS[path].level(timesteps, rank=1)
    weights = array(weight_of_error(term.weighting, term.target, level)).astype("float64") / term.mean_weight
    np.testing.assert_allclose(weights.mean(), 1, atol=0.01)


@pytest.mark.host
def test_the_weighting_of_the_own_prediction_changes_nothing():
    for name, target in (("x", X0()), ("eps", Eps()), ("v", Velocity())):
        level = level_at(PATHS["flow"], L)
        np.testing.assert_allclose(array(weight_of_error(weightings.get(name), target, level)), 1, rtol=1e-5)


# Terms and settings


@pytest.mark.host
def test_one_head_for_all_patches_weighs_visible_ones_by_the_level_and_masked_ones_by_a_number():
    corruption = Corruption(noisy_losses=["x0"], noisy_patches="all", weighting="v", masked_weight=0.3, clean_ratio=0.0)
    objective = Objective.denoising(corruption)
    assert objective.pixel_predictions == ("x0",)
    assert objective.reads("noisy") == {"x0": "all"}
    rng = np.random.default_rng(0)
    images = rng.uniform(-1, 1, (3, 4, 4, 1)).astype("float32")
    draws = corruption.draw(images.shape, 2, seed=0)
    views = corruption.corrupt(images, draws, 2)
    prediction = rng.normal(size=(3, 4, 4)).astype("float32")
    loss = objective.image_losses({"noisy": {"x0": prediction}}, objective.targets(views, (2, 2)))["noisy_x0_loss"]
    view = {name: array(views["noisy"][name]) for name in ("visible", "masked", "timesteps")}
    patches = images.reshape(3, 2, 2, 2, 2).swapaxes(2, 3).reshape(3, 4, 4)
    order = np.concatenate([view["visible"], view["masked"]], axis=1)
    errors = ((prediction - np.take_along_axis(patches, order[:, :, None], axis=1)) ** 2).mean(axis=-1)
    schedule = corruption.noise_schedule
    mean = np.mean(1 + np.exp(schedule.log_snr(np.arange(1, 1001))))
    weights = np.repeat((1 + np.exp(schedule.log_snr(view["timesteps"])))[:, None] / mean, 4, axis=1)
    weights[:, view["visible"].shape[1] :] = 0.3
    np.testing.assert_allclose(array(loss), (errors * weights).mean(axis=1), rtol=1e-4)


@pytest.mark.host
def test_masked_patches_of_two_heads_are_not_weighed():
    corruption = Corruption(noisy_losses=["x0", "v"], weighting=weightings.MinSNR())
    terms = {term.loss_name: term for term in Objective.denoising(corruption).terms}
    assert {name for name, term in terms.items() if term.weighting is not None} == {"noisy_v_loss"}
    finetuned = {term.loss_name for term in Objective.denoising(corruption.for_finetuning()).terms if term.weighting}
    assert finetuned == {"noisy_x0_loss", "noisy_v_loss"}  # nothing is masked


@pytest.mark.host
def test_settings_are_saved_and_those_of_the_paper_are_described_as_before():
    corruption = Corruption(
        schedules.EDM(sigma_data=0.4),
        noisy_losses=["x0"],
        noisy_patches="all",
        levels=levels.Shifted(levels.LogNormal(), 2.0),
        weighting=weightings.V(max_weight=400),
        masked_weight=0.5,
    )
    for saved in (corruption, Objective.denoising(corruption), corruption.for_finetuning()):
        config = keras.saving.serialize_keras_object(saved)
        again = keras.saving.deserialize_keras_object(config)
        assert keras.saving.serialize_keras_object(again) == config
    assert "LogNormal(mean=-1.2, deviation=1.2), shift=2.0" in repr(again.views[1])
    assert set(Corruption().get_config()) == {"schedule", "num_timesteps", "noisy_losses"} | {
        "clean_ratio", "clean_mask_ratio", "noisy_mask_ratio", "decoded_ratio"
    }  # fmt: skip
    (term,) = Objective.denoising(Corruption.mae()).terms
    assert not {"weighting", "mean_weight", "masked_weight"} & set(term.get_config())


def weighted_term():
    return Reconstruction("clean", X0(), weighting=weightings.V())


@pytest.mark.host
@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda: Corruption(noisy_losses=["eps"], noisy_patches="all"), "noise of masked patches.*eps"),
        (lambda: Corruption(noisy_patches="all"), r"must be \['x0'\]"),
        (lambda: Corruption(noisy_patches="visible"), "noisy_patches='visible'"),
        (lambda: Corruption(masked_weight=0.5), "needs noisy_patches='all'.*masked_weight=0.5"),
        (lambda: Corruption(weighting="snr"), "'x', 'eps', 'v', an object.*weighting='snr'"),
        (lambda: Corruption(levels="uniform"), "levels=uniform|levels='uniform'"),
        (lambda: weightings.V(max_weight=0), "max_weight=0"),
        (lambda: weightings.MinSNR(-1), "gamma=-1"),
        (lambda: levels.LogitNormal(0, 0), "deviation=0"),
        (lambda: levels.Shifted(levels.Uniform(), 0.0), "shift=0"),
        (lambda: schedules.EDM(sigma_min=80.0, sigma_max=1.0), "sigma_min=80"),
        (lambda: schedules.RectifiedFlow().levels([1001]), r"lie in \[0, 1000\]"),
        (lambda: Objective.denoising(Corruption.dit(weighting=lambda x: -x)), "`weighting` must give finite weights"),
        (lambda: Reconstruction("noisy", X0(), weighting="v"), "weighting='v'|weighting=v"),
        (lambda: weighted_term().targets({"x0": np.ones((1, 2, 2, 1))}, (1, 1)), "needs a noisy view.*x0"),
    ],
)
def test_what_makes_no_sense_is_refused(use, message):
    with pytest.raises(ValueError, match=message):
        use()
