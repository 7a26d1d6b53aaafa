import csv
import warnings

import keras
import numpy as np
import pytest

from keras_umd import callbacks, data
from keras_umd.training import state
from tests.conftest import QUICK, array
from tests.training.helpers import KillAfter, Killed

pytestmark = pytest.mark.usefixtures("op_by_op")


@pytest.fixture
def small_model(plain_model):
    """The method isn't the subject."""
    return plain_model


def test_a_run_leaves_its_model_and_history(small_model, images, tmp_path):
    model = small_model()
    model.compile("adamw", **QUICK)
    model.fit(images, batch_size=8, epochs=2, verbose=0, callbacks=callbacks.standard(tmp_path / "run"))
    loaded = keras.models.load_model(tmp_path / "run" / "model.keras")
    np.testing.assert_array_equal(loaded.predict(images, verbose=0), model.predict(images, verbose=0))
    with open(tmp_path / "run" / "history.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1"]
    assert {"loss", "clean_x0_loss"} <= set(rows[0])


def test_a_killed_run_goes_on_where_it_was(small_model, images, tmp_path):
    def kill(epoch, logs):
        if epoch == 1:
            raise Killed

    def fit(*more):
        model = small_model()
        model.compile("adamw", **QUICK)
        run = callbacks.standard(tmp_path / "run")
        model.fit(images, batch_size=8, epochs=2, shuffle=False, verbose=0, callbacks=[*run, *more])
        return model

    with pytest.raises(Killed):
        fit(keras.callbacks.LambdaCallback(on_epoch_begin=kill))
    resumed = fit()
    assert int(array(resumed.optimizer.iterations)) == 6
    uninterrupted = small_model()
    uninterrupted.compile("adamw", **QUICK)
    uninterrupted.fit(images, batch_size=8, epochs=2, shuffle=False, verbose=0)
    for value, expected in zip(resumed.get_weights(), uninterrupted.get_weights(), strict=True):
        np.testing.assert_array_equal(value, expected)


def test_nan_raises_and_keeps_the_last_good_backup(small_model, images, tmp_path):
    model = small_model()
    model.compile("adamw", **QUICK)

    def spoil(epoch, logs):
        if epoch == 1:
            model.decoder.mask_token.assign(np.full(16, np.nan))

    run = [keras.callbacks.LambdaCallback(on_epoch_begin=spoil), *callbacks.standard(tmp_path / "run")]
    with pytest.raises(FloatingPointError, match="All steps of epoch 1 were left out"):
        model.fit(images, batch_size=8, epochs=3, verbose=0, callbacks=run)
    saved = keras.models.load_model(tmp_path / "run" / "model.keras")
    assert np.isfinite(array(saved.decoder.mask_token)).all()
    assert any((tmp_path / "run" / "checkpoints").iterdir())


class Run:
    """`fit` on a data set of 3 batches, killed or not."""

    def __init__(self, small_model, images, directory, source=data.from_arrays, save_freq=1, resume=True, **optimizer):
        self.train = source(images, batch_size=8, seed=3)
        self.model = small_model()
        self.model.compile(keras.optimizers.SGD(0.1, momentum=0.9, **optimizer), **QUICK)
        self.callbacks = callbacks.standard(directory, save_freq=save_freq, dataset=self.train, resume=resume)

    def fit(self, *more, epochs=3, **kwargs):
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="Your input ran out of data")
            self.model.fit(self.train, epochs=epochs, verbose=0, callbacks=[*self.callbacks, *more], **kwargs)
        return self

    def assert_equals(self, other):
        assert (self.train.get_state()["epoch"], self.train.get_state()["batch"]) == (3, 0)
        for value, expected in zip(self.model.get_weights(), other.model.get_weights(), strict=True):
            np.testing.assert_array_equal(value, expected)


@pytest.mark.parametrize("source", [pytest.param(data.from_arrays, marks=pytest.mark.host), data.on_device])
def test_a_run_killed_within_an_epoch_goes_on_with_the_next_batch(source, small_model, images, tmp_path):
    with pytest.raises(Killed):
        Run(small_model, images, tmp_path / "killed", source).fit(KillAfter(5))
    resumed = Run(small_model, images, tmp_path / "killed", source).fit()
    resumed.assert_equals(Run(small_model, images, tmp_path / "whole", source).fit())


@pytest.mark.backends("jax")  # Keras spreads weights on JAX
def test_data_on_the_device_are_no_part_of_what_spread_weights_leave(small_model, images, tmp_path, monkeypatch):
    pytest.importorskip("orbax.checkpoint")
    monkeypatch.setattr("keras_umd.training.state.is_spread", lambda value: True)
    with pytest.raises(Killed):
        Run(small_model, images, tmp_path, data.on_device).fit(KillAfter(5))
    resumed = Run(small_model, images, tmp_path, data.on_device).fit()
    saved = keras.models.load_model(tmp_path / "model.keras")
    for value, expected in zip(saved.get_weights(), resumed.model.get_weights(), strict=True):
        np.testing.assert_array_equal(value, expected)


@pytest.mark.host
def test_a_batch_that_was_looked_at_is_not_lost(small_model, images, tmp_path):
    killed = Run(small_model, images, tmp_path / "killed")
    next(iter(killed.train))
    with pytest.raises(Killed):
        killed.fit(KillAfter(2))
    Run(small_model, images, tmp_path / "killed").fit().assert_equals(
        Run(small_model, images, tmp_path / "whole").fit()
    )


