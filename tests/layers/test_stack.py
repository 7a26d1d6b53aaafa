"""A stack of blocks is its blocks one after the other, however it is run."""

import keras
import numpy as np
import pytest

from keras_umd.layers import BlockStack, Modulations, TransformerBlock
from tests.conftest import array, trained_like

RNG = np.random.default_rng(0)
TOKENS = RNG.normal(size=(2, 5, 8)).astype("float32")
CONDITION = RNG.normal(size=(2, 8)).astype("float32")
WAYS = {
    "unrolled": {},
    "remat": {"remat": True},
    "scan": {"scan_blocks": True},
    "both": {"scan_blocks": True, "remat": True},
}
CONDITIONINGS = ("adaln_zero", "token", None)
on_jax = pytest.mark.backends("jax")  # only JAX has the scan
ON_EACH = [pytest.param(way, marks=on_jax if "scan_blocks" in options else ()) for way, options in WAYS.items()]


def stack_of(conditioning="adaln_zero", num_layers=4, **how):
    keras.utils.set_random_seed(0)
    stack = BlockStack(num_layers, num_heads=2, conditioning=conditioning, **how)
    stack.build(TOKENS.shape)
    return trained_like(stack)


@pytest.mark.parametrize("conditioning", CONDITIONINGS)
@pytest.mark.parametrize("way", ON_EACH)
def test_collected_tokens_are_those_after_each_block(way, conditioning):
    stack = stack_of(conditioning, **WAYS[way])
    expected, tokens = [], TOKENS
    for block in stack:
        tokens = block(tokens, condition=CONDITION)
        expected.append(array(tokens))
    last, collected = stack(TOKENS, condition=CONDITION, num_outputs=2, collect=(3, 1))
    np.testing.assert_allclose(array(last), expected[3][:, -2:], atol=1e-5)
    for tokens, number in zip(collected, (3, 1), strict=True):
        np.testing.assert_allclose(array(tokens), expected[number - 1], atol=1e-5)
    np.testing.assert_allclose(array(stack(TOKENS, condition=CONDITION)), expected[3], atol=1e-5)
    np.testing.assert_allclose(array(stack(TOKENS, condition=CONDITION, depth=2)), expected[1], atol=1e-5)


@pytest.mark.parametrize("way", ON_EACH)
def test_modulations_computed_before_give_the_same(way):
    stack = stack_of(**WAYS[way])
    modulations = stack.modulations(keras.ops.convert_to_tensor(CONDITION))
    assert [tuple(x.shape) for x in modulations.of_layers] == [(2, 48)] * 4
    for options in ({}, {"collect": (1, 3), "num_outputs": 2}):
        given, made = (
            keras.tree.flatten(stack(TOKENS, condition=condition, **options)) for condition in (modulations, CONDITION)
        )
        for actual, expected in zip(given, made, strict=True):
            np.testing.assert_allclose(array(actual), array(expected), atol=1e-5)


def test_modulations_are_fed_to_functional_models():
    stack = stack_of(num_layers=2)
    tokens, inputs = keras.Input((5, 8)), [keras.Input((48,)) for _ in stack]
    model = keras.Model([tokens, *inputs], stack(tokens, condition=Modulations(tuple(inputs))))
    modulations = [array(x) for x in stack.modulations(keras.ops.convert_to_tensor(CONDITION)).of_layers]
    expected = array(stack(TOKENS, CONDITION))
    np.testing.assert_allclose(model.predict([TOKENS, *modulations], verbose=0), expected, atol=1e-5)


@on_jax
def test_collecting_cuts_the_scan_and_keeps_nothing_else():
    import jax

    def scans(**options):
        stack = stack_of(scan_blocks=True, num_layers=6)
        jaxpr = jax.make_jaxpr(lambda tokens: stack(tokens, condition=CONDITION, **options))(TOKENS)
        return [eqn for eqn in jaxpr.eqns if eqn.primitive.name == "scan"]

    assert [eqn.params["length"] for eqn in scans()] == [6]
    cut = scans(collect=(2, 5))
    assert [eqn.params["length"] for eqn in cut] == [2, 3, 1]
    # A scan that kept the tokens of all rounds would give them out with an axis for the rounds.
    assert all(tuple(x.aval.shape) == TOKENS.shape for eqn in cut for x in eqn.outvars)


@pytest.mark.host
def test_a_stack_is_a_sequence_of_blocks():
    stack = stack_of(num_layers=3)
    assert len(stack) == 3 and len(list(stack)) == 3
    assert all(isinstance(block, TransformerBlock) for block in stack)
    assert stack[-1] is list(stack)[2] and stack[:2] == [stack[0], stack[1]]


@pytest.mark.host
def test_files_hold_each_block_under_the_name_that_they_always_had(tmp_path):
    import h5py

    stack = stack_of(num_layers=11)
    inputs = keras.Input((5, 8)), keras.Input((8,))
    model = keras.Model(inputs, stack(*inputs))
    model.save_weights(tmp_path / "model.weights.h5")
    with h5py.File(tmp_path / "model.weights.h5") as file:
        names = {name for name, group in file["layers/block_stack"].items() if name != "vars"}
    assert names == {"transformer_block", *(f"transformer_block_{i}" for i in range(1, 11))}


@pytest.mark.host
@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"collect": (0,)}, r"collect=\(0,\)"), ({"collect": (3,), "depth": 2}, "depth=2"), ({"depth": 5}, "depth=5")],
)
def test_blocks_that_do_not_exist_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        stack_of()(TOKENS, condition=CONDITION, **wrong)


def test_a_stack_without_blocks_gives_what_it_gets():
    with pytest.raises(ValueError, match="num_layers=-1"):
        BlockStack(-1, 2)
    stack = BlockStack(0, 2)
    stack.build(TOKENS.shape)
    assert stack.weights == []
    np.testing.assert_array_equal(array(stack(TOKENS, condition=CONDITION)), TOKENS)
    np.testing.assert_array_equal(array(stack(TOKENS, condition=CONDITION, num_outputs=2)), TOKENS[:, -2:])
