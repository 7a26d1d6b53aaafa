"""Steps that would spoil a training: left out within the step, counted, gone back from, and run again."""

import os
import zipfile

import keras
import numpy as np
import pytest
from keras import ops

import keras_umd
from keras_umd import callbacks, recipes
from keras_umd.models.guarding import GuardState
from keras_umd.objectives import Term
from keras_umd.training.black_box import read_black_box
from tests.conftest import QUICK, array

BACKEND = keras.backend.backend()
# Compiled, as users have it, but for XLA on TensorFlow, which takes three times as long to compile as to trace.
COMPILED = {"jit_compile": False} if BACKEND == "tensorflow" else {}


@pytest.fixture
def small_model(plain_model):
    """The method isn't the subject."""
    return plain_model


class Batches(keras.utils.PyDataset):
    """Batches of 8 float images, the same in each epoch, some of them spoilt."""

    def __init__(self, num_batches=4, spoilt=(), value=np.nan):
        super().__init__()
        self.images = np.random.default_rng(0).uniform(-1, 1, (8 * num_batches, 8, 8, 1)).astype("float32")
        self.spoilt, self.value = spoilt, value

    def __len__(self):
        return len(self.images) // 8

    def __getitem__(self, index):
        batch = self.images[8 * index : 8 * index + 8].copy()
        if index in self.spoilt:
            batch[:] = self.value
        return batch


class Record(keras.callbacks.Callback):
    """All that a step changes, after each step."""

    def on_train_begin(self, logs=None):
        self.states, self.logs = [state_of(self.model)], []

    def on_train_batch_end(self, batch, logs=None):
        self.states.append(state_of(self.model))
        self.logs.append(dict(logs))


def state_of(model):
    """Weights, averages and the optimizer's state."""
    variables = [*model.trainable_variables, *model.averages[0].variables, *inner(model.optimizer).variables]
    return [array(variable).copy() for variable in variables]


def inner(optimizer):
    return inner(optimizer.inner_optimizer) if hasattr(optimizer, "inner_optimizer") else optimizer


def equal(state, other):
    return all(np.array_equal(value, expected) for value, expected in zip(state, other, strict=True))


def fit(model, data, *others, epochs=1, **guard):
    guard = callbacks.Guard(**{"window": 4, "sigma": 20.0, **guard})  # few steps, which vary more than long ones
    history = model.fit(data, epochs=epochs, verbose=0, shuffle=False, callbacks=[guard, *others]).history
    return guard, history


def test_a_step_on_nan_changes_no_weight_state_average_or_logged_mean(small_model):
    model = small_model()
    model.compile(recipes.AdamW(1e-3, ema_decay=0.9), **COMPILED)
    record = Record()
    with pytest.warns(UserWarning, match="1 of 4 steps were left out"):
        _, history = fit(model, Batches(spoilt=[2]), record)
    before, after = record.states[2], record.states[3]
    assert equal(before, after)
    assert not any(equal(*record.states[i : i + 2]) for i in (0, 1, 3))
    assert [logs["skipped_steps"] for logs in record.logs] == [0, 0, 1, 1]
    means = [{name: value for name, value in logs.items() if name != "skipped_steps"} for logs in record.logs]
    assert means[1] == means[2]
    assert np.isfinite(history["loss"]).all() and history["skipped_steps"] == [1]
    assert float(array(model.averages[0].num_updates)) == 3 == int(array(model.optimizer.iterations))


@pytest.mark.backends("jax", "tensorflow")
def test_steps_that_run_together_are_left_out_one_by_one(small_model, tmp_path):
    ends, boxes = [], []
    for steps in (1, 2):
        model = small_model()
        how = QUICK if steps == 1 else COMPILED
        model.compile(recipes.AdamW(1e-3, ema_decay=0.9), steps_per_execution=steps, **how)
        guard, history = fit(model, Batches(spoilt=[2]), directory=tmp_path / str(steps))
        ends.append(state_of(model))
        boxes += guard.black_boxes
        assert history["skipped_steps"] == [1]
    for value, expected in zip(*ends, strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-3, atol=1e-6)
    if BACKEND == "jax":  # TensorFlow has only the last step of an execution, which was good
        assert_same_black_box(*boxes)


