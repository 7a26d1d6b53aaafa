import dataclasses
import json
import random
import sys

import keras
import numpy as np
import pytest

from keras_umd import callbacks
from keras_umd.training import monitor as monitor_module
from tests.conftest import QUICK, array
from tests.training.helpers import Killed

pytest.importorskip("matplotlib")
PICTURE = np.random.default_rng(0).integers(0, 256, (5, 6, 3)).astype("uint8")
X, Y = np.random.default_rng(1).normal(size=(2, 24, 1)).astype("float32")


@dataclasses.dataclass
class Score:
    value: float
    card: dict


class Fit:
    """Trains a model of one weight for epochs of 3 steps, with a monitor that notes the weight."""

    def __init__(self, directory, evaluations=None, compile_options=(), **options):
        self.weights = {}  # by step

        def note(model):
            weight = float(array(model.weights[0])[0, 0])
            self.weights[int(array(model.optimizer.iterations))] = weight
            return {"weight": weight}

        self.monitor = callbacks.Monitor(directory, evaluations or note, tensorboard=False, **options)
        self.model = linear_model(**dict(compile_options))

    def __call__(self, *more, epochs=3):
        self.model.fit(X, Y, batch_size=8, epochs=epochs, shuffle=False, verbose=0, callbacks=[self.monitor, *more])
        return self


def linear_model(**options):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, "linear", True, "ones")])
    model.compile(keras.optimizers.SGD(0.1), "mse", **QUICK, **options)
    return model


@pytest.fixture
def without_progress(monkeypatch):
    """No drawing of `progress.png`, which takes longer than these trainings."""
    monkeypatch.setattr(monitor_module.plots, "progress", lambda *args: PICTURE)


def lines(directory, kind="evaluation"):
    with open(directory / "evaluations.jsonl") as file:
        return [line for line in map(json.loads, file) if line["kind"] == kind]


def evaluated_steps(directory):
    return [line["step"] for line in lines(directory)]


def kill_at(step):
    """A callback that stops a training after so many steps, as a kill would."""
    steps = iter(range(1, step + 1))

    def count(batch, logs):
        if next(steps) == step:
            raise Killed

    return keras.callbacks.LambdaCallback(on_train_batch_end=count)


# What it leaves


@pytest.mark.host
def test_scores_cards_and_pictures_are_in_files(tmp_path):
    def judge(model):
        return {"probe/10-shot": Score(0.5, {"draws": 10}), "distance": np.float32(2), "samples": PICTURE}

    fit = Fit(tmp_path, judge, every_epochs=2)
    fit(epochs=2)
    (line,) = lines(tmp_path)
    assert (line["step"], line["epoch"]) == (6, 2) and line["seconds"] >= 0
    assert line["values"] == {"probe/10-shot": 0.5, "distance": 2.0}
    assert line["cards"] == {"probe/10-shot": {"draws": 10}}
    assert line["pictures"] == {"samples": "pictures/samples_0000006.png"}
    saved = keras.utils.load_img(tmp_path / "pictures" / "samples_0000006.png")
    np.testing.assert_array_equal(np.asarray(saved), PICTURE)
    progress = np.asarray(keras.utils.load_img(tmp_path / "progress.png"))
    assert progress.shape[0] <= 1000 and progress.shape[1] <= 1600 and progress.std() > 10
    epochs = lines(tmp_path, "epoch")
    assert [(line["step"], line["epoch"]) for line in epochs] == [(3, 1), (6, 2)]
    assert [line["values"]["loss"] for line in epochs] == fit.model.history.history["loss"]


@pytest.mark.host
def test_tensorboard_has_losses_scores_and_pictures_of_each_step_once(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def fit(*more):
        judge = callbacks.Monitor(tmp_path, lambda model: {"score": 0.5, "samples": PICTURE}, every_steps=2)
        run = [judge, callbacks.BackupAndRestore(tmp_path), *more]
        linear_model().fit(X, Y, batch_size=8, epochs=3, shuffle=False, verbose=0, callbacks=run)

    with pytest.raises(Killed):
        fit(kill_at(5))
    fit()
    events = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"images": 0}).Reload()
    assert [event.step for event in events.Scalars("loss")] == [3, 6, 9]
    assert [event.value for event in events.Scalars("score")] == [0.5] * 5
    pictures = [(event.step, event.width, event.height) for event in events.Images("samples")]
    assert pictures == [(step, 6, 5) for step in (2, 4, 6, 8, 9)]


@pytest.mark.host
@pytest.mark.usefixtures("without_progress")
def test_steps_are_batches_also_where_gradients_are_accumulated(tmp_path):
    model = linear_model()
    model.compile(keras.optimizers.SGD(0.1, gradient_accumulation_steps=2), "mse")
    judge = callbacks.Monitor(tmp_path, lambda model: {"score": 0.5}, every_steps=4)
    model.fit(X, Y, batch_size=8, epochs=4, verbose=0, callbacks=[judge])  # 12 batches
    assert evaluated_steps(tmp_path) == [2, 4, 6]  # updates, after 4, 8 and 12 batches


