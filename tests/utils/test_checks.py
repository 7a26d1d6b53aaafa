import numpy as np
import pytest

from keras_umd.utils.checks import check_one_of, check_positive, check_positive_integers, require

pytestmark = pytest.mark.host


def test_an_error_says_what_is_expected_and_what_was_received():
    require(True, "`x` must be 1.", "x=1")
    with pytest.raises(ValueError, match=r"^`x` must be 1\. Received: x=2$"):
        require(False, "`x` must be 1.", "x=2")


@pytest.mark.parametrize(
    "check, right, wrong, message",
    [
        (check_positive, [1, 0.5, np.float32(2)], [0, -1.0, float("nan")], "positive"),
        (check_positive_integers, [1, np.int64(2)], [0, -1, 1.0, "1", None], "a positive integer"),
        (lambda **values: check_one_of(("a", "b"), **values), ["a", "b"], ["c", None], r"one of \('a', 'b'\)"),
    ],
)
def test_checks_name_the_argument(check, right, wrong, message):
    for value in right:
        check(first=value)
    for value in wrong:
        with pytest.raises(ValueError, match=f"`second` must be {message}") as error:
            check(first=right[0], second=value)
        assert str(value) in str(error.value)
