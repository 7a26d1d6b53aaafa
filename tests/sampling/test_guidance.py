import keras
import numpy as np
import pytest

from keras_umd import guidance
from keras_umd.corruption import schedules

pytestmark = pytest.mark.host

TIMESTEPS = np.array([1000, 900, 500, 100, 1])


def test_guide_is_the_papers_equation():
    assert guidance.guide(strong=3.0, weak=1.0, scale=4.0) == 9.0
    assert guidance.guide(strong=3.0, weak=1.0, scale=1.0) == 3.0
    assert guidance.guide(strong=3.0, weak=1.0, scale=0.0) == 1.0


def test_a_constant_scale_is_the_same_everywhere():
    np.testing.assert_array_equal(guidance.Constant(4).scales(TIMESTEPS, schedules.Cosine()), [4, 4, 4, 4, 4])


def test_an_interval_is_one_of_noise_over_signal():
    schedule = schedules.Cosine()
    ratio = np.sqrt(1 / schedule.alpha_bar[TIMESTEPS] - 1)
    scales = guidance.Interval(3, low=1.01 * ratio[3], high=1.01 * ratio[1]).scales(TIMESTEPS, schedule)
    np.testing.assert_array_equal(scales, [1, 3, 3, 1, 1])


def test_the_power_cosine_rises_from_none_to_the_scale():
    schedule = schedules.Cosine()
    scales = guidance.PowerCosine(5, power=2).scales([1000, 500, 0], schedule)
    np.testing.assert_allclose(scales, [1, 1 + 4 * (1 - np.cos(np.pi / 4)) / 2, 5])
    later = guidance.PowerCosine(5, power=4).scales(TIMESTEPS, schedule)
    assert np.all(np.diff(later) > 0)
    assert later[2] < scales[1]


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda: guidance.Constant(-1), "scale=-1"),
        (lambda: guidance.Interval(2, 3, 1), "low=3, high=1"),
        (lambda: guidance.PowerCosine(2, power=0), "power=0"),
    ],
)
def test_wrong_arguments_are_named(use, message):
    with pytest.raises(ValueError, match=message):
        use()


@pytest.mark.parametrize(
    "chosen", [guidance.Constant(4.0), guidance.Interval(3.0, 0.2, 5.0), guidance.PowerCosine(2.0, power=3.0)]
)
def test_guidance_is_written_to_files_and_shows_its_settings(chosen):
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(chosen))
    assert type(again) is type(chosen)
    assert again.get_config() == chosen.get_config() == chosen.settings()
    assert eval(repr(chosen), vars(guidance)).get_config() == chosen.get_config()


def test_guidance_by_a_weak_model_is_not_written_to_files():
    chosen = guidance.Constant(2.0)
    chosen.weak_model = "a model"
    with pytest.raises(ValueError, match=r"weak_model.*Received: Constant\(scale=2.0, weak_model='a model'\)"):
        chosen.get_config()
    assert chosen.settings() == {"scale": 2.0}


def test_a_number_is_a_constant_scale_and_none_no_guidance():
    assert guidance.get(3).get_config() == {"scale": 3.0}
    assert guidance.get(np.float32(1.5)).scale == 1.5
    assert guidance.get(None).scale == 1.0
    chosen = guidance.Interval(3.0, 0.2, 5.0)
    assert guidance.get(chosen) is chosen
    for wrong in ("strong", True, [1.0]):
        with pytest.raises(ValueError, match="`guidance` must be a number"):
            guidance.get(wrong)
