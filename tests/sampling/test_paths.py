"""Every sampler on every path: exact denoisers, diffusers' trajectories, and a path beside its scaled copy."""

import numpy as np
import pytest
from keras import ops

from keras_umd import Corruption, Objective
from keras_umd.corruption import schedules
from keras_umd.objectives.prediction import Both
from keras_umd.objectives.targets import X0, Eps, Velocity
from keras_umd.sampling.guidance import Interval
from keras_umd.sampling.samplers import DDIM, DPMSolverPP2M, Euler, Heun, ShiftedGrid
from keras_umd.sampling.settings import Settings
from keras_umd.sampling.time_grids import time_grid
from tests.conftest import array

pytestmark = pytest.mark.host
MEAN, DEVIATION = 0.4, 0.3
PATHS = {
    "vp": schedules.Cosine(),
    "flow": schedules.RectifiedFlow(),
    "trigonometric": schedules.Trigonometric(),
    "edm": schedules.EDM(),
}
SAMPLERS = {
    "euler": Euler(),
    "euler shifted": Euler(ShiftedGrid(2.0)),
    "ddim 1": DDIM(1.0),
    "dpmpp_2m": DPMSolverPP2M(),
    "heun": Heun(),
    "heun uniform": Heun("uniform"),
}


def ideal_denoiser(schedule):
    """The best prediction for data from N(MEAN, DEVIATION^2)."""

    def denoise(x, timestep):
        signal, sigma = schedule.signal_and_sigma(timestep, rank=len(x.shape))
        centred = (x - signal * MEAN) / (signal**2 * DEVIATION**2 + sigma**2)
        return MEAN + signal * DEVIATION**2 * centred, sigma * centred

    return denoise


def start_of(sampler, num_steps, schedule):
    """The factor of the noise at which a sampler starts."""
    return sampler.rows(num_steps, schedule)["sigma"][0]


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
@pytest.mark.parametrize("path", PATHS)
def test_every_path_and_sampler_ends_at_the_law_of_gaussian_data(path, sampler):
    schedule, num_steps = PATHS[path], 100
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(1, 2000)) if sampler.is_stochastic else np.array([[-1.0, 1.0]])
    x_T = (start_of(sampler, num_steps, schedule) * noise).astype("float32")
    samples = array(sampler.sample(ideal_denoiser(schedule), x_T, schedule, num_steps, seed=0))
    tolerance = 0.025 if sampler.is_stochastic or "euler" in type(sampler).__name__.lower() else 0.006
    np.testing.assert_allclose(samples.mean(), MEAN, atol=tolerance)
    np.testing.assert_allclose(samples.std(), DEVIATION, atol=tolerance)


@pytest.mark.parametrize(
    ("sampler", "order"),
    [(Euler, 1), (lambda timesteps: DDIM(0.0, timesteps), 1), (DPMSolverPP2M, 2), (Heun, 2)],
    ids=["euler", "ddim", "dpmpp_2m", "heun"],
)
@pytest.mark.parametrize("path", ["flow", "trigonometric", "edm"])
def test_orders_of_convergence(path, sampler, order):
    """A Gaussian's points keep their place in units of the deviation. The last step, to the image, is left out."""
    schedule, ends = PATHS[path], PATHS[path].timesteps_at(np.array([-4.0, 1.0]))
    signal, sigma = (schedule.levels(ends)[name] for name in ("signal", "sigma"))
    deviations = np.sqrt(signal**2 * DEVIATION**2 + sigma**2)
    start = signal[0] * MEAN + deviations[0]

    def error(num_intervals):
        walk = sampler(np.linspace(*ends, num_intervals + 1))
        rows = {name: ops.convert_to_tensor(column) for name, column in walk.rows(None, schedule).items()}
        denoise = ideal_denoiser(schedule)
        frames = walk.loop(
            lambda x, row, i: denoise(x, ops.reshape(row["timestep"], (1,))),
            None,
            ops.full((1, 1), start),
            rows,
            num_frames=rows["timestep"].shape[0] + 1,
        )
        return abs(array(frames)[-2, 0, 0] - (signal[1] * MEAN + deviations[1]))

    errors = np.array([error(n) for n in (16, 32, 64)])
    np.testing.assert_allclose(np.log2(errors[:-1] / errors[1:]), order, atol=0.25)


