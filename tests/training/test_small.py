"""`recipes.small` chooses what the documents say, and what it chooses trains; `StopAfter` keeps to the clock."""

import keras
import numpy as np
import pytest

from keras_umd import UMD, callbacks, recipes
from keras_umd.training import small, stopping
from tests.conftest import array

pytestmark = pytest.mark.host


@pytest.fixture
def speed(monkeypatch):
    """A machine on which every network takes so many seconds a step, after ten of compilation."""

    def set_to(seconds):
        def timed(settings, batch_size):
            width = settings["hidden_dim"]
            timed.widths.append(width)
            return 10.0, seconds * (width / 128) ** 2

        timed.widths = []
        monkeypatch.setattr(small, "time_steps", timed)
        return timed

    return set_to


def test_the_settings_that_were_measured():
    recipe = recipes.small(3786, steps=2700, num_classes=10, seed=0)
    sizes = {"hidden_dim": 128, "num_layers": 4, "decoder_layers": 2, "num_heads": 4, "patch_size": 4}
    assert {name: recipe.settings[name] for name in sizes} == sizes
    assert (recipe.batch_size, recipe.total_steps, recipe.averages) == (32, 2700, (0.995,))
    assert recipe.epochs == round(2700 / (3786 // 32))
    assert recipe.sampling == {"num_steps": 20, "sampler": "dpmpp_2m", "guidance": 2.0}
    optimizer = recipe.optimizer
    assert (optimizer.beta_2, optimizer.weight_decay, optimizer.global_clipnorm) == (0.99, 0.0, 1.0)
    rates = [float(array(optimizer._learning_rate(step))) for step in (0, 100, 200, 2700, 5000)]
    np.testing.assert_allclose(rates, [0, 1e-3, 2e-3, 2e-4, 2e-4], rtol=1e-4)
    model = recipe.model
    assert model.corruption.clean_ratio == 0.125 and model.corruption.noisy_losses == ("x0",)
    assert model.objective.pixel_predictions == ("x0",)


@pytest.mark.parametrize(
    ("image_shape", "patch_size"),
    [((32, 32, 3), 4), ((64, 64, 3), 4), ((28, 28, 1), 4), ((8, 8, 1), 2), ((36, 30, 3), 3), ((256, 2), 4)],
)
def test_patches_fit_their_tokens_and_leave_enough_of_them(image_shape, patch_size):
    assert small.choose_patch(image_shape) == patch_size
    assert 2 * patch_size ** (len(image_shape) - 1) * image_shape[-1] <= 128


def test_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match=r"no small patch that divides it.*\(31, 31, 3\)"):
        recipes.small(100, steps=10, image_shape=(31, 31, 3))
    with pytest.warns(UserWarning, match="576 patches.*smaller"):
        small.choose_patch((96, 96, 3))
    for wrong in ({}, {"minutes": 1, "steps": 1}):
        with pytest.raises(ValueError, match="Either `minutes` or `steps`"):
            recipes.small(100, **wrong)


def test_minutes_become_steps_by_the_speed_of_the_machine(speed):
    timed = speed(0.2)
    recipe = recipes.small(3786, minutes=15, num_classes=10)
    assert recipe.total_steps == (15 * 60 - 2 * 10) / 0.2 and timed.widths == [128]
    assert recipe.epochs == round(recipe.total_steps / 118)
    few = "Only 200 steps of 0.2 s fit into 1 minutes beside 20 s to begin.*more minutes"
    with pytest.warns(UserWarning, match=few + r"\.$"):
        recipes.small(3786, minutes=1)  # of 32x32 pixels
    with pytest.warns(UserWarning, match=few + ", or smaller images, for example 32x32"):
        recipes.small(3786, minutes=1, image_shape=(48, 48, 3))


def test_fast_machines_and_many_images_get_larger_networks(speed):
    timed = speed(0.002)
    recipe = recipes.small(60_000, minutes=15, num_classes=10)
    assert timed.widths == [128, recipe.settings["hidden_dim"]] and recipe.settings["hidden_dim"] > 128
    width = recipe.settings["hidden_dim"]
    assert float(array(recipe.optimizer._learning_rate(200))) == pytest.approx(2e-3 * 128 / width, rel=1e-4)
    assert recipe.total_steps == int((15 * 60 - 4 * 10) / (0.002 * (width / 128) ** 2))
    # Few images would be learned by heart.
    assert recipes.small(1000, minutes=15).settings["hidden_dim"] == 128


def test_steps_are_timed_and_the_recipe_trains():
    with pytest.warns(UserWarning, match="pictures need about 2,500"):
        recipe = recipes.small(20, minutes=0.02, image_shape=(8, 8, 1), num_classes=2, seed=0)
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 1)).astype("uint8")
    model = recipe.model
    model.compile(recipe.optimizer)
    model.fit(images, np.arange(20) % 2, batch_size=recipe.batch_size, epochs=1, verbose=0)
    assert [average.decay for average in model.averages] == list(recipe.averages)
    assert model.generate([0, 1], **{**recipe.sampling, "num_steps": 2}).shape == (2, 8, 8, 1)


def test_without_labels_there_is_no_guidance():
    recipe = recipes.small(100, steps=50, image_shape=(8, 8, 1))
    assert recipe.sampling["guidance"] == 1.0 and recipe.model.num_classes is None


def test_the_preset_has_one_head():
    model = UMD.from_preset("umd_x0_tiny_patch4_8", num_layers=1, decoder_layers=1)
    assert model.objective.pixel_predictions == ("x0",)
    assert model.corruption.noisy_patches == "all" and model.corruption.clean_ratio == 0.125


@pytest.mark.parametrize("cpu", [False, True])
def test_a_training_stops_in_the_middle_of_an_epoch(monkeypatch, cpu):
    now = [100.0]
    name, other = ("process_time", "monotonic") if cpu else ("monotonic", "process_time")
    monkeypatch.setattr(stopping.time, name, lambda: now[0])
    monkeypatch.setattr(stopping.time, other, lambda: 0.0)

    class Ticks(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            now[0] += 10.0
            self.batch = batch

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    ticks, stop = Ticks(), callbacks.StopAfter(0.5, cpu=cpu)
    model.fit(np.zeros((10, 2)), np.zeros((10, 1)), batch_size=1, epochs=3, callbacks=[ticks, stop], verbose=0)
    assert ticks.batch == 2 and stop.seconds == 30.0