@pytest.mark.host
@pytest.mark.usefixtures("without_progress")
def test_the_keys_of_a_dictionary_come_before_the_names(tmp_path):
    judges = {"raw": lambda model: {"accuracy": 0.1}, "ema": lambda model: {"accuracy": 0.2, "samples": PICTURE}}
    Fit(tmp_path, judges)(epochs=1)
    (line,) = lines(tmp_path)
    assert line["values"] == {"raw/accuracy": 0.1, "ema/accuracy": 0.2}
    assert (tmp_path / "pictures" / "ema" / "samples_0000003.png").exists()


# When it evaluates


@pytest.mark.usefixtures("without_progress")
@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({"every_epochs": 2}, [6, 12, 15]),
        pytest.param({"every_epochs": 5}, [15], marks=pytest.mark.host),
        ({"every_steps": 4}, [4, 8, 12, 15]),
        pytest.param({"every_steps": 5}, [5, 10, 15], marks=pytest.mark.host),
    ],
)
def test_it_evaluates_regularly_and_at_the_end(options, steps, tmp_path):
    Fit(tmp_path, **options)(epochs=5)
    assert evaluated_steps(tmp_path) == steps


@pytest.mark.backends("jax", "tensorflow")  # Keras refuses steps_per_execution there
@pytest.mark.usefixtures("without_progress")
def test_an_execution_of_several_steps_that_passes_a_multiple_is_evaluated(tmp_path):
    Fit(tmp_path, every_steps=2, compile_options={"steps_per_execution": 2})()
    assert evaluated_steps(tmp_path) == [2, 5, 6, 8, 9]


class Clock:
    """Time passes only when told."""

    now = 0.0

    def __call__(self):
        return self.now

    def passes(self, seconds):
        self.now += seconds


@pytest.mark.host
@pytest.mark.usefixtures("without_progress")
@pytest.mark.parametrize(
    ("costs", "epochs"),
    [
        # An epoch takes 100 s and 10% may be spent: 10 s after each.
        ([10] * 20, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]),
        ([25] * 20, [1, 3, 8, 10, 12]),
        # The first one compiles: the next comes when it is paid for, not when it could be paid for twice.
        ([45] + [10] * 20, [1, 5, 7, 8, 9, 10, 11, 12]),
    ],
)
def test_evaluations_keep_to_their_share_of_the_time(costs, epochs, tmp_path, monkeypatch):
    clock, costs = Clock(), iter(costs)
    monkeypatch.setattr(monitor_module, "clock", clock)

    def judge(model):
        clock.passes(next(costs))
        return {}

    takes_time = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: clock.passes(100))
    Fit(tmp_path, judge, budget=0.1)(takes_time, epochs=12)
    assert [line["epoch"] for line in lines(tmp_path)] == epochs
    assert lines(tmp_path)[1]["seconds"] in (10, 25)


@pytest.mark.usefixtures("without_progress")
def test_the_weights_are_those_of_the_step(tmp_path):
    fit = Fit(tmp_path, every_steps=1)()
    model = linear_model()
    for step in range(1, 10):
        start = (step - 1) % 3 * 8
        model.train_on_batch(X[start : start + 8], Y[start : start + 8])
        assert fit.weights[step] == pytest.approx(float(array(model.weights[0])[0, 0]), rel=1e-6)
    assert len(set(fit.weights.values())) == 9


# What it leaves alone


@pytest.mark.usefixtures("without_progress", "op_by_op")
@pytest.mark.backends("jax", "torch")
def test_the_training_goes_on_as_without(small_model, images, tmp_path):
    def disturb(model):
        model.predict(images, verbose=0)
        model.reconstruct(images, seed=0)
        model.evaluate(images, verbose=0)
        random.random(), np.random.random()
        return {"samples": np.tile(model.generate(num_images=1, num_steps=2)[0], 3)}

    model = small_model()
    model.compile("sgd", **QUICK)
    model.optimizer.build(model.trainable_variables)
    model.save_weights(tmp_path / "start.weights.h5")

    def train(*run):
        keras.utils.set_random_seed(0)
        model.load_weights(tmp_path / "start.weights.h5")
        losses = model.fit(images, batch_size=8, epochs=2, verbose=0, callbacks=run).history["loss"]
        return model.get_weights(), losses, int(array(model.seed_generator.state)[1])

    weights, *rest = train(callbacks.Monitor(tmp_path, disturb, every_steps=2, tensorboard=False))
    assert evaluated_steps(tmp_path) == [2, 4, 6]
    expected, *expected_rest = train()
    assert rest == expected_rest
    for value, same in zip(weights, expected, strict=True):
        np.testing.assert_array_equal(value, same)


