import numpy as np
import pytest

from keras_umd.utils import checks

pytestmark = pytest.mark.host
NAN = float("nan")


def test_an_error_says_what_is_expected_and_what_was_received():
    checks.require(True, "`x` must be 1.", "x=1")
    with pytest.raises(ValueError, match=r"^`x` must be 1\. Received: x=2$"):
        checks.require(False, "`x` must be 1.", "x=2")


def test_a_long_value_is_cut():
    with pytest.raises(ValueError) as error:
        checks.require(False, "`x` must be short.", x="a" * 100_000)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize(
    "check, right, wrong, message",
    [
        (
            checks.check_positive_integers,
            [1, np.int64(2), np.uint8(3), np.array(4)],
            [0, -1, 1.0, "1", None, True, np.True_, NAN, 2**63, np.array([1])],
            "(a positive integer|an integer from 1 to 2147483647)",
        ),
        (lambda **values: checks.check_integers(0, 5, **values), [0, 5], [6, -1], "an integer from 0 to 5"),
        (
            lambda **values: checks.check_numbers("[0, 1)", **values),
            [0, 0.5, np.float32(0.5), np.array(0.5)],
            [1, -0.1, True, "0.5", None, NAN, np.inf, 10**400],
            r"(be a number and )?lie in \[0, 1\)",
        ),
        (
            lambda **values: checks.check_numbers("(0, inf)", **values),
            [1, 0.5, np.float32(2)],
            [0, -1.0, NAN, np.inf, True],
            "(be a number and )?be positive",
        ),
        (checks.check_bools, [True, False, np.True_], ["False", 0, 1, None], "True or False"),
        (
            lambda **values: checks.check_one_of(("a", "b", 1), **values),
            ["a", "b", 1, np.int64(1)],
            ["c", None, True, [], np.array([1, 2])],
            r"one of \('a', 'b', 1\)",
        ),
        (
            lambda **values: checks.check_instances(dict, "a dictionary", **values),
            [{}],
            ["c", None, []],
            "a dictionary",
        ),
        (checks.check_paths, ["a", "../b"], ["", b"c", None, 1], "a path"),
        (checks.check_decays, [0.5, [0.5, 0.9], []], [1.0, [0.5, NAN], "0.5"], r"(be a number and )?lie in \[0, 1\)"),
        (lambda **values: checks.check_names(**values), [["a", "b"], ("c",)], [[], ["a", "a"], "ab", [1]], "a list of"),
        (
            lambda **values: checks.check_tensors(2, **values),
            [np.zeros((1, 2)), np.zeros((2, 1), "uint8")],
            [np.zeros(2), None, [[1]], np.array([["a"]])],
            "an array or a tensor of rank 2",
        ),
    ],
)
def test_checks_name_the_argument(check, right, wrong, message):
    for value in right:
        check(first=value)
    for value in wrong:
        with pytest.raises(ValueError, match=f"`second` must (be )?{message}") as error:
            check(first=right[0], second=value)
        assert "Received: " in str(error.value) and "second" in str(error.value).split("Received: ")[1]


def test_optional_arguments_may_be_none():
    checks.check_integers(1, optional=True, x=None)
    checks.check_numbers("[0, 1]", optional=True, x=None)
    checks.check_bools(optional=True, x=None)
    checks.check_instances(int, "an integer", optional=True, x=None)
    with pytest.raises(ValueError, match="or None"):
        checks.check_integers(1, optional=True, x=0)


def test_numbers_become_arrays():
    np.testing.assert_array_equal(checks.as_numbers(x=[1, 2.5]), [1.0, 2.5])
    np.testing.assert_array_equal(checks.as_integers(0, x=(1, np.int64(2))), [1, 2])
    for value in ("a", [1, "a"], [[1], [1, 2]], [True], None, [NAN], object()):
        with pytest.raises(ValueError, match="`x` must be"):
            checks.as_numbers(x=value)
    for value in (1, [0.5], [-1], [2**31], [NAN], [True], "12", None):
        with pytest.raises(ValueError, match="`x` must be"):
            checks.as_integers(0, x=value)
