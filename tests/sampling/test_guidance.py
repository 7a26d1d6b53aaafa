import numpy as np
import pytest

from keras_umd import NoiseSchedule, guidance

pytestmark = pytest.mark.host

TIMESTEPS = np.array([1000, 900, 500, 100, 1])


def test_guide_is_the_papers_equation():
    assert guidance.guide(strong=3.0, weak=1.0, scale=4.0) == 9.0
    assert guidance.guide(strong=3.0, weak=1.0, scale=1.0) == 3.0
    assert guidance.guide(strong=3.0, weak=1.0, scale=0.0) == 1.0


def test_a_constant_scale_is_the_same_everywhere():
    np.testing.assert_array_equal(guidance.Constant(4).scales(TIMESTEPS, NoiseSchedule()), [4, 4, 4, 4, 4])


def test_an_interval_is_one_of_noise_over_signal():
    schedule = NoiseSchedule("cosine")
    ratio = np.sqrt(1 / schedule.alpha_bar[TIMESTEPS] - 1)
    scales = guidance.Interval(3, low=1.01 * ratio[3], high=1.01 * ratio[1]).scales(TIMESTEPS, schedule)
    np.testing.assert_array_equal(scales, [1, 3, 3, 1, 1])


def test_the_power_cosine_rises_from_none_to_the_scale():
    schedule = NoiseSchedule("cosine")
    scales = guidance.PowerCosine(5, power=2).scales([1000, 500, 0], schedule)
    np.testing.assert_allclose(scales, [1, 1 + 4 * (1 - np.cos(np.pi / 4)) / 2, 5])
    later = guidance.PowerCosine(5, power=4).scales(TIMESTEPS, schedule)
    assert np.all(np.diff(later) > 0)
    assert later[2] < scales[1]


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda: guidance.Constant(-1), "guidance_scale=-1"),
        (lambda: guidance.Interval(2, 3, 1), "low=3, high=1"),
        (lambda: guidance.PowerCosine(2, power=0), "power=0"),
    ],
)
def test_wrong_arguments_are_named(use, message):
    with pytest.raises(ValueError, match=message):
        use()
