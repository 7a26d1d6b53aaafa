import keras
import numpy as np
import pytest
from keras import ops

from keras_umd import samplers
from keras_umd.corruption import schedules
from keras_umd.sampling.samplers import DDIM, DPMSolverPP2M, Heun
from tests.conftest import array, assert_close

DATA_DEVIATION = 0.3


def golden_eps(x, timestep):
    """The golden files' eps, of x and of the authors' index, which is our timestep - 1."""
    index = ops.reshape(ops.cast(timestep, "float32") - 1, (1,) * len(x.shape))
    return 0.3 * x + 0.01 * index


def by_eps(predict_eps, schedule):
    """`denoise` of a sampler from a function that predicts the noise."""

    def denoise(x, timestep):
        eps = predict_eps(x, timestep)
        signal, sigma = schedule.signal_and_sigma(timestep, rank=len(x.shape))
        return (x - sigma * eps) / signal, eps

    return denoise


def ideal_denoiser(schedule):
    """The best prediction for data from N(0, DATA_DEVIATION^2), which is linear in x."""

    def denoise(x, timestep):
        signal, sigma = schedule.signal_and_sigma(timestep, rank=len(x.shape))
        variance = signal**2 * DATA_DEVIATION**2 + sigma**2
        return signal * DATA_DEVIATION**2 * x / variance, sigma * x / variance

    return denoise


@pytest.mark.parametrize("eta", [0, 1])
@pytest.mark.parametrize("clip", ["clip", "noclip"])
@pytest.mark.parametrize("name", ["cosine", "linear"])
def test_trajectories_equal_the_authors(golden, name, clip, eta):
    values = golden("ddim")
    # The authors' loop, in our terms: 26 calls, the last of which goes to the image.
    sampler = DDIM(eta, timesteps=golden("schedules")["ddim_timesteps_visited.25"] + 1)
    schedule = schedules.get(name)
    denoise = by_eps(golden_eps, schedule)
    states = array(
        sampler.loop(
            lambda x, row, i: denoise(x, ops.reshape(row["timestep"], (1,))),
            lambda i: ops.take(ops.convert_to_tensor(values["noises"]), i, axis=0),
            ops.convert_to_tensor(values["x_T"]),
            {key: ops.convert_to_tensor(column) for key, column in sampler.rows(None, schedule).items()},
            clip_range=(-1.0, 1.0) if clip == "clip" else None,
            num_frames=len(values["noises"]) + 1,
        )
    )[1:]
    key = f"{name}.{clip}.eta{eta}"
    assert_close(np.stack(states[:-1]), values[f"{key}.trajectory_f64"], 5e-5)
    assert_close(states[-1], values[f"{key}.sample_f64"], 5e-5)


@pytest.mark.parametrize("steps", [25, 62])
def test_the_whole_loop_equals_the_authors(golden, steps):
    values = golden("ddim")
    sampler = DDIM(0.0, timesteps=golden("schedules")[f"ddim_timesteps_visited.{steps}"] + 1)
    schedule = schedules.Linear()
    sample = sampler.sample(by_eps(golden_eps, schedule), values["x_T"], schedule, clip_range=(-1.0, 1.0))
    key = "linear.clip.eta0" + ("" if steps == 25 else ".steps62")
    assert_close(sample, values[f"{key}.sample_f64"], 5e-5)


@pytest.mark.host
def test_ancestral_sampling_has_the_posterior_variance_of_ddpm():
    schedule = schedules.Cosine()
    timesteps = np.arange(1000, 0, -1)
    rows = DDIM(1.0).rows(1000, schedule)
    np.testing.assert_array_equal(rows["timestep"], timesteps)
    alpha_bar, before = schedule.alpha_bar[timesteps], schedule.alpha_bar[timesteps - 1]
    variance = (1 - alpha_bar / before) * (1 - before) / (1 - alpha_bar)
    np.testing.assert_allclose(rows["deviation"] ** 2, variance, rtol=1e-5, atol=1e-12)


