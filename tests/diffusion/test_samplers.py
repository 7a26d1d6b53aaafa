import keras
import numpy as np
import pytest
from keras import ops

from keras_umd import NoiseSchedule
from keras_umd.diffusion.samplers import DDIM, uniform_timesteps
from tests.conftest import array, assert_close


def golden_noise(x, timestep):
    """The golden files' eps, of x and of the authors' index, which is our timestep - 1."""
    index = ops.reshape(ops.cast(timestep, "float32") - 1, (1,) * len(x.shape))
    return 0.3 * x + 0.01 * index


@pytest.mark.parametrize("eta", [0, 1])
@pytest.mark.parametrize("clip", ["clip", "noclip"])
@pytest.mark.parametrize("name", ["cosine", "linear"])
def test_trajectories_equal_the_authors(golden, name, clip, eta):
    values, schedule, sampler = golden("ddim"), NoiseSchedule(name), DDIM(eta)
    # The authors' loop, in our terms: 26 calls, the last of which goes to the image.
    timesteps = golden("schedules")["ddim_timesteps_visited.25"] + 1
    table = sampler.coefficients(timesteps, schedule)
    clip_range = (-1.0, 1.0) if clip == "clip" else None
    x, states = ops.convert_to_tensor(values["x_T"]), []
    for i, timestep in enumerate(timesteps):
        coefficients = {key: column[i] for key, column in table.items()}
        x = sampler.step(x, golden_noise(x, timestep), values["noises"][i], coefficients, clip_range)
        states.append(array(x))
    key = f"{name}.{clip}.eta{eta}"
    assert_close(np.stack(states[:-1]), values[f"{key}.trajectory_f64"], 5e-5)
    assert_close(states[-1], values[f"{key}.sample_f64"], 5e-5)


@pytest.mark.parametrize("steps", [25, 62])
def test_the_whole_loop_equals_the_authors(golden, steps):
    values = golden("ddim")
    timesteps = golden("schedules")[f"ddim_timesteps_visited.{steps}"] + 1
    x_T = ops.convert_to_tensor(values["x_T"])
    sample = DDIM(0.0).sample(golden_noise, x_T, timesteps, NoiseSchedule("linear"), None, (-1.0, 1.0))
    key = "linear.clip.eta0" + ("" if steps == 25 else ".steps62")
    assert_close(sample, values[f"{key}.sample_f64"], 5e-5)


def test_ancestral_sampling_has_the_posterior_variance_of_ddpm():
    schedule = NoiseSchedule("cosine")
    timesteps = np.arange(1000, 0, -1)
    table = DDIM(1.0).coefficients(timesteps, schedule)
    alpha_bar, before = schedule.alpha_bar[timesteps], schedule.alpha_bar[timesteps - 1]
    variance = (1 - alpha_bar / before) * (1 - before) / (1 - alpha_bar)
    np.testing.assert_allclose(table["deviation"] ** 2, variance, rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_gaussian_data_is_sampled_with_its_variance(eta):
    """For data from N(0, s^2) the ideal noise prediction is linear, so samples must be N(0, s^2) again."""
    schedule, deviation = NoiseSchedule("cosine"), 0.3

    def ideal_noise(x, timestep):
        signal, sigma = schedule.signal_and_sigma(timestep, rank=2)
        return sigma * x / (signal**2 * deviation**2 + sigma**2)

    x_T = keras.random.normal((4000, 2), seed=0)
    seeds = ops.cast(keras.random.randint((250, 2), 0, 2**31 - 1, seed=1), keras.random.SeedGenerator(0).state.dtype)
    samples = array(DDIM(eta).sample(ideal_noise, x_T, uniform_timesteps(250, 1000), schedule, seeds))
    np.testing.assert_allclose(samples.mean(), 0, atol=0.02)
    np.testing.assert_allclose(samples.std(), deviation, rtol=0.05)
    np.testing.assert_allclose(np.corrcoef(samples.T)[0, 1], 0, atol=0.06)


@pytest.mark.parametrize("num_steps", [1, 2, 62, 250, 999, 1000])
def test_timesteps_are_distinct_and_reach_from_the_last_to_the_first(num_steps):
    timesteps = uniform_timesteps(num_steps, 1000)
    assert len(timesteps) == num_steps
    assert timesteps[0] == 1000
    assert np.all(np.diff(timesteps) < 0)
    assert num_steps == 1 or timesteps[-1] == 1


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda: DDIM(-0.1), "eta=-0.1"),
        (lambda: uniform_timesteps(0, 1000), "num_steps=0"),
        (lambda: uniform_timesteps(2.5, 1000), "num_steps=2.5"),
        (lambda: DDIM().coefficients([1001], NoiseSchedule()), r"1 to 1000.*\[1001\]"),
        (lambda: DDIM().coefficients([5, 6], NoiseSchedule()), "must not rise"),
    ],
)
def test_wrong_arguments_are_named(use, message):
    with pytest.raises(ValueError, match=message):
        use()


def test_config_round_trip():
    config = keras.saving.serialize_keras_object(DDIM(0.5))
    assert keras.saving.deserialize_keras_object(config).eta == 0.5