# diffusers (tests/golden/make_paths.py)


def states_of(sampler, schedule, estimate, x_T):
    """The states before each call of a sampler and the sample, for a function from a row to the network's output."""
    rows = {name: ops.convert_to_tensor(column) for name, column in sampler.rows(None, schedule).items()}
    frames = sampler.loop(
        lambda x, row, i: Velocity().estimate(estimate(x, row), x, row),
        None,
        ops.convert_to_tensor(x_T.astype("float32")),
        rows,
        num_frames=rows["timestep"].shape[0] + 1,
    )
    return array(frames)


@pytest.mark.parametrize("sampler", [Euler, lambda timesteps: DDIM(0.0, timesteps)], ids=["euler", "ddim"])
@pytest.mark.parametrize("case", ["flow", "flow_shift3"])
def test_a_rectified_flow_is_followed_as_by_diffusers(golden, case, sampler):
    values = golden("paths")
    states = states_of(
        sampler(1000 * values[f"{case}.sigmas"][:-1]),
        schedules.RectifiedFlow(),
        lambda x, row: 0.4 * x - 0.2 + 0.1 * row["timestep"] / 1000,
        values[f"{case}.states"][0],
    )
    np.testing.assert_allclose(states, values[f"{case}.states"], atol=2e-6)


@pytest.mark.parametrize("sampler", [Euler, lambda timesteps: DDIM(0.0, timesteps)], ids=["euler", "ddim"])
def test_edms_path_is_followed_as_by_diffusers_up_to_its_scale(golden, sampler):
    values, schedule = golden("paths"), schedules.EDM()
    sigmas = values["edm.sigmas"]
    scales = np.append(1 / np.sqrt(0.25 + sigmas[:-1] ** 2), 1.0).reshape(-1, 1, 1)
    expected = scales * values["edm.states"]

    def velocity(x, row):  # the network gets the scaled image and ln(sigma) / 4
        return -(0.3 * x + 0.1 * ops.log(row["sigma"] / row["signal"]) / 4)

    timesteps = np.minimum(schedule.timesteps_at(-2 * np.log(sigmas[:-1])), 1000)
    states = states_of(sampler(timesteps), schedule, velocity, expected[0])
    np.testing.assert_allclose(states, expected, atol=2e-5)


def test_edms_karras_grid_is_diffusers(golden):
    sigmas, schedule = golden("paths")["edm.sigmas"][:-1], schedules.EDM()
    levels = schedule.levels(time_grid("karras", 8, schedule))
    np.testing.assert_allclose(levels["sigma"] / levels["signal"], sigmas, rtol=1e-5)


# Scale


@pytest.mark.parametrize("sampler", [lambda t: DDIM(0.0, t), lambda t: DDIM(1.0, t), DPMSolverPP2M])
def test_samples_of_one_model_are_the_same_on_paths_that_differ_by_a_scale(sampler):
    log_snr = np.linspace(-6, 6, 12)
    noise = np.random.default_rng(0).normal(size=(2, 5))

    def samples(schedule):
        def denoise(x, timestep):  # any function of the image at variance 1, and of the log-SNR
            signal, sigma = schedule.signal_and_sigma(timestep, rank=2)
            scale = ops.sqrt(signal**2 + sigma**2)
            x0 = ops.tanh(x / scale * (1 + signal / scale))
            return x0, (x - signal * x0) / sigma

        walk = sampler(schedule.timesteps_at(log_snr))
        first = schedule.levels(walk.timesteps[0])
        x_T = noise * np.sqrt(first["signal"] ** 2 + first["sigma"] ** 2)
        return array(walk.sample(denoise, x_T.astype("float32"), schedule, seed=0))

    expected = samples(schedules.Trigonometric())
    assert expected.std() > 0.1
    for schedule in (schedules.RectifiedFlow(), schedules.EDM(sigma_data=1.0)):
        np.testing.assert_allclose(samples(schedule), expected, atol=1e-5)