@pytest.mark.host
@pytest.mark.parametrize(
    ("sampler", "order"),
    [(lambda timesteps: DDIM(0.0, timesteps), 1), (DPMSolverPP2M, 2), (Heun, 2)],
    ids=["ddim", "dpmpp_2m", "heun"],
)
@pytest.mark.parametrize("even_in", ["time", "log_snr"])
def test_order_of_convergence_between_two_interior_times(sampler, order, even_in):
    """Gaussian data have a known solution: x keeps its place in a Gaussian of variance (signal s)^2 + sigma^2."""
    schedule, ends = schedules.Cosine(), np.array([800.0, 200.0])
    log_snr = schedule.log_snr(ends)
    deviations = np.sqrt(DATA_DEVIATION**2 / (1 + np.exp(-log_snr)) + 1 / (1 + np.exp(log_snr)))

    def error(num_intervals):
        shares = np.linspace(0, 1, num_intervals + 1)
        times = ends[0] + shares * (ends[1] - ends[0])
        if even_in == "log_snr":
            times = schedule.timesteps_at(log_snr[0] + shares * (log_snr[1] - log_snr[0]))
        walk = sampler(times)
        rows = {name: ops.convert_to_tensor(column) for name, column in walk.rows(None, schedule).items()}
        denoise = ideal_denoiser(schedule)
        frames = walk.loop(
            lambda x, row, i: denoise(x, ops.reshape(row["timestep"], (1,))),
            None,
            ops.ones((1, 1)),
            rows,
            num_frames=len(rows["timestep"]) + 1,
        )
        before_last_call = array(frames)[-2, 0, 0]  # the last call goes on to 0
        return abs(before_last_call - deviations[1] / deviations[0])

    errors = np.array([error(n) for n in (16, 32, 64)])
    np.testing.assert_allclose(np.log2(errors[:-1] / errors[1:]), order, atol=0.12)


@pytest.mark.host
@pytest.mark.parametrize(
    "sampler", [DDIM(0.0), DDIM(1.0), DPMSolverPP2M(), Heun()], ids=["ddim0", "ddim1", "dpmpp_2m", "heun"]
)
def test_gaussian_data_is_sampled_with_its_variance(sampler):
    """With the ideal prediction, which is linear, samples of Gaussian data must have its distribution."""
    schedule = schedules.Cosine()
    x_T = np.random.default_rng(0).normal(size=(4000, 2)).astype("float32")
    samples = array(sampler.sample(ideal_denoiser(schedule), x_T, schedule, num_steps=200, seed=0))
    np.testing.assert_allclose(samples.mean(), 0, atol=0.02)
    np.testing.assert_allclose(samples.std(), DATA_DEVIATION, rtol=0.05)
    np.testing.assert_allclose(np.corrcoef(samples.T)[0, 1], 0, atol=0.06)


@pytest.mark.host
@pytest.mark.parametrize("sampler", [DDIM(), DPMSolverPP2M(), Heun()], ids=["ddim", "dpmpp_2m", "heun"])
@pytest.mark.parametrize("num_steps", [1, 2, 3, 20, 21])
def test_every_sampler_makes_as_many_calls_as_it_is_told_and_ends_at_x0(sampler, num_steps):
    """With a perfect prediction for one image, every sampler must return that image."""
    schedule, image = schedules.Linear(), np.array([[0.5, -0.25]], "float32")

    def denoise(x, timestep):
        signal, sigma = schedule.signal_and_sigma(timestep, rank=2)
        return ops.convert_to_tensor(image), (x - signal * image) / sigma

    assert len(sampler.rows(num_steps, schedule)["timestep"]) == num_steps
    x_T = np.array([[1.0, -2.0]], "float32")
    sample = sampler.sample(denoise, x_T, schedule, num_steps=num_steps, seed=0)
    np.testing.assert_allclose(array(sample), image, atol=1e-4)


def test_clipping_holds_x0_in_its_range():
    schedule = schedules.Cosine()
    for sampler in (DDIM(0.0), DPMSolverPP2M(), Heun()):
        x_T = np.random.default_rng(0).normal(size=(50, 2)).astype("float32")
        denoise = by_eps(lambda x, t: -x, schedule)
        sample = array(sampler.sample(denoise, x_T, schedule, num_steps=9, clip_range=(-1.0, 0.5)))
        assert (sample.min(), sample.max()) == (-1.0, 0.5)


