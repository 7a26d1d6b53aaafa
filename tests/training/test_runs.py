"""A run in its directory: what it refuses, what it finds when it comes back, and how it answers signals."""

import errno
import json
import os
import pathlib
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_umd import callbacks, data
from keras_umd.training import checkpoints, run_directory, state
from keras_umd.utils.atomic import DamagedFileError
from tests.conftest import QUICK, array
from tests.training.helpers import KillAfter, Killed

pytestmark = pytest.mark.host
ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def small_model(plain_model):
    """The method isn't the subject."""
    return plain_model


class Run:
    """A training of 3 epochs of 3 batches in a directory."""

    def __init__(self, small_model, images, directory, learning_rate=1e-3, seed=3, **options):
        self.dataset = data.from_arrays(images, batch_size=8, seed=seed)
        self.model = small_model()
        self.model.compile(keras.optimizers.AdamW(learning_rate), **QUICK)
        self.callbacks = callbacks.standard(directory, dataset=self.dataset, **{"save_freq": 2, **options})

    def fit(self, *more, epochs=3):
        self.history = self.model.fit(self.dataset, epochs=epochs, verbose=0, callbacks=[*self.callbacks, *more])
        return self

    def assert_equals(self, other):
        for value, expected in zip(self.model.get_weights(), other.model.get_weights(), strict=True):
            np.testing.assert_array_equal(value, expected)


@pytest.fixture
def run(small_model, images, tmp_path):
    """Makes a `Run` in `tmp_path / name`, with a model and a data set of its own."""
    return lambda name="run", **options: Run(small_model, images, tmp_path / name, **options)


@pytest.fixture
def killed(run, tmp_path):
    """A run that was killed in its second epoch, behind its third checkpoint."""
    with pytest.raises(Killed):
        run().fit(KillAfter(5))
    assert sorted(os.listdir(tmp_path / "run" / "checkpoints")) == ["000000001", "000000002", "000000003"]
    return tmp_path / "run"


def do_after(num_batches, action):
    """A callback that acts behind a batch of the training."""
    return KillAfter(num_batches, kill=action)


# The end


