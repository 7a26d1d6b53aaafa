"""Compiled programs: bounded in number, shared where they may be, and no model lives for their sake."""

import gc
import weakref

import keras
import numpy as np
import pytest
from keras import ops

from keras_umd import guidance
from keras_umd.backend.programs import Programs
from tests.conftest import array, trained_like


class Scale:
    """The least that a program needs of a model."""

    def __init__(self, value):
        self.factor = keras.Variable(np.float32(value))
        self.network_weights = [self.factor]


def scaled(model, x):
    return x * model.factor


def scaled_by_both(model, other, x):
    return x * model.factor * other.factor


def test_the_least_recently_used_program_goes_first():
    programs, model, traces = Programs(max_size=3), Scale(2.0), []

    def run(key):
        def counted(model, x):
            traces.append(key)
            return scaled(model, x)

        return float(programs.run((key,), counted, [model], ops.ones(())))

    for key in "abc":
        assert run(key) == 2.0
    run("a")
    run("d")  # drops b
    assert len(programs) == 3
    traces.clear()
    run("a")
    run("b")
    assert "b" in traces
    assert ("a" in traces) == (keras.backend.backend() == "torch")  # where nothing is traced, all is run


def test_new_weights_and_given_values_need_no_new_program():
    programs, model = Programs(), Scale(2.0)
    assert float(programs.run((), scaled, [model], ops.ones(()))) == 2.0
    model.factor.assign(3.0)
    assert float(programs.run((), scaled, [model], ops.ones(()))) == 3.0
    assert float(programs.run((), scaled, [model], ops.ones(()), values=[ops.full((), 5.0)])) == 5.0
    assert len(programs) == 1


def test_other_variables_need_a_new_program():
    programs, model = Programs(), Scale(2.0)
    programs.run((), scaled, [model], ops.ones(()))
    model.factor = keras.Variable(np.float32(7.0))  # as LoRA does
    model.network_weights = [model.factor]
    assert float(programs.run((), scaled, [model], ops.ones(()))) == 7.0
    assert len(programs) == 1  # the other's variable is dead


def test_a_dead_model_is_not_kept_and_its_program_is_dropped():
    programs, model, other = Programs(), Scale(2.0), Scale(3.0)
    assert float(programs.run((), scaled_by_both, [model, other], ops.ones(()))) == 6.0
    dead = weakref.ref(other.factor)
    del other
    gc.collect()
    assert dead() is None
    assert float(programs.run((), scaled, [model], ops.ones(()))) == 2.0
    assert len(programs) == 1


def test_a_part_is_compiled_anew_for_other_variables(monkeypatch):
    programs, model, compiled = Programs(), Scale(2.0), []

    def compile_part(function, variables, jit_compile):
        compiled.append(list(variables))
        return lambda x: function(x)

    monkeypatch.setattr("keras_umd.backend.programs.compile_part", compile_part)
    for _ in range(2):
        assert float(programs.part(scaled, model)(ops.ones(()))) == 2.0
    model.network_weights = [model.factor, keras.Variable(np.float32(0.0))]  # as LoRA does
    for _ in range(2):
        assert float(programs.part(scaled, model)(ops.ones(()))) == 2.0
    assert list(map(len, compiled)) == [1, 2]


@pytest.mark.backends("torch")  # elsewhere Keras itself keeps models where they are traced
def test_neither_a_model_nor_its_weak_model_outlives_its_user(small_model):
    model = trained_like(small_model(num_classes=3))
    weak_model = trained_like(small_model(num_classes=3, hidden_dim=8))
    images = np.zeros((1, 8, 8, 1), "uint8")
    guided = {"num_steps": 2, "guidance": guidance.Constant(2.0, weak_model=weak_model)}
    model.generate([0, 1], **guided)
    model.encode(images)
    model.reconstruct(images)
    programs = len(model.programs)
    dead = weakref.ref(weak_model)
    del weak_model, guided
    gc.collect()
    assert dead() is None
    model.encode(images)
    assert len(model.programs) == programs - 1
    dead = weakref.ref(model)
    del model
    gc.collect()
    assert dead() is None


@pytest.mark.host
def test_a_model_keeps_at_most_eight_programs(small_model, images):
    model = trained_like(small_model())
    first = model.reconstruct(images[:2], mask_ratio=0.05, seed=0)["reconstruction"]
    for mask_ratio in np.linspace(0.1, 0.9, 9):
        model.reconstruct(images[:2], mask_ratio=float(mask_ratio), seed=0)
    assert len(model.programs) == 8
    np.testing.assert_array_equal(model.reconstruct(images[:2], mask_ratio=0.05, seed=0)["reconstruction"], first)
    assert array(model.encode(images[:2])).shape == (2, 16)