def test_frames_go_from_the_noise_to_the_sample():
    schedule = schedules.Cosine()
    sampler = DDIM(0.0)
    rows = {name: ops.convert_to_tensor(column) for name, column in sampler.rows(10, schedule).items()}
    x_T = ops.ones((1, 2))

    def denoise(x, row, i):
        return (x - row["sigma"] * 0.3 * x) / row["signal"], 0.3 * x

    all_states = array(sampler.loop(denoise, None, x_T, rows, num_frames=11))
    np.testing.assert_array_equal(all_states[0], array(x_T))
    sample = sampler.sample(by_eps(lambda x, t: 0.3 * x, schedule), x_T, schedule, 10)
    np.testing.assert_allclose(all_states[-1], array(sample), rtol=1e-5)
    frames = array(sampler.loop(denoise, None, x_T, rows, num_frames=6))
    np.testing.assert_allclose(frames, all_states[::2], rtol=1e-6)


@pytest.mark.host
@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda: DDIM(-0.1), "eta=-0.1"),
        (lambda: DDIM(1.5), "eta=1.5"),
        (lambda: DDIM(timesteps="cosine"), "'karras', or a list.*'cosine'"),
        (lambda: DDIM(timesteps=[5, 6]), r"don't rise.*\[5, 6\]"),
        (lambda: DDIM(timesteps=[0.5]), r"at least 1.*\[0.5\]"),
        (lambda: DDIM(timesteps=[]), "at least 1"),
        (lambda: DPMSolverPP2M([7, 7]), r"fall in every step.*\[7, 7\]"),
        (lambda: DDIM().rows(0, schedules.Cosine()), "num_steps=0"),
        (lambda: DDIM().rows(1001, schedules.Cosine()), "num_steps=1001"),
        (lambda: Heun().rows(1001, schedules.Cosine()), "num_steps=1001"),
        (lambda: DDIM().rows(2.5, schedules.Cosine()), "num_steps=2.5"),
        (lambda: DDIM().rows(None, schedules.Cosine()), "num_steps=None"),
        (lambda: DDIM().rows(20, schedules.Cosine(), start=10), "num_steps=20"),
        (lambda: DDIM(timesteps=[1001]).rows(None, schedules.Cosine()), "start at 1000 or below.*1001"),
        (lambda: DDIM(timesteps=[9, 5]).rows(3, schedules.Cosine()), "2 timesteps need 2 steps.*num_steps=3"),
        (lambda: samplers.get("euler"), "'ddim', 'dpmpp_2m', 'heun'.*'euler'"),
    ],
)
def test_wrong_arguments_are_named(use, message):
    with pytest.raises(ValueError, match=message):
        use()


@pytest.mark.host
@pytest.mark.parametrize("sampler", [DDIM(0.5), DPMSolverPP2M("karras"), Heun([9.5, 3, 1])])
def test_config_round_trip(sampler):
    config = keras.saving.serialize_keras_object(sampler)
    again = keras.saving.deserialize_keras_object(config)
    assert type(again) is type(sampler)
    assert again.get_config() == sampler.get_config()
    assert eval(repr(sampler), vars(samplers)).get_config() == sampler.get_config()


def test_a_number_is_the_eta_of_ddim_and_none_the_papers_choice():
    assert samplers.get(0).get_config() == {"eta": 0.0, "timesteps": "uniform"}
    assert samplers.get(np.float32(0.5)).eta == 0.5
    assert samplers.get(None).eta == 1.0
    assert type(samplers.get("heun")) is Heun
    with pytest.raises(ValueError, match="sampler=True"):
        samplers.get(True)


@keras.saving.register_keras_serializable("tests")
class Euler(samplers.Sampler):
    """A user's own: DDIM without fresh noise."""

    def columns(self, now, after):
        return {"signal_next": after["signal"], "sigma_next": after["sigma"]}

    def step(self, x_t, memory, x0, eps, fresh_noise, row):
        return row["signal_next"] * x0 + row["sigma_next"] * eps, memory


def test_an_own_sampler_has_two_methods():
    schedule, x_T = schedules.Cosine(), np.ones((1, 2), "float32")
    arguments = (by_eps(lambda x, t: 0.3 * x, schedule), x_T, schedule)
    sample = Euler("quadratic").sample(*arguments, num_steps=7, clip_range=(-1.0, 1.0))
    expected = DDIM(0.0, "quadratic").sample(*arguments, num_steps=7, clip_range=(-1.0, 1.0))
    np.testing.assert_allclose(array(sample), array(expected), rtol=1e-6)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(Euler([5, 3])))
    assert again.timesteps == (5, 3)
    with pytest.raises(NotImplementedError, match="Sampler must define `columns`"):
        samplers.Sampler().rows(5, schedule)
