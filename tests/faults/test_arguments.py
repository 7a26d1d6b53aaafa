"""Bad values of every argument of the public API: a clear error that names the argument, and no harm."""

import collections
import contextlib
import inspect
import io
import os
import re
import signal
import warnings

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies

from keras_umd.utils.atomic import DamagedFileError
from tests.faults import IN_FULL
from tests.faults.public_api import ACCEPTED, ALIASES, ANY, CANNOT_WORK_HERE, SKIPPED, find_targets

pytestmark = [pytest.mark.host, pytest.mark.slow]
SECONDS = 20  # after which a call hangs
EXAMPLES = 3000 if IN_FULL else 250

BAD = {
    "None": None,
    "True": True,
    "'False'": "False",
    "''": "",
    "b'x'": b"x",
    "'../x'": "../x",
    "nan": float("nan"),
    "inf": float("inf"),
    "-1": -1,
    "0": 0,
    "0.5": 0.5,
    "-1e300": -1e300,
    "1e300": 1e300,
    "2**63": 2**63,
    "[]": [],
    "{}": {},
    "[None]": [None],
    "object": object(),
    "lambda": lambda *args: None,
    "empty array": np.array([]),
    "array of -1": np.array([-1]),
    "array of nan": np.array([[np.nan, 1.0]]),
    "array of strings": np.array(["a"]),
}


class Hang(BaseException):
    """A call took too long; no `except Exception` may take it for something else."""


@contextlib.contextmanager
def time_limit(seconds):
    def stop(*_):
        raise Hang

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def outcome_of(target, argument, value):
    """What a call with one bad value comes to: a kind, and the message."""
    function, arguments = target.prepared()
    arguments[argument] = value
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), time_limit(SECONDS):
            warnings.simplefilter("ignore")
            function(**arguments)
    except Hang:
        return "hang", ""
    except DamagedFileError as error:  # of a folder that an earlier call has made
        return "clear" if isinstance(value, str) and value in str(error) else "DamagedFileError", str(error)
    except (ValueError, TypeError) as error:
        alias = ALIASES.get(f"{target.name}.{argument}", ALIASES.get(argument, argument))
        is_named = re.search(rf"\b({re.escape(argument)}|{alias})\b", str(error)) is not None
        return "clear" if is_named else f"{type(error).__name__} without a name", str(error)
    except OSError as error:  # of a file that isn't there
        is_named = isinstance(value, str) and value and (value in str(error) or repr(value) in str(error))
        return "clear" if is_named else type(error).__name__, str(error)
    except Exception as error:
        return type(error).__name__, str(error)
    return "accepted", ""


def is_right(target, argument, label, kind):
    """Whether an outcome is as it must be: clear, or accepted where it was found to make sense."""
    if kind == "accepted":
        allowed = ACCEPTED.get(f"{target.name}.{argument}", ACCEPTED.get(argument, ""))
        return allowed == ANY or label in allowed.split(", ")
    return kind == "clear"


def is_tried(target, argument, label):
    """Whether the value is bad, and not the argument's default."""
    function, values = target.prepared()
    parameters = inspect.signature(function).parameters
    defaults = [parameters[argument].default] if argument in parameters else []
    defaults += [values[argument]] if argument in values else []
    is_skipped = {(argument, label), (f"{target.name}.{argument}", label)} & SKIPPED
    return label not in map(repr, defaults) and not is_skipped


def all_cases():
    return [
        (target, argument)
        for target in find_targets()
        if target.name not in CANNOT_WORK_HERE
        for argument in target.arguments()
    ]


# None of these is right for any argument but a name, a path or free data.
OTHER_VALUES = strategies.one_of(
    strategies.integers(max_value=-1),
    strategies.integers(min_value=2**63),
    strategies.floats(max_value=-1e-3),
    strategies.sampled_from([float("nan"), float("inf"), complex(1, 1), bytearray(), Ellipsis, type, np.float16]),
    strategies.text(max_size=3),
    strategies.lists(strategies.one_of(strategies.none(), strategies.text(max_size=2)), min_size=1, max_size=3),
    strategies.dictionaries(strategies.text(max_size=2), strategies.none(), max_size=2),
)


@pytest.fixture(autouse=True)
def folder(tmp_path_factory):
    """A working folder for the files of a test, with room above for those that leave it."""
    before = os.getcwd()
    os.chdir(tmp_path_factory.mktemp("outer").joinpath("inner").parent)
    os.mkdir("inner")
    os.chdir("inner")
    yield
    os.chdir(before)


def test_every_public_name_has_a_call():
    """What is added to an `__all__` and can't be called by defaults needs an entry in `public_api.CALLS`."""
    for target in find_targets():
        if target.name in CANNOT_WORK_HERE and not IN_FULL:
            continue
        function, arguments = target.prepared()
        inspect.signature(function).bind(**arguments)
        if IN_FULL and target.name not in CANNOT_WORK_HERE:
            function(**arguments)


def test_bad_values_are_refused_by_name():
    outcomes, wrong = collections.Counter(), []

    @hypothesis.settings(
        max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, phases=[hypothesis.Phase.generate]
    )
    @hypothesis.given(strategies.sampled_from(all_cases()), strategies.sampled_from(list(BAD)), OTHER_VALUES)
    def try_one(case, label, other):
        target, argument = case
        if is_tried(target, argument, label):
            kind, message = outcome_of(target, argument, BAD[label])
            outcomes[kind] += 1
            if not is_right(target, argument, label, kind):
                wrong.append(f"{target}({argument}={label}): {kind} {message[:200]}")
        kind, message = outcome_of(target, argument, other)
        outcomes[kind] += 1
        if kind not in ("clear", "accepted"):
            wrong.append(f"{target}({argument}={other!r}): {kind} {message[:200]}")

    try_one()
    print(f"{sum(outcomes.values())} calls: {dict(outcomes.most_common())}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.skipif(not IN_FULL, reason="some 14,000 calls; `make faults` has them")
@pytest.mark.parametrize("target", find_targets() if IN_FULL else [], ids=repr)
def test_all_bad_values_of_all_arguments(target):
    outcomes, wrong = collections.Counter(), []
    for argument in target.arguments() if target.name not in CANNOT_WORK_HERE else ():
        for label, value in BAD.items():
            if not is_tried(target, argument, label):
                continue
            kind, message = outcome_of(target, argument, value)
            outcomes[kind] += 1
            if not is_right(target, argument, label, kind):
                wrong.append(f"{target}({argument}={label}): {kind} {message[:200]}")
    print(f"{sum(outcomes.values())} calls: {dict(outcomes.most_common())}")
    assert not wrong, "\n".join(wrong)