@pytest.mark.usefixtures("without_progress")
@pytest.mark.parametrize(
    "options",
    [{"every_steps": 1}, *(pytest.param(x, marks=pytest.mark.host) for x in ({"every_epochs": 1}, {"budget": 10.0}))],
)
def test_a_killed_run_goes_on_with_no_step_twice(options, tmp_path):
    """Killed in the second of its epochs, of 3 steps each, it goes on from the end of the first."""

    def backup():
        return callbacks.BackupAndRestore(tmp_path / "killed")

    whole = Fit(tmp_path / "whole", **options)()
    with pytest.raises(Killed):
        Fit(tmp_path / "killed", **options)(backup(), kill_at(5))
    with open(tmp_path / "killed" / "evaluations.jsonl", "a") as file:
        file.write('{"kind": "eval')  # cut off
    Fit(tmp_path / "killed", **options)(backup())
    for kind in ("evaluation", "epoch"):
        here, there = lines(tmp_path / "killed", kind), lines(tmp_path / "whole", kind)
        assert [line["step"] for line in here] == [line["step"] for line in there]
        assert [line["epoch"] for line in here] == [line["epoch"] for line in there]
    assert [line["values"]["weight"] for line in lines(tmp_path / "killed")] == list(whole.weights.values())


@pytest.mark.host
@pytest.mark.usefixtures("without_progress")
def test_pictures_of_steps_that_are_taken_back_go_too(tmp_path):
    with pytest.raises(Killed):
        Fit(tmp_path, lambda model: {"samples": PICTURE}, every_steps=2)(kill_at(5))
    assert len(list((tmp_path / "pictures").iterdir())) == 2
    Fit(tmp_path, lambda model: {"samples": PICTURE}, every_epochs=1)(epochs=1)  # from the start again
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["samples_0000003.png"]


@pytest.mark.host
@pytest.mark.usefixtures("without_progress")
def test_a_run_that_is_killed_in_its_last_evaluation_makes_it_up(tmp_path):
    def run(judge):
        Fit(tmp_path, judge, every_steps=4)(callbacks.BackupAndRestore(tmp_path), epochs=2)

    def fail_at_the_end(model):
        if int(array(model.optimizer.iterations)) == 6:
            raise Killed
        return {"score": 1.0}

    with pytest.raises(Killed):  # and what an evaluation raises isn't hidden
        run(fail_at_the_end)
    assert evaluated_steps(tmp_path) == [4]
    run(lambda model: {"score": 1.0})
    assert [(line["step"], line["epoch"]) for line in lines(tmp_path)] == [(4, 2), (6, 2)]


@pytest.mark.host
@pytest.mark.usefixtures("without_progress")
def test_a_later_fit_of_the_same_model_goes_on(tmp_path):
    fit = Fit(tmp_path)(epochs=1)
    fit(epochs=1)
    assert evaluated_steps(tmp_path) == [3, 6]


# What it refuses


@pytest.mark.host
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"every_epochs": 0}, "Received: every_epochs=0"),
        ({"every_steps": 1.5}, "Received: every_steps=1.5"),
        ({"every_epochs": 1, "every_steps": 1}, "Received: every_epochs=1, every_steps=1"),
        ({"budget": 0}, "Received: budget=0"),
        ({"budget": "5%"}, "Received: budget='5%'"),
        ({"evaluations": None}, "Received: evaluations=None"),
        ({"evaluations": []}, r"Received: evaluations=\[\]"),
        ({"evaluations": {"probe": 1}}, "Received: evaluations={'probe': 1}"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        callbacks.Monitor(tmp_path, **{"evaluations": lambda model: {}, **arguments})


@pytest.mark.host
@pytest.mark.parametrize("result", ["0.5", None, {}, np.zeros((2, 2, 3)), PICTURE[..., :1]])
def test_results_of_other_types_are_refused(result, tmp_path):
    with pytest.raises(ValueError, match=r"uint8 pictures .*Received: .* as 'score'"):
        Fit(tmp_path, lambda model: {"score": result})()


@pytest.mark.host
def test_names_that_come_twice_are_refused(tmp_path):
    with pytest.raises(ValueError, match="Received: 'score' twice"):
        Fit(tmp_path, [lambda model: {"score": 1}] * 2)()


@pytest.mark.host
@pytest.mark.parametrize("package", ["matplotlib", "tensorboard"])
def test_what_is_missing_is_said_before_the_training(package, tmp_path, monkeypatch):
    module = {"matplotlib": "matplotlib.figure", "tensorboard": "tensorboard.summary.writer.event_file_writer"}[package]
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"Monitor needs {package}: pip install 'keras_umd\[plots\]'"):
        callbacks.Monitor(tmp_path, lambda model: {})
