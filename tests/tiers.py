"""Which tests run on which backend, and what they cost. The hooks here are pytest's; `conftest.py` imports them.

A test without a marker is part of the contract that all backends keep, and runs on each of them.
"""

import os
import resource

import keras
import pytest

MARKERS = {
    "host": "NumPy and Python alone, or the same on every backend: runs once, on PyTorch, which compiles nothing",
    "system": "processes of its own, such as examples: runs once, on PyTorch if `backends` doesn't say otherwise",
    "backends(*names)": "runs on these backends alone, which have what it tests",
    "slow": "may take more than BUDGET",
    "docs": "runs what documents and examples show: `make docs`",
    "interop": "networks of other codebases as oracles: `make interop`",
    "devices": "several devices or processes, or a compiler that takes minutes: `make devices`",
}
# These have targets of their own, which set a variable: `make test` has fifteen minutes.
OTHER_TARGETS = {"docs": "KERAS_UMD_DOCS", "devices": "KERAS_UMD_DEVICES", "interop": "KERAS_UMD_INTEROP"}
BUDGET = 8  # CPU seconds of a test, with the processes that it starts


def backends_of(item):
    """The names of the backends on which a test runs, or `None` for all."""
    chosen = item.get_closest_marker("backends")
    if chosen:
        return chosen.args
    return ("torch",) if item.get_closest_marker("host") or item.get_closest_marker("system") else None


def pytest_configure(config):
    for marker, meaning in MARKERS.items():
        config.addinivalue_line("markers", f"{marker}: {meaning}")


def pytest_collection_modifyitems(config, items):
    """Tests of other backends are deselected, not skipped: what is skipped is what this machine lacks."""
    chosen, others = [], []
    for item in items:
        names = backends_of(item)
        is_here = names is None or keras.backend.backend() in names
        is_asked_for = all(
            os.environ.get(variable) for marker, variable in OTHER_TARGETS.items() if item.get_closest_marker(marker)
        )
        (chosen if is_here and is_asked_for else others).append(item)
    if others:
        config.hook.pytest_deselected(items=others)
        items[:] = chosen


def cpu_seconds():
    """Of this process and of those that it started and that have ended."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    item.began = cpu_seconds()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if call.when == "teardown":
        report.user_properties.append(("cpu_seconds", cpu_seconds() - item.began))
    return report


def pytest_terminal_summary(terminalreporter):
    """What the tests cost, and those that cost too much. It isn't an error, since machines differ."""
    reports = [
        report for group in terminalreporter.stats.values() for report in group if hasattr(report, "user_properties")
    ]
    costs = [(dict(report.user_properties).get("cpu_seconds", 0), report) for report in reports]
    for seconds, report in sorted(costs, key=lambda cost: -cost[0]):
        if seconds > BUDGET and "slow" not in report.keywords:
            terminalreporter.write_line(f"ABOVE THE BUDGET of {BUDGET} CPU s: {report.nodeid} took {seconds:.1f}")
    terminalreporter.write_line(f"{cpu_seconds() / 60:.1f} CPU minutes on {keras.backend.backend()}")
