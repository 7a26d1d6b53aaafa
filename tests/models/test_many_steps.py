"""On JAX with data on the device, the steps of an execution are one loop in one program, and change nothing."""

import itertools
import types

import keras
import numpy as np
import pytest

from keras_umd import callbacks, data, recipes
from keras_umd.backend import many_steps
from tests.conftest import array
from tests.training.test_guard import assert_same_black_box

pytestmark = pytest.mark.backends("jax")
IMAGES = np.random.default_rng(0).integers(0, 256, (26, 8, 8, 1)).astype("uint8")


@pytest.fixture
def small_model(plain_model):
    """The method isn't the subject."""
    return plain_model


class Record(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        self.logs = []

    def on_train_batch_end(self, batch, logs=None):
        self.logs.append({name: float(value) for name, value in logs.items()})


def resident():
    """Seven batches, the last of another size."""
    return data.on_device(IMAGES, batch_size=4, drop_remainder=False, seed=0)


@pytest.fixture
def scans(monkeypatch):
    """The number of steps of each scan that runs."""
    seen, scan_of_steps = [], many_steps.scan_of_steps

    def spied(model, step, weights):
        program = scan_of_steps(model, step, weights)

        def run(state, batches):
            seen.append(len(keras.tree.flatten(batches)[0]))
            return program(state, batches)

        return run

    monkeypatch.setattr(many_steps, "scan_of_steps", spied)
    return seen


@pytest.mark.filterwarnings("ignore:.* steps were left out")
def test_training_is_that_of_single_steps(small_model, scans, tmp_path):
    """With all that a step does: a guard, accumulation, averages. (Optimised programs are equal bit for bit.)"""
    boxes = []
    ends = []
    for steps in (1, 3):
        model = small_model()
        optimizer = recipes.AdamW(1e-3, ema_decay=0.9, gradient_accumulation_steps=2)
        model.compile(optimizer, steps_per_execution=steps)
        record, guard = Record(), callbacks.Guard(sigma=1.0, window=4, directory=tmp_path / str(steps))
        history = model.fit(resident(), epochs=2, verbose=0, callbacks=[guard, record]).history
        variables = model.variables + model.optimizer.variables + model.metrics_variables
        ends.append(([array(variable) for variable in variables], history, record.logs))
        assert guard._of_fit[0] == 14
        boxes.append(guard.black_boxes[0])
    assert scans == [3] * 4  # two an epoch; the seventh batch is left to Keras
    (values, history, logs), (ours, our_history, our_logs) = ends
    assert history["skipped_steps"][-1] > 0  # or nothing would be shown of the guard
    for value, expected in zip(ours, values, strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)
    number = int(boxes[0].partition(".zip")[0][-6:])
    assert number % 3 != 2  # or nothing would be shown of a step that isn't its execution's last
    assert_same_black_box(*boxes)
    assert len(our_logs) == 6 and our_history.keys() == history.keys()
    for found, expected in zip(our_logs, [logs[i] for i in (2, 5, 6, 9, 12, 13)], strict=True):
        assert found == pytest.approx(expected, rel=1e-5)


def test_evaluation_is_that_of_single_steps(small_model, scans):
    model, results = small_model(), []
    for steps in (1, 3):
        model.compile("sgd", steps_per_execution=steps)
        results.append(model.evaluate(resident(), verbose=0, return_dict=True))
    assert scans == [3, 3] and results[1] == pytest.approx(results[0], rel=1e-6)


def test_the_program_does_not_grow_with_the_number_of_steps(small_model):
    import jax

    model = small_model()
    model.compile(recipes.AdamW(1e-3, ema_decay=0.9))
    model.optimizer.build(model.trainable_variables)
    model.guard_steps()
    groups = [model.trainable_variables, model.non_trainable_variables, model.optimizer.variables]
    state = tuple([variable.value for variable in group] for group in [*groups, model.metrics_variables])
    texts = []
    for steps in (2, 8):
        # As for images in host memory, which are larger and need no data set in the model's state.
        batches = (jax.ShapeDtypeStruct((steps, 4, 8, 8, 1), "uint8"),)
        traced = many_steps.scan_of_steps(model, model.train_step).trace(state, batches)
        assert [equation.primitive.name for equation in traced.jaxpr.eqns].count("scan") == 1
        texts.append(str(traced.jaxpr))
    assert len(texts[0].splitlines()) == len(texts[1].splitlines())


def test_what_can_not_be_one_loop_is_left_to_keras():
    """Batches that may not be stacked, of different sizes, and too few; Keras' function gets all of them in order."""
    seen = []

    def step(state, batch):
        return {"sum": batch.sum()}, state + batch.sum()

    def keras_function(state, iterator):
        taken = list(itertools.islice(iterator, 2))  # as many as Keras' would take
        seen.append([len(batch) for batch in taken])
        return {"sum": taken[-1].sum()}, state + sum(batch.sum() for batch in taken)

    model = types.SimpleNamespace(steps_per_execution=2, run_eagerly=False, jit_compile=True, train_step=step)
    batches = iter([np.full(n, 1.0, "float32") for n in (9, 9, 4, 4, 4, 3, 4)])
    function = many_steps.in_one_program(model, step, keras_function, can_scan=lambda batch: len(batch) < 9)
    state = np.float32(0)
    for total in (18, 26, 33, 37):
        _, state = function(state, batches)
        assert float(state) == total
    assert seen == [[9, 9], [4, 3], [4]]
    with pytest.raises(StopIteration):
        function(state, batches)
    for setting in ({"steps_per_execution": 1}, {"run_eagerly": True}, {"jit_compile": False}):
        other = types.SimpleNamespace(**{**vars(model), **setting})
        assert many_steps.in_one_program(other, step, keras_function, None) is keras_function