def test_a_training_without_faults_is_the_same_with_a_guard(small_model):
    ends = []
    for guards in ([], [callbacks.Guard(window=4, sigma=20.0)]):
        model = small_model()
        model.compile(recipes.AdamW(1e-3, ema_decay=0.9), **QUICK)
        history = model.fit(Batches(), epochs=2, verbose=0, shuffle=False, callbacks=guards).history
        ends.append(state_of(model))
    assert equal(*ends)
    assert history["skipped_steps"] == [0, 0]


def test_the_loss_scaling_of_float16_goes_on_and_its_black_box_is_of_the_batch_at_fault(small_model, tmp_path):
    model = small_model(dtype="mixed_float16")
    optimizer = keras.optimizers.LossScaleOptimizer(recipes.AdamW(1e-3, ema_decay=0.9), initial_scale=2.0**22)
    model.compile(optimizer, **QUICK)
    guard, history = fit(model, Batches(num_batches=9, spoilt=[7]), window=100, directory=tmp_path)
    halved = 22 - round(np.log2(float(array(model.optimizer.dynamic_scale))))
    assert 1 < halved < 7  # once for the batch of NaN, else since 2^22 is too much for float16: no fault of the step
    assert history["skipped_steps"] == [1]
    assert int(array(model.optimizer.iterations)) == 9 - halved == float(array(model.averages[0].num_updates))
    assert all(np.isfinite(value).all() for value in state_of(model))
    assert np.isfinite(history["loss"]).all()
    (path,) = guard.black_boxes  # none of the steps whose scale was too large
    about, arrays = read_black_box(path)
    assert about["batch"] == 7 and np.isnan(about["loss"]) and np.isnan(arrays["images"]).all()
    if BACKEND == "torch":  # a replay runs op by op, whatever backend wrote the file
        replay = keras_umd.replay(path)
        assert (replay.layer, replay.kind) == ("encoder/patch_embedding/projection", "output")


def test_accumulation_waits_for_another_batch_and_averages_move_once_an_update(small_model):
    model = small_model()
    model.compile(recipes.AdamW(1e-3, ema_decay=0.9, gradient_accumulation_steps=2), **QUICK)
    record = Record()
    fit(model, Batches(num_batches=5, spoilt=[1]), record)
    moved = [not np.array_equal(a[0], b[0]) for a, b in zip(record.states, record.states[1:], strict=False)]
    assert moved == [False, False, True, False, True]
    assert float(array(model.averages[0].num_updates)) == 2


@pytest.mark.backends("jax", "torch")
def test_averages_move_once_an_update_without_a_guard(small_model, images):
    ends = []
    for size, steps in ((24, None), (8, 3)):
        model = small_model()
        model.compile(recipes.AdamW(1e-3, ema_decay=0.9, gradient_accumulation_steps=steps), **QUICK)
        model.fit(images, batch_size=size, epochs=2, verbose=0)
        ends.append(float(array(model.averages[0].num_updates)))
    assert ends == [2, 2]


