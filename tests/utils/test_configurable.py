import pytest

from keras_umd.utils.configurable import Configurable


class Wave(Configurable):
    def __init__(self, height, period=2.0, phase=None, **ignored):
        self.height, self.period, self.phase = height, period, phase


class Forgetful(Configurable):
    def __init__(self, height):
        self.tall = height > 3


def test_an_object_is_its_constructors_arguments():
    wave = Wave(3, phase=0.5)
    assert wave.get_config() == {"height": 3, "period": 2.0, "phase": 0.5}
    assert Wave.from_config(wave.get_config()).get_config() == wave.get_config()


def test_the_repr_shows_the_settings_that_are_set():
    assert repr(Wave("high")) == "Wave(height='high', period=2.0)"
    assert repr(Forgetful(4)) == "Forgetful()"


def test_an_argument_that_is_not_kept_is_named():
    with pytest.raises(NotImplementedError, match=r"Forgetful .*override `get_config`.*\['height'\]"):
        Forgetful(4).get_config()