@pytest.mark.parametrize("path", ["flow", "edm"])
def test_both_heads_together_read_any_path(path):
    schedule, rng = PATHS[path], np.random.default_rng(0)
    x0, eps = rng.normal(size=(2, 3, 4))
    level = {name: float(value) for name, value in schedule.levels(300.0).items()}
    x_t = level["signal"] * x0 + level["sigma"] * eps
    estimate = Both(X0(), Eps()).estimate({"x0": x0, "eps": eps}, x_t, level)
    np.testing.assert_allclose([array(e) for e in estimate], [x0, eps], atol=1e-6)
    # What is estimated agrees with the noisy image also where the heads don't.
    x0, eps = Both(X0(), Eps()).estimate({"x0": x0, "eps": eps + 1}, x_t, level)
    np.testing.assert_allclose(array(level["signal"] * x0 + level["sigma"] * eps), x_t, atol=1e-6)


# Grids


def test_an_even_grid_of_a_continuous_path_goes_down_to_the_image():
    np.testing.assert_allclose(time_grid("uniform", 4, schedules.RectifiedFlow()), [1000, 750, 500, 250])
    np.testing.assert_allclose(time_grid("uniform", 2, schedules.RectifiedFlow(), 600), [600, 300])


def test_a_shifted_grid_has_the_shares_of_noise_shifted():
    tau = 1 - np.arange(10) / 10
    schedule = schedules.RectifiedFlow()
    for shift in (0.3, 3.0):
        expected = 1000 * shift * tau / (1 + (shift - 1) * tau)
        np.testing.assert_allclose(time_grid(ShiftedGrid(shift), 10, schedule), expected, rtol=1e-6)
    for path in PATHS.values():
        for start in (None, 700):
            for grid in (ShiftedGrid(4.0), ShiftedGrid(0.7), ShiftedGrid(3.0, "karras"), ShiftedGrid(3.0, "log_snr")):
                times = time_grid(grid, 20, path, start)
                assert times[0] == time_grid(grid.timesteps, 20, path, start)[0]
                assert np.all(np.diff(times) < 0) and times[-1] >= 1
    with pytest.raises(ValueError, match="fewer steps, or a larger shift.*shift=0.05"):
        time_grid(ShiftedGrid(0.05), 20, schedules.EDM())


def test_guidance_in_an_interval_of_noise_over_signal_on_any_path():
    """JiT guides where the image's share is above 0.1: sigma / signal below 9."""
    tau = np.array([1.0, 0.95, 0.901, 0.899, 0.5, 0.01])
    scales = Interval(2.9, 0.0, 9.0).scales(1000 * tau, schedules.RectifiedFlow())
    np.testing.assert_array_equal(scales, [1, 1, 1, 2.9, 2.9, 2.9])
    schedule = schedules.EDM()
    timesteps = schedule.timesteps_at(-2 * np.log([20.0, 2.9, 0.21, 0.19]))
    np.testing.assert_array_equal(Interval(4.0, 0.2, 3.0).scales(timesteps, schedule), [1, 4, 4, 1])


def test_the_noise_alone_is_refused_where_a_path_starts_without_image():
    objective = Objective.denoising(Corruption.dit(schedule=schedules.RectifiedFlow()))
    by_noise = objective.prediction("eps", ["noisy"]).needs_signal
    for schedule in (schedules.RectifiedFlow(), schedules.Trigonometric()):
        with pytest.raises(ValueError, match="timestep 1000 .*no signal.*read another.*'karras'.*predict_from='eps'"):
            Settings(num_steps=5, predict_from="eps").rows(schedule, needs_signal=by_noise)
        rows = Settings(num_steps=5, sampler=DDIM(timesteps="karras")).rows(schedule, needs_signal=by_noise)
        assert rows["signal"][0] > 0
    assert len(Settings(num_steps=5).rows(schedules.EDM(), needs_signal=by_noise)["signal"]) == 5
    v = Objective.denoising(Corruption.dit(noisy_losses=["v"])).prediction(None, ["noisy"])
    assert v.names == ("v",) and not v.needs_signal