def judged(pairs, sigma, window):
    """The judgements of a guard, by the definition."""
    accepted, results = [], []
    for pair in pairs:
        last = np.array(accepted[-window:])
        is_good = bool(np.isfinite(pair).all())
        if is_good and len(last) >= max(window // 2, 2):
            deviation = np.maximum(last.std(axis=0), 0.01 * np.abs(last.mean(axis=0)))
            is_good = bool((pair <= last.mean(axis=0) + sigma * deviation).all())
        results.append(is_good)
        accepted += [pair] * is_good
    return results


@pytest.mark.parametrize("window", [3, 8])
def test_outliers_are_those_above_the_window_once_half_of_it_is_filled(window):
    rng = np.random.default_rng(0)
    pairs = rng.normal([1.0, 5.0], [0.1, 0.5], (60, 2))
    pairs[[10, 20]] = [[1.0, 50.0], [0.01, 0.01]]  # far above, which is left out, and far below, which isn't
    pairs[[30, 31]] = [[np.nan, 5.0], [1.0, np.inf]]
    state = GuardState(6.0, window)
    results = [bool(array(state.judge(*map(float, pair)))) for pair in pairs.astype("float32")]
    assert results == judged(pairs, 6.0, window)
    assert not results[10] and results[20] and not results[30] and not results[31]
    assert (int(array(state.num_accepted)), int(array(state.num_skipped))) == (sum(results), 60 - sum(results))


def test_a_step_that_loss_scaling_left_out_counts_if_no_smaller_scale_would_help():
    state = GuardState(6.0, 4)
    counts = []
    for loss, scale, is_unjudged in ((1.0, 1.0, True), (1.0, 0.5, False), (1.0, 0.5, True), (np.nan, 8.0, True)):
        state.loss.assign(loss)
        state.count_unjudged(ops.convert_to_tensor(is_unjudged), ops.convert_to_tensor(scale))
        counts.append(int(array(state.num_skipped)))
    assert counts == [0, 0, 1, 2] and int(array(state.in_a_row)) == 2


def assert_same_black_box(path, expected):
    """The same step with the same images, draws and weights."""
    assert path != expected and os.path.basename(path) == os.path.basename(expected)
    (about, arrays), (other, others) = map(read_black_box, (path, expected))
    assert arrays.keys() == others.keys() and any(name.startswith("weights/") for name in arrays)
    for name, value in others.items():
        np.testing.assert_allclose(arrays[name], value, rtol=1e-3, atol=1e-6, err_msg=name)
    for name in ("epoch", "batch", "loss", "norm"):
        assert about[name] == pytest.approx(other[name], rel=1e-4, nan_ok=True), name


class Explode(keras.callbacks.Callback):
    """A learning rate far too high for one step."""

    def __init__(self, step, rate):
        super().__init__()
        self.step, self.rate, self.seen = step, rate, 0

    def on_train_batch_begin(self, batch, logs=None):
        self.model.optimizer.learning_rate = self.rate if self.seen == self.step else 1e-3
        self.seen += 1


@pytest.mark.backends("jax", "torch")  # on TensorFlow the checkpoint itself takes no other way, and 40 s to trace
def test_an_exploding_rate_goes_back_to_the_last_checkpoint(small_model, tmp_path):
    ends = []
    for explode in ([], [Explode(9, 1e3)]):
        model = small_model()
        model.compile(recipes.AdamW(1e-3, ema_decay=0.9), **QUICK)
        backup = callbacks.BackupAndRestore(tmp_path / f"{len(ends)}")
        options = {"on": "rollback", "in_a_row": 3, "checkpoints": backup, "window": 8, "sigma": 6.0}
        if explode:
            with pytest.warns(UserWarning, match="went back to the checkpoint of step 8"):
                _, history = fit(model, Batches(8), *explode, backup, epochs=5, **options)
            assert history["skipped_steps"][-1] == 3
        else:
            _, history = fit(model, Batches(8), backup, epochs=5, **options)
        ends.append(history["loss"][-1])
        assert all(np.isfinite(value).all() for value in state_of(model))
    assert ends[1] == pytest.approx(ends[0], rel=0.1)


def test_stop_raises_and_leaves_the_weights_of_the_last_good_step(small_model, tmp_path):
    model = small_model()
    model.compile(recipes.AdamW(1e-3, ema_decay=0.9), **QUICK)
    with pytest.raises(FloatingPointError, match="3 steps in a row were left out.*keras_umd.replay"):
        fit(model, Batches(8, spoilt=[2, 3, 4, 5]), on="stop", in_a_row=3, directory=tmp_path)
    assert all(np.isfinite(value).all() for value in state_of(model))
    assert int(array(model.optimizer.iterations)) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["black_box_0000_000002.zip"]


def test_skip_takes_a_new_level_for_the_window_and_an_epoch_of_nan_raises(small_model):
    model = small_model()
    model.compile(recipes.AdamW(1e-3, ema_decay=0.9), **QUICK)
    fit(model, Batches())
    model.guards[0].history.assign(np.full((2, 4), 1e-6))  # as if the training had been on another level
    with pytest.warns(UserWarning, match="the new one"):
        _, history = fit(model, Batches(8), in_a_row=2)
    assert history["skipped_steps"] == [2]
    model.decoder.mask_token.assign(np.full(16, np.nan))
    with pytest.raises(FloatingPointError, match="All steps of epoch 0"):
        fit(model, Batches())


@pytest.mark.host
def test_files_are_the_same_with_and_without_a_guard(small_model, tmp_path):
    # Of many weights, beside which the names of variables take little place.
    model = small_model(corruption=keras_umd.Corruption.umd(), conditioning="adaln_zero")
    model.compile(recipes.AdamW(1e-3, ema_decay=0.9), **QUICK)
    fit(model, Batches())
    model.save(tmp_path / "guarded.keras")
    loaded = keras.models.load_model(tmp_path / "guarded.keras")
    assert isinstance(loaded.optimizer, recipes.AdamW) and not loaded.guards
    assert equal(state_of(loaded), state_of(model))
    with zipfile.ZipFile(tmp_path / "guarded.keras") as archive:
        size = archive.getinfo("model.weights.h5").file_size
    loaded.save(tmp_path / "unguarded.keras")
    with zipfile.ZipFile(tmp_path / "unguarded.keras") as archive:
        assert size < 1.1 * archive.getinfo("model.weights.h5").file_size  # the optimizer's state is there once
    loaded.run_eagerly = bool(QUICK)
    before = state_of(loaded)
    loaded.guard_steps(sigma=6, window=64)
    assert equal(state_of(loaded), before)
    fit(loaded, Batches(), window=64)  # the deviation of two losses would be a guess
    assert int(array(loaded.optimizer.iterations)) == 8


def test_a_backup_has_the_window(small_model, tmp_path):
    models = [small_model() for _ in range(2)]
    for model in models:
        model.compile(recipes.AdamW(1e-3), **QUICK)
    fit(models[0], Batches())
    models[0].save_weights(tmp_path / "state.weights.h5")
    models[1].optimizer.build(models[1].trainable_variables)
    models[1].guard_steps(window=4)
    models[1].load_weights(tmp_path / "state.weights.h5")
    for variable, expected in zip(models[1].guards[0].variables, models[0].guards[0].variables, strict=True):
        np.testing.assert_array_equal(array(variable), array(expected), variable.name)
    assert float(array(models[1].guards[0].num_accepted)) == 4


def test_compile_ends_the_guard(small_model):
    model = small_model()
    model.compile("sgd", **QUICK)
    model.guard_steps(window=4)
    model.compile("sgd", **QUICK)
    assert not model.guards
    assert "skipped_steps" not in model.fit(Batches(), verbose=0).history


# The black box


def box_of(model, data, tmp_path):
    model.compile("sgd", **QUICK)
    guard, _ = fit(model, data, directory=tmp_path)
    return keras_umd.replay(guard.black_boxes[0])


@pytest.mark.backends("tensorflow", "torch")  # op by op, as the replay below that JAX runs, too
def test_a_replay_names_the_images_and_the_layer_that_saw_them(small_model, tmp_path):
    replay = box_of(small_model(), Batches(spoilt=[2]), tmp_path)
    assert (replay.layer, replay.kind, replay.overflows) == ("encoder/patch_embedding/projection", "output", {})
    assert replay.bad_images == list(range(8))
    assert np.isnan(replay.loss)
    assert "first that isn't finite: output of encoder/patch_embedding" in str(replay)


def test_a_replay_has_the_loss_and_gradient_of_the_training(small_model, tmp_path):
    model = small_model()
    model.compile("sgd", **QUICK)
    fit(model, Batches())
    model.guards[0].history.assign(np.full((2, 4), 1e-6))
    guard = callbacks.Guard(sigma=20.0, window=4, directory=tmp_path)  # the settings of `fit` above: the same window
    with pytest.raises(FloatingPointError, match="All steps"):
        model.fit(Batches(1), verbose=0, shuffle=False, callbacks=[guard])
    replay = keras_umd.replay(guard.black_boxes[0])
    state = model.guards[0]
    assert replay.layer is None and "everything is finite" in str(replay)
    assert replay.loss == pytest.approx(float(array(state.loss)), rel=1e-5)
    assert replay.gradient_norm == pytest.approx(float(array(state.norm)), rel=1e-4)
    assert replay.about["loss"] == pytest.approx(replay.loss, rel=1e-5)


def replay_of_failure(model, directory):
    """Train a model whose only step fails, and run that step again."""
    model.compile("sgd", **QUICK)
    guard = callbacks.Guard(directory=directory)
    with pytest.raises(FloatingPointError, match="All steps"):
        model.fit(Batches(1), verbose=0, callbacks=[guard])
    return keras_umd.replay(guard.black_boxes[0])


@pytest.mark.backends("torch")  # a replay runs op by op; another one runs on every backend
def test_a_replay_names_what_overflows_float16(small_model, tmp_path):
    model = small_model(dtype="mixed_float16")
    hidden = model.encoder.blocks[0].mlp_hidden
    hidden.kernel.assign(2e5 * array(hidden.kernel))  # up to 5e4: finite in float16, and its products are not
    replay = replay_of_failure(model, tmp_path)
    assert (replay.layer, replay.kind) == (hidden.path, "output")
    assert not replay.bad_images
    assert next(iter(replay.overflows)) == hidden.path and 65504 < replay.overflows[hidden.path] < 1e7
    assert f"exceeded by the output of {hidden.path}" in str(replay)


@keras.saving.register_keras_serializable("tests")
class SteepTerm(Term):
    """Zero, with a gradient that isn't finite."""

    def image_losses(self, outputs, target):
        return ops.sqrt(0.0 * ops.mean(ops.square(ops.cast(outputs["representation"], "float32")), axis=1))


def steep_model(small_model, **settings):
    corruption = keras_umd.Corruption.mae()
    terms = [*keras_umd.Objective.denoising(corruption).terms, SteepTerm("clean")]
    return small_model(corruption=corruption, objective=keras_umd.Objective(terms), **settings)


def test_a_replay_names_the_layer_whose_gradient_goes_wrong_first(small_model, tmp_path):
    replay = replay_of_failure(steep_model(small_model), tmp_path)
    assert (replay.layer, replay.kind) == ("encoder/norm", "gradient")
    assert np.isfinite(replay.loss)


@pytest.mark.backends("torch")
def test_a_replay_names_the_layer_whose_gradient_no_scale_of_float16_makes_finite(small_model, tmp_path):
    """Loss scaling would halve its scale for ever, and nothing be trained without a word."""
    model = steep_model(small_model, dtype="mixed_float16")
    model.compile(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(), initial_scale=4.0))
    guard = callbacks.Guard(directory=tmp_path)
    with pytest.raises(FloatingPointError, match="All steps"):
        model.fit(Batches(4), verbose=0, callbacks=[guard])
    replay = keras_umd.replay(guard.black_boxes[0])
    assert (replay.layer, replay.kind, replay.about["batch"]) == ("encoder/norm", "gradient", 2)  # 4, 2, 1, and below


