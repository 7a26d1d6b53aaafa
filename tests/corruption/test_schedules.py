import keras
import numpy as np
import pytest
from keras import ops

from keras_umd import Corruption, NoiseSchedule
from keras_umd.corruption import schedules
from tests.conftest import array, assert_close


@pytest.mark.parametrize("name", ["cosine", "linear"])
def test_tables_equal_the_authors_after_the_clean_entry(golden, name):
    schedule = schedules.get(name, 1000)
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
    x_t = schedules.get(name).add_noise(x0, noise, timesteps[:, 0] + 1)
    assert_close(x_t, values[f"{name}.x_t_f64"], 2e-5)


def test_image_and_noise_are_recovered_from_each_other():
    rng = np.random.default_rng(0)
    x0, noise = rng.normal(size=(2, 3, 4, 4, 1)).astype("float32")
    schedule, timesteps = schedules.Linear(), np.array([1, 300, 900])
    x_t = schedule.add_noise(x0, noise, timesteps)
    np.testing.assert_allclose(array(schedule.predict_x0(x_t, noise, timesteps)), x0, atol=1e-3)
    np.testing.assert_allclose(array(schedule.predict_noise(x_t, x0, timesteps)), noise, atol=1e-3)


def test_the_clean_timestep_changes_nothing():
    x0 = np.random.default_rng(0).normal(size=(2, 4, 4, 1)).astype("float32")
    np.testing.assert_array_equal(array(schedules.Cosine().add_noise(x0, x0 + 5, np.array([0, 0]))), x0)


@pytest.mark.host
@pytest.mark.parametrize("num_timesteps", [50, 100, 4000])
@pytest.mark.parametrize("name", ["cosine", "linear"])
def test_any_number_of_timesteps_ends_in_noise(name, num_timesteps):
    alpha_bar = schedules.get(name, num_timesteps).alpha_bar
    assert np.all(np.diff(alpha_bar) < 0)
    assert 0 < alpha_bar[-1] < 1e-3


@pytest.mark.parametrize("name", ["cosine", "linear"])
def test_levels_between_integers_lie_on_a_line_in_log_snr(name):
    schedule = schedules.get(name)
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


def test_a_schedule_of_betas_equals_the_one_that_they_are_from():
    linear = schedules.Linear(100)
    schedule = NoiseSchedule.from_betas(1 - linear.alpha_bar[1:] / linear.alpha_bar[:-1])
    timesteps = np.arange(101)
    for own, expected in zip(schedule.signal_and_sigma(timesteps), linear.signal_and_sigma(timesteps), strict=True):
        np.testing.assert_allclose(array(own), array(expected), rtol=1e-6)
    for name, level in schedule.levels([0, 1, 30.5, 100]).items():
        np.testing.assert_allclose(level, linear.levels([0, 1, 30.5, 100])[name], rtol=1e-9)


@pytest.mark.parametrize("schedule", [schedules.Cosine(50), schedules.Linear(50), NoiseSchedule.from_betas([0.1, 0.2])])
def test_a_corruption_keeps_its_schedule_in_its_config(schedule):
    config = keras.saving.serialize_keras_object(Corruption(schedule=schedule, clean_ratio=0.25))
    restored = keras.saving.deserialize_keras_object(config)
    assert type(restored.noise_schedule) is type(schedule)
    assert restored.noise_schedule.get_config() == schedule.get_config()
    assert restored.get_config().keys() == Corruption(schedule=schedule).get_config().keys()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"schedule": "sigmoid"}, "schedule='sigmoid'"),
        ({"schedule": np.linspace(0, 1, 5)}, "from_betas"),
        ({"schedule": schedules.Cosine(10), "num_timesteps": 20}, "num_timesteps=20"),
    ],
)
def test_wrong_schedules_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        Corruption(**arguments)


@pytest.mark.parametrize("betas", [[], [[0.1]], [0.1, 1.0], [0.0, 0.1]])
def test_betas_must_be_a_list_of_numbers_between_0_and_1(betas):
    with pytest.raises(ValueError, match="between 0 and 1"):
        NoiseSchedule.from_betas(betas)
