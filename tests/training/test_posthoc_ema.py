"""Averages whose weights are powers of time, and others from their snapshots (2312.02696), against sums in NumPy."""

import keras
import numpy as np
import pytest

from keras_umd import callbacks, recipes
from keras_umd.models.averages import WeightAverage
from keras_umd.utils.atomic import DamagedFileError
from keras_umd.utils.power_profile import exponent_of, reconstruction_weights, std_of
from tests.conftest import array

PAPERS = (0.05, 0.10)


def average_of(history, std):
    """The power average of all values in a history, from the integrals of `t^g` over the updates."""
    edges = np.arange(len(history) + 1, dtype="float64") / len(history)
    return np.diff(edges ** (exponent_of(std) + 1)) @ history


def walk(num_updates=400, size=5):
    """A trajectory such as a training has: a way that slows down, and noise."""
    times = np.arange(1, num_updates + 1)[:, None] / num_updates
    steps = np.random.default_rng(0).normal(size=(num_updates, size))
    return 3 * np.exp(-3 * times) + 0.3 * np.cumsum(steps, axis=0) / np.sqrt(num_updates) + 0.2 * steps


@pytest.mark.host
@pytest.mark.parametrize("std", [0.01, 0.05, 0.1, 0.25])
def test_a_profile_has_the_width_that_it_is_named_by(std):
    exponent = exponent_of(std)
    assert std_of(exponent) == pytest.approx(std, rel=1e-9)
    times = (np.arange(200_000) + 0.5) / 200_000
    density = (exponent + 1) * times**exponent
    mean = np.mean(density * times)
    assert np.sqrt(np.mean(density * (times - mean) ** 2)) == pytest.approx(std, rel=1e-3)
    assert exponent_of(0.05) == pytest.approx(16.97, abs=5e-3) and exponent_of(0.10) == pytest.approx(6.94, abs=5e-3)


@pytest.mark.parametrize("std", PAPERS)
def test_the_tracked_average_is_the_sum_over_the_recorded_trajectory(std):
    history = walk(40)
    variable = keras.Variable(np.full(5, 100.0))
    average = WeightAverage(recipes.PowerProfile(std), [variable])
    for value in history:
        variable.assign(value)
        average.update()
    average.update(counts=keras.ops.convert_to_tensor(False))  # a step that was left out changes nothing
    (value,) = average.values_for([variable])
    np.testing.assert_allclose(array(value), average_of(history, std), rtol=1e-4, atol=1e-5)


@pytest.mark.host
@pytest.mark.parametrize("std", [0.02, 0.05, 0.07, 0.15, 0.2])
def test_other_widths_follow_from_snapshots(std):
    history, times, exponents, snapshots = walk(), [], [], []
    for time in range(25, 401, 25):
        for tracked in PAPERS:
            times.append(time)
            exponents.append(exponent_of(tracked))
            snapshots.append(average_of(history[:time], tracked))
    weights = reconstruction_weights(exponents, times, exponent_of(std), 400)
    assert weights.sum() == pytest.approx(1)
    expected, made = average_of(history, std), weights @ np.array(snapshots)
    spread = np.abs(average_of(history, 0.02) - average_of(history, 0.2)).max()
    assert np.abs(made - expected).max() < (1e-6 if std in PAPERS else 0.03) * spread
    # Earlier ones than the last: those of a training that ended there.
    weights = reconstruction_weights(exponents, times, exponent_of(0.07), 300)
    assert np.abs(weights @ np.array(snapshots) - average_of(history[:300], 0.07)).max() < 0.03 * spread


class Record(keras.callbacks.Callback):
    def __init__(self, variable):
        super().__init__()
        self.variable, self.history = variable, []

    def on_train_batch_end(self, batch, logs=None):
        self.history.append(array(self.variable).copy().ravel())


@pytest.mark.host
def test_a_training_leaves_snapshots_from_which_any_average_is_made_and_saved(small_model, images, tmp_path):
    model, folder = small_model(), tmp_path / "averages"
    model.compile(recipes.AdamW(0.01, ema_decay=[recipes.PowerProfile(std) for std in PAPERS]))
    record = Record(model.encoder.cls_tokens)
    model.fit(
        images, batch_size=6, epochs=9, verbose=0, callbacks=[record, callbacks.SnapshotAverages(folder, every=2)]
    )
    history = np.array(record.history, "float64")
    names = [f"average-{n:010d}.npz" for n in (8, 16, 24, 32, 36)]
    assert sorted(path.name for path in folder.iterdir()) == names  # every second epoch of four steps, and the end
    profile = recipes.posthoc_average(model, folder, std=0.15)
    assert [average.decay for average in model.averages] == [*map(recipes.PowerProfile, PAPERS), profile]
    index = [v.path for v in model.network_weights].index(model.encoder.cls_tokens.path)
    expected = average_of(history, 0.15)
    spread = np.abs(expected - average_of(history, 0.05)).max()
    assert np.abs(array(model.weight_values(profile)[index]).ravel() - expected).max() < 0.1 * spread
    recipes.posthoc_average(model, folder, std=0.15, num_updates=24)
    made = array(model.weight_values(profile)[index]).ravel()
    assert np.abs(made - average_of(history[:24], 0.15)).max() < 0.2 * spread  # only three snapshots until there
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert [average.decay for average in loaded.averages] == [average.decay for average in model.averages]
    assert loaded.optimizer.ema_decay == [*map(recipes.PowerProfile, PAPERS)]
    for decay in (profile, recipes.PowerProfile(0.05)):
        for value, other in zip(loaded.weight_values(decay), model.weight_values(decay), strict=True):
            np.testing.assert_array_equal(array(value), array(other))


@pytest.mark.host
def test_what_cannot_be_made_is_refused(small_model, tmp_path):
    model, folder = small_model(), tmp_path / "averages"
    model.track_average([recipes.PowerProfile(std) for std in PAPERS])
    snapshots = callbacks.SnapshotAverages(folder)
    snapshots.set_model(model)
    for epoch in range(3):
        for average in model.averages:
            average.update()
        snapshots.on_epoch_end(epoch)
    with pytest.raises(ValueError, match="tracks this average itself"):
        recipes.posthoc_average(model, folder, std=0.05)
    with pytest.raises(ValueError, match="num_updates=4"):
        recipes.posthoc_average(model, folder, std=0.15, num_updates=4)
    with pytest.raises(ValueError, match="must be of this model"):
        recipes.posthoc_average(small_model(hidden_dim=32), folder, std=0.15)
    with pytest.raises(ValueError, match="must hold snapshots"):
        recipes.posthoc_average(model, tmp_path / "nothing", std=0.15)
    assert len(model.averages) == 2
    last = max(folder.iterdir())
    last.write_bytes(last.read_bytes()[:-100])
    with pytest.raises(DamagedFileError, match=last.name):
        recipes.posthoc_average(model, folder, std=0.15)


@pytest.mark.host
def test_a_model_without_such_averages_has_no_snapshots(small_model, images, tmp_path):
    model = small_model()
    model.compile(recipes.AdamW(0.01, ema_decay=0.9))
    with pytest.raises(ValueError, match="PowerProfile"):
        model.fit(images, verbose=0, callbacks=[callbacks.SnapshotAverages(tmp_path)])