@pytest.mark.backends("torch")  # weights are arrays of NumPy when a replay looks at them
def test_a_replay_names_weights_that_were_wrong_before(small_model, tmp_path):
    model = small_model()
    model.decoder.mask_token.assign(np.full(16, np.nan))
    replay = replay_of_failure(model, tmp_path)
    assert (replay.layer, replay.kind) == ("decoder", "weights")


@pytest.mark.host
def test_what_is_no_black_box_is_refused_by_name(tmp_path):
    path = tmp_path / "box.zip"
    path.write_bytes(b"no zip")
    with pytest.raises(ValueError, match="box.zip is no whole black box"):
        keras_umd.replay(path)


@pytest.mark.host
@pytest.mark.parametrize(
    "arguments, match",
    [
        ({"on": "nothing"}, "on='nothing'"),
        ({"sigma": 0}, "sigma=0"),
        ({"sigma": float("nan")}, "sigma=nan"),
        ({"window": 1}, "window=1"),
        ({"window": True}, "window=True"),
        ({"in_a_row": 0}, "in_a_row=0"),
        ({"on": "rollback"}, "restore_last"),
    ],
)
def test_wrong_settings_are_refused_by_name(arguments, match):
    with pytest.raises(ValueError, match=match):
        callbacks.Guard(**arguments)
