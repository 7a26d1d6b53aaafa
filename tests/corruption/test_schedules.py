import numpy as np
import pytest
from keras import ops

from keras_umd import NoiseSchedule
from tests.conftest import array, assert_close


@pytest.mark.parametrize("name", ["cosine", "linear"])
def test_tables_equal_the_authors_after_the_clean_entry(golden, name):
    schedule = NoiseSchedule(name, 1000)
    assert schedule.alpha_bar.shape == (1001,)
    assert schedule.alpha_bar[0] == 1
    np.testing.assert_allclose(schedule.alpha_bar[1:], golden("schedules")[f"{name}.alphas_cumprod"], rtol=1e-9)
    timesteps = np.arange(1001)
    signal, sigma = (array(x)[:, 0] for x in schedule.signal_and_sigma(timesteps, rank=2))
    assert (signal[0], sigma[0]) == (1, 0)
    assert_close(signal[1:], golden("schedules")[f"{name}.sqrt_alphas_cumprod"], 2e-7)
    assert_close(sigma[1:], golden("schedules")[f"{name}.sqrt_one_minus_alphas_cumprod"], 2e-7)


@pytest.mark.parametrize("name", ["cosine", "linear"])
def test_noised_images_equal_the_authors(golden, name):
    values = {key.removeprefix("q_sample."): value for key, value in golden("schedules").items() if "q_sample" in key}
    x0, noise, timesteps = (ops.convert_to_tensor(values[key]) for key in ("x0", "noise", "t"))
    x_t = NoiseSchedule(name).add_noise(x0, noise, timesteps[:, 0] + 1)
    assert_close(x_t, values[f"{name}.x_t_f64"], 2e-5)


def test_image_and_noise_are_recovered_from_each_other():
    rng = np.random.default_rng(0)
    x0, noise = rng.normal(size=(2, 3, 4, 4, 1)).astype("float32")
    schedule, timesteps = NoiseSchedule("linear"), np.array([1, 300, 900])
    x_t = schedule.add_noise(x0, noise, timesteps)
    np.testing.assert_allclose(array(schedule.predict_x0(x_t, noise, timesteps)), x0, atol=1e-3)
    np.testing.assert_allclose(array(schedule.predict_noise(x_t, x0, timesteps)), noise, atol=1e-3)


def test_the_clean_timestep_changes_nothing():
    x0 = np.random.default_rng(0).normal(size=(2, 4, 4, 1)).astype("float32")
    np.testing.assert_array_equal(array(NoiseSchedule().add_noise(x0, x0 + 5, np.array([0, 0]))), x0)


@pytest.mark.host
@pytest.mark.parametrize("num_timesteps", [50, 100, 4000])
@pytest.mark.parametrize("name", ["cosine", "linear"])
def test_any_number_of_timesteps_ends_in_noise(name, num_timesteps):
    alpha_bar = NoiseSchedule(name, num_timesteps).alpha_bar
    assert np.all(np.diff(alpha_bar) < 0)
    assert 0 < alpha_bar[-1] < 1e-3


@pytest.mark.parametrize("name", ["cosine", "linear"])
def test_levels_between_integers_lie_on_a_line_in_log_snr(name):
    schedule = NoiseSchedule(name)
    integers = np.array([0, 1, 2, 500, 1000])
    signal, sigma = (array(x)[:, 0] for x in schedule.signal_and_sigma(integers, rank=2))
    as_floats = schedule.signal_and_sigma(ops.convert_to_tensor(integers.astype("float32")), rank=2)
    np.testing.assert_allclose(array(as_floats[0])[:, 0], signal, rtol=1e-5)
    np.testing.assert_allclose(array(as_floats[1])[:, 0], sigma, rtol=1e-5)
    with np.errstate(divide="ignore"):
        expected = np.log(schedule.alpha_bar / (1 - schedule.alpha_bar))
    np.testing.assert_allclose(schedule.log_snr(integers), expected[integers], rtol=1e-9)
    between = schedule.log_snr(300.25)
    np.testing.assert_allclose(between, 0.75 * expected[300] + 0.25 * expected[301])
    np.testing.assert_allclose(schedule.timesteps_at(between), 300.25)
    signal, sigma = schedule.signal_and_sigma(ops.convert_to_tensor(np.array([300.25], "float32")), rank=1)
    np.testing.assert_allclose(2 * np.log(array(signal) / array(sigma)), between, rtol=1e-4)