def test_a_finished_run_trains_nothing_and_has_its_weights(run, tmp_path, capsys):
    finished = run().fit()
    again = run().fit()
    assert "has finished its 3 epochs" in capsys.readouterr().out
    assert again.history.epoch == []
    again.assert_equals(finished)
    rows = (tmp_path / "run" / "history.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["epoch", "0", "1", "2"]
    more = run().fit(epochs=5)
    assert more.history.epoch == [3, 4]
    more.assert_equals(run("longer").fit(epochs=5))
    assert json.loads((tmp_path / "run" / "run.json").read_text())["state"] == "finished"


def test_a_run_that_stopped_early_is_finished_with_the_weights_that_were_put_back(run):
    early = keras.callbacks.EarlyStopping("loss", min_delta=1e9, patience=1, restore_best_weights=True)
    first = run()
    first.callbacks.insert(0, early)
    first.fit()
    assert first.history.epoch == [0, 1]
    again = run().fit()
    assert again.history.epoch == []
    again.assert_equals(first)


# The directory


def test_a_run_with_other_settings_is_refused_and_says_what_differs(run, killed):
    with pytest.raises(ValueError, match=r"learning_rate: 0\.001\d* -> 0\.002\d*") as error:
        run(learning_rate=2e-3).fit()
    assert str(killed) in str(error.value) and "resume='force'" in str(error.value)
    with pytest.raises(ValueError, match="data.seed: 3 -> 4"):
        run(seed=4).fit()
    other = run()
    other.model.compile(keras.optimizers.SGD(1e-3), **QUICK)
    with pytest.raises(ValueError, match='class_name: "AdamW" -> "SGD"'):
        other.fit()
    forced = run(learning_rate=2e-3, resume="force").fit()
    assert forced.history.epoch == [1, 2]


def test_resume_false_wants_a_directory_without_a_run(run, killed):
    with pytest.raises(ValueError, match="holds a run"):
        run(resume=False).fit()
    run("other", resume=False).fit(epochs=1)


def test_files_that_are_of_no_run_are_not_written_over(run, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model.keras").write_text("mine")
    with pytest.raises(ValueError, match=r"has no run.json.*model\.keras"):
        run().fit()
    assert (tmp_path / "run" / "model.keras").read_text() == "mine"


def test_files_of_the_user_stay(run, killed):
    files = [killed / name for name in ("thesis.tex", "checkpoints/notes.txt", "checkpoints/000000001/a.txt")]
    for path in files:
        path.write_text("x")
    run(keep=1).fit()
    assert all(path.read_text() == "x" for path in files)


def test_a_second_run_is_kept_out_while_the_first_trains(run, tmp_path):
    first = run()
    script = (
        "import sys, tests.lean; from keras_umd.training.run_directory import RunLock\n"
        "try: RunLock(sys.argv[1]).acquire()\n"
        "except ValueError as error: print(error)"
    )

    def begin_another():
        command = [sys.executable, "-c", script, str(tmp_path / "run")]
        printed = subprocess.run(command, capture_output=True, text=True, cwd=ROOT).stdout
        assert "Two runs can't share a directory" in printed and f'"process": {os.getpid()}' in printed

    first.fit(do_after(2, begin_another), epochs=1)
    assert first.history.epoch == [0]
    run().fit(epochs=2)  # the first one gave it back


def test_the_lock_of_another_host_holds_while_it_beats(run, killed, monkeypatch):
    (killed / "run.lock").write_text('{"host": "elsewhere", "process": 7}')
    monkeypatch.setattr(run_directory, "PATIENCE_SECONDS", 0.3)
    sleep, beats = run_directory.time.sleep, []

    def beat(seconds):
        beats.append(seconds)
        os.utime(killed / "run.lock", (1, 1))  # of a clock that is far behind
        sleep(0.01)

    with monkeypatch.context() as patch:
        patch.setattr(run_directory.time, "sleep", beat)
        with pytest.raises(ValueError, match="in use by.*elsewhere"):
            run().fit()
    assert beats
    run().fit()  # it is dead


def test_the_directory_may_vanish_in_mid_run(run, tmp_path):
    first = run().fit(do_after(4, lambda: (tmp_path / "run").rename(tmp_path / "moved")))
    run().fit().assert_equals(first)


def test_a_clock_that_was_set_back_is_no_hindrance(run, killed, monkeypatch):
    """The newest checkpoint is the one with the highest number, whatever the times of the files."""
    for path in [killed, *killed.rglob("*")]:
        newest = path.name == "000000003" or path.parent.name == "000000003"
        os.utime(path, (1e9, 1e9) if newest else (2e9, 2e9))  # that of 2001, among those of 2033
    with monkeypatch.context() as patch:
        patch.setattr(run_directory.time, "strftime", lambda *_: "1970-01-01 00:00:00+0000")
        resumed = run().fit()
    resumed.assert_equals(run("whole").fit())
    assert resumed.history.epoch == [1, 2]


def test_the_losses_of_an_epoch_that_goes_on_are_those_of_all_of_it(run, killed):
    run().fit()
    run("whole").fit()
    assert (killed / "history.csv").read_text() == (killed.parent / "whole" / "history.csv").read_text()


# Damage


def test_a_damaged_checkpoint_gives_way_to_the_one_before(run, killed):
    path = killed / "checkpoints" / "000000003" / "state.npz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 64
    path.write_bytes(content)
    with pytest.warns(UserWarning, match=r"000000003/state\.npz has other contents.*000000002 is whole, and taken"):
        resumed = run().fit()
    resumed.assert_equals(run("whole").fit())


def test_no_whole_checkpoint_is_an_error_that_names_all(run, killed):
    for path in (killed / "checkpoints").glob("*/place.json"):
        path.write_text("{")
    with pytest.raises(DamagedFileError, match=r"All checkpoints are damaged: .*3/place\.json.*1/place\.json"):
        run().fit()


def test_a_damaged_run_file_is_an_error_with_the_way_out(run, killed):
    (killed / "run.json").write_text((killed / "run.json").read_text().replace('"AdamW"', '"AdamV"'))
    with pytest.raises(DamagedFileError, match=r"run\.json is damaged.*resume='force'"):
        run().fit()
    (killed / "run.json").unlink()
    run(resume="force").fit().assert_equals(run("whole").fit())


def test_what_is_not_finite_is_never_saved(run, tmp_path):
    spoiled = run()

    def spoil():
        spoiled.model.decoder.mask_token.assign(np.full(16, np.inf))

    with pytest.raises(FloatingPointError, match="decoder/mask_token isn't finite"):
        spoiled.fit(do_after(6, spoil))  # behind the last batch of the epoch, so that no loss shows it
    for path in (tmp_path / "run" / "checkpoints").glob("*/state.npz"):
        assert all(np.isfinite(values).all() for values in np.load(path).values())
    assert np.isfinite(array(keras.models.load_model(tmp_path / "run" / "model.keras").decoder.mask_token)).all()
    run().fit().assert_equals(run("whole").fit())


@pytest.mark.parametrize("module, name", [(state, "write_arrays"), (checkpoints, "write_manifest"), (os, "fsync")])
def test_a_full_disk_is_an_error_and_leaves_the_checkpoints(module, name, run, killed, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    before = sorted(os.listdir(killed / "checkpoints"))
    with monkeypatch.context() as patch:
        patch.setattr(module, name, fail)
        with pytest.raises(OSError, match="No space left"):
            run().fit()
    assert sorted(name for name in os.listdir(killed / "checkpoints") if not name.startswith(".")) == before
    run().fit().assert_equals(run("whole").fit())


def test_the_last_checkpoints_and_the_best_are_kept(run, tmp_path):
    losses = iter([0.9, 0.1, 0.8, 0.7, 0.6])

    class Losses(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["val_loss"] = next(losses)

    kept = run(save_freq="epoch", keep=2)
    kept.callbacks.insert(0, Losses())
    kept.fit(epochs=5)
    assert sorted(os.listdir(tmp_path / "run" / "checkpoints")) == ["000000002", "000000004", "000000005"]


def test_a_run_with_validation_on_its_own_training_data_resumes_exactly(small_model, images, tmp_path):
    def fit(name, *more):
        one = Run(small_model, images, tmp_path / name)
        one.model.fit(one.dataset, epochs=3, verbose=0, validation_data=one.dataset, callbacks=[*one.callbacks, *more])
        return one

    with pytest.raises(Killed):
        fit("killed", KillAfter(5))
    fit("killed").assert_equals(fit("whole"))


# Signals


@pytest.fixture
def ctrl_c():
    """Ctrl-C as in a console: shells let what they start in the background ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_a_signal_saves_at_the_end_of_the_step(run, tmp_path):
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)]
    whole = run("whole").fit()
    with pytest.raises(SystemExit) as error:
        run().fit(do_after(4, lambda: os.kill(os.getpid(), signal.SIGTERM)))
    assert error.value.code == 143
    assert json.loads((tmp_path / "run" / "run.json").read_text())["step"] == 5  # the signal came behind step 4
    with pytest.raises(KeyboardInterrupt):
        run().fit(do_after(1, lambda: os.kill(os.getpid(), signal.SIGINT)))
    assert json.loads((tmp_path / "run" / "run.json").read_text())["state"] == "stopped"
    run().fit(do_after(1, lambda: os.kill(os.getpid(), signal.SIGUSR1))).assert_equals(whole)
    assert handlers == [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)]


def test_the_users_own_handler_is_called_behind_the_checkpoint(run, tmp_path):
    seen = []

    def handler(number, frame):
        seen.append(json.loads((tmp_path / "run" / "run.json").read_text())["step"])
        sys.exit(5)

    before = signal.signal(signal.SIGTERM, handler)
    try:
        with pytest.raises(SystemExit) as error:
            run().fit(do_after(4, lambda: os.kill(os.getpid(), signal.SIGTERM)))
    finally:
        assert signal.signal(signal.SIGTERM, before) == handler
    assert error.value.code == 5 and seen == [5]


def test_a_second_signal_leaves_at_once():
    script = (
        "import os, signal, tests.lean\n"
        "from keras_umd.training.signals import Signals\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler); signals = Signals(); signals.install()\n"
        "os.kill(os.getpid(), signal.SIGUSR1); os.kill(os.getpid(), signal.SIGTERM)\n"
        "print('still here'); os.kill(os.getpid(), signal.SIGINT); print('too late')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 130
    assert "still here" in done.stdout and "too late" not in done.stdout


# Buckets


def test_a_run_in_a_bucket_goes_on(small_model, images, run):
    fsspec = pytest.importorskip("fsspec")
    bucket = fsspec.filesystem("memory")

    def in_bucket(**options):
        return Run(small_model, images, "memory://runs/umd", keep=1, **options)

    with pytest.raises(Killed):
        in_bucket().fit(KillAfter(5))
    whole = run("whole").fit()
    # A kill while the newest is uploaded: what isn't finished by a manifest doesn't count.
    bucket.pipe_file("/runs/umd/checkpoints/000000009/place.json", b"{}")
    with pytest.warns(UserWarning, match="000000009 is incomplete"):
        resumed = in_bucket().fit()
    resumed.assert_equals(whole)
    names = {path.removeprefix("/runs/umd/") for path in bucket.find("/runs/umd")}
    assert {"run.json", "model.keras", "history.csv"} <= names
    assert len([name for name in names if name.endswith("state.npz")]) <= 2  # the last one, and the best
    assert in_bucket().fit().history.epoch == []


class Rate(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule of one's own, without a config."""

    def __call__(self, step):
        return 1e-3


def test_a_schedule_without_a_config_is_no_hindrance(run):
    def begin():
        begun = run()
        begun.model.compile(keras.optimizers.SGD(Rate()), **QUICK)
        begun.callbacks = [callback for callback in begun.callbacks if "ModelFile" not in repr(callback)]
        return begun

    with pytest.raises(Killed):
        begin().fit(KillAfter(4))
    assert begin().fit().history.epoch == [1, 2]
