import numpy as np
import pytest

from keras_umd.corruption import schedules
from keras_umd.sampling.time_grids import GRIDS, time_grid

pytestmark = pytest.mark.host


@pytest.mark.parametrize("num_steps", [1, 2, 62, 250, 999, 1000])
def test_the_uniform_grid_has_distinct_integers_from_the_last_to_the_first(num_steps):
    timesteps = time_grid("uniform", num_steps, schedules.Cosine())
    assert len(timesteps) == num_steps
    assert timesteps[0] == 1000
    np.testing.assert_array_equal(timesteps, timesteps.astype(int))
    assert np.all(np.diff(timesteps) < 0)
    assert num_steps == 1 or timesteps[-1] == 1


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("start", [None, 500.5])
def test_every_grid_falls_from_the_start_to_the_first_timestep(grid, schedule, start):
    times = time_grid(grid, 40, schedules.get(schedule), start)
    assert len(times) == 40
    assert np.all(np.diff(times) < 0)
    np.testing.assert_allclose(times[-1], 1)
    if start is not None:
        np.testing.assert_allclose(times[0], start)
    else:
        assert 950 < times[0] <= 1000


def test_grids_are_even_in_what_they_are_named_after():
    schedule = schedules.Linear()
    np.testing.assert_allclose(np.diff(np.sqrt(time_grid("quadratic", 30, schedule)), 2), 0, atol=1e-9)
    np.testing.assert_allclose(np.diff(schedule.log_snr(time_grid("log_snr", 30, schedule)), 2), 0, atol=1e-9)
    noise_ratio = np.exp(-schedule.log_snr(time_grid("karras", 30, schedule)) / 2)
    np.testing.assert_allclose(np.diff(noise_ratio ** (1 / 7), 2), 0, atol=1e-9)


@pytest.mark.parametrize("grid", ["log_snr", "karras"])
def test_no_step_is_spent_where_an_image_is_lost_in_noise(grid):
    schedule = schedules.Cosine()
    assert np.exp(-schedule.log_snr(1000) / 2) > 10_000
    np.testing.assert_allclose(np.exp(-schedule.log_snr(time_grid(grid, 30, schedule)[0]) / 2), 160)