@pytest.mark.host
@pytest.mark.parametrize("killed_after", [2, 3, 8])
@pytest.mark.parametrize("save_freq", [1, 2, "epoch"])
def test_wherever_it_is_killed_the_run_ends_the_same(killed_after, save_freq, small_model, images, tmp_path):
    whole = Run(small_model, images, tmp_path / "whole", gradient_accumulation_steps=2).fit()
    options = {"save_freq": save_freq, "gradient_accumulation_steps": 2}
    with pytest.raises(Killed):
        Run(small_model, images, tmp_path / "killed", **options).fit(KillAfter(killed_after))
    Run(small_model, images, tmp_path / "killed", **options).fit().assert_equals(whole)


@pytest.mark.host
def test_an_epoch_leaves_its_losses_once(small_model, images, tmp_path):
    with pytest.raises(Killed):
        Run(small_model, images, tmp_path, save_freq=5).fit(KillAfter(4))
    Run(small_model, images, tmp_path, save_freq=5).fit()
    epochs = [line.split(",")[0] for line in (tmp_path / "history.csv").read_text().splitlines()]
    assert epochs == ["epoch", "0", "1", "2"]


@pytest.mark.host
def test_the_same_model_goes_on_in_the_same_process(small_model, images, tmp_path):
    whole = Run(small_model, images, tmp_path / "whole").fit()
    run = Run(small_model, images, tmp_path / "killed")
    with pytest.raises(Killed):
        run.fit(KillAfter(5))
    run.fit().assert_equals(whole)
    assert run.model.fit(run.train, epochs=1, verbose=0).epoch == [0]  # a later one begins anew


@pytest.mark.host
def test_a_run_that_was_killed_twice_leaves_nothing_behind(small_model, images, tmp_path):
    run = Run(small_model, images, tmp_path / "killed")
    filters = list(warnings.filters)
    for _ in range(2):
        with pytest.raises(Killed):
            run.fit(KillAfter(4))
    assert run.model.fit(images, batch_size=8, epochs=1, verbose=0).epoch == [0]
    run.train.go_to(0)
    run.fit()
    assert warnings.filters == filters


@pytest.mark.host
def test_a_run_that_began_at_a_later_epoch_ends_where_it_should(small_model, images, tmp_path):
    whole = Run(small_model, images, tmp_path / "whole").fit(initial_epoch=2, epochs=5)
    with pytest.raises(Killed):
        Run(small_model, images, tmp_path / "killed").fit(KillAfter(5), initial_epoch=2, epochs=5)
    Run(small_model, images, tmp_path / "killed").fit(initial_epoch=2, epochs=5).assert_equals(whole)


@pytest.mark.host
def test_a_kill_while_a_backup_is_written_leaves_the_one_before(small_model, images, tmp_path, monkeypatch):
    whole = Run(small_model, images, tmp_path / "whole").fit()
    run = Run(small_model, images, tmp_path / "killed")
    write, calls = state.write_arrays, []

    def half_write(path, arrays):
        calls.append(path)
        write(path, arrays)
        if len(calls) == 5:
            with open(path, "r+b") as file:
                file.truncate(1000)
            raise Killed

    monkeypatch.setattr(state, "write_arrays", half_write)
    with pytest.raises(Killed):
        run.fit()
    monkeypatch.undo()
    Run(small_model, images, tmp_path / "killed").fit().assert_equals(whole)


@pytest.mark.host
def test_backups_of_other_data_and_of_parts_of_epochs_are_refused(small_model, images, tmp_path):
    with pytest.raises(Killed):
        Run(small_model, images, tmp_path / "run").fit(KillAfter(2))
    other = Run(small_model, images[::-1], tmp_path / "run")
    with pytest.raises(ValueError, match="other settings.*data.source: "):
        other.fit()
    model = other.model
    with pytest.raises(ValueError, match="without `steps_per_epoch`. Received: 2 steps"):
        Run(small_model, images, tmp_path / "other").fit(steps_per_epoch=2)
    with pytest.raises(Killed):
        without = callbacks.standard(tmp_path / "without", save_freq=1)
        model.fit(images, batch_size=8, verbose=0, callbacks=[*without, KillAfter(1)])
    with pytest.raises(ValueError, match="data.batch_size: null -> 8"):
        Run(small_model, images, tmp_path / "without").fit()
    with pytest.raises(ValueError, match="made without `dataset`"):
        Run(small_model, images, tmp_path / "without", resume="force").fit()
    with pytest.raises(ValueError, match="save_freq=0"):
        callbacks.BackupAndRestore(tmp_path, save_freq=0)


def test_callbacks_say_what_they_do(tmp_path):
    *_, model_file, _, backup = callbacks.standard(tmp_path / "run", save_freq=100)
    assert repr(model_file) == f"<ModelFile: {str(tmp_path / 'run' / 'model.keras')!r}>"
    assert repr(backup) == f"<BackupAndRestore: {str(tmp_path / 'run')!r}, save_freq=100, dataset=None>"
    for options, when in (
        ({}, "budget=0.05"),
        ({"every_epochs": 2}, "every_epochs=2"),
        ({"every_steps": 9}, "every_steps=9"),
    ):
        monitor = callbacks.Monitor("runs", [len, id], tensorboard=False, **options)
        assert repr(monitor) == f"<Monitor: 'runs', 2 evaluations, {when}>"
    assert repr(callbacks.Throughput(num_devices=8)) == "<Throughput: device=None, num_devices=8>"
