"""Runs parts in worker processes with deadlines, and keeps what is done whatever happens to the rest."""

import contextlib
import dataclasses
import importlib
import importlib.util
import json
import os
import signal
import subprocess
import tempfile
import time
import traceback

LEAST_SECONDS = 8  # what a worker needs to start; with less time left a part isn't begun
POLL_SECONDS = 0.05
TAIL = 1500  # characters of a traceback or a log


class LeftOut(Exception):
    """Raised by a part that can't run here; its message says why."""


@dataclasses.dataclass(frozen=True)
class Part:
    """One measurement.

    Args:
        name: String, its key in results.json.
        function: String, `module.function` in this folder; called with a `Setting` and `arguments`, gives a dictionary.
        seconds: Float, its deadline where all parts have at most eight minutes.
        arguments: Dictionary.
        needs: Tuple of strings, modules without which it is left out.
        framework: String. Parts of different ones never share a process.
    """

    name: str
    function: str
    seconds: float
    arguments: dict = dataclasses.field(default_factory=dict)
    needs: tuple[str, ...] = ()
    framework: str = "keras"


@dataclasses.dataclass(frozen=True)
class Setting:
    """What a part gets.

    Args:
        folder: String, where it may leave files.
        tiny: Bool. Sizes for a CPU, to see that it works.
        results: Dictionary of the results of the parts before it, by name.
    """

    folder: str
    tiny: bool
    results: dict


def work(parts, setting, exchange):
    """In a worker: run parts one after the other; each result is a file in `exchange`."""
    for part in parts:
        _write(os.path.join(exchange, f"{part.name}.begun"), {})
        print(f"== {part.name}", flush=True)
        start, cpu = time.perf_counter(), time.process_time()
        try:
            module, _, name = part.function.partition(".")
            function = getattr(importlib.import_module(f"device.{module}"), name)
            outcome = {"status": "done", "result": function(setting, **part.arguments)}
            setting.results[part.name] = outcome["result"]
        except LeftOut as error:
            outcome = {"status": "left out", "reason": str(error)}
        except Exception:
            outcome = {"status": "failed", "reason": traceback.format_exc()[-TAIL:]}
        outcome |= {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - cpu}
        _write(os.path.join(exchange, f"{part.name}.json"), outcome)


class Runner:
    """Runs parts in order and tells of each outcome.

    Args:
        command: List of strings, the command of a worker; names of parts and the folder of exchange are added.
        report: callable `(name, outcome)`, called as soon as an outcome is known; a dictionary with `status`, `"done"`,
            `"left out"`, `"failed"` or `"too late"`, with a `result` or a `reason`, and the `seconds` that it took.
        log: String, the file to which workers print.
        minutes: Float, for all parts. Deadlines grow with more than eight and don't shrink with fewer, or no part might
            end within its own.
        together: Bool. Whether parts of the same framework share a process. A part alone sees its own peak of memory,
            and starts where nothing is left of the one before.
    """

    def __init__(self, command, report, log, minutes, together=False):
        self.command = command
        self.report = report
        self.log = log
        self.minutes = minutes
        self.together = together

    def run(self, parts):
        self.end = time.monotonic() + 60 * self.minutes
        waiting = []
        for part in parts:
            missing = [module for module in part.needs if importlib.util.find_spec(module) is None]
            if missing:
                self.report(part.name, {"status": "left out", "reason": f"not installed: {', '.join(missing)}"})
            else:
                waiting.append(part)
        while waiting:
            waiting = self._run_worker(waiting)

    def _run_worker(self, waiting):
        """Start a worker for the first of the waiting parts; returns those that still wait."""
        if self._seconds_left() < LEAST_SECONDS:
            for part in waiting:
                self.report(part.name, {"status": "left out", "reason": f"no time left of {self.minutes:g} minutes"})
            return []
        framework = waiting[0].framework
        group = [part for part in waiting if part.framework == framework] if self.together else waiting[:1]
        with tempfile.TemporaryDirectory() as exchange, open(self.log, "ab") as log:
            names = ",".join(part.name for part in group)
            command = [*self.command, "--exchange", exchange, "--parts", names]
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
            try:
                ended = self._follow(process, group, exchange)
            finally:
                _kill(process)
        return [part for part in waiting if part.name not in ended]

    def _seconds_left(self):
        return self.end - time.monotonic()

    def _follow(self, process, group, exchange):
        """Report the outcomes of a worker until it ends or must be ended; returns the names of the parts reported."""
        ended = []
        for part in group:
            began, is_first = time.monotonic(), not ended
            deadline = min(part.seconds * max(1.0, self.minutes / 8), self._seconds_left())
            outcome = self._wait(process, os.path.join(exchange, f"{part.name}.json"), began + deadline)
            if is_first or "seconds" not in outcome:
                outcome["seconds"] = time.monotonic() - began  # with the start of the worker
            ended.append(part.name)
            self.report(part.name, outcome)
            if outcome["status"] in ("too late", "died"):
                break
        return ended

    def _wait(self, process, path, until):
        while time.monotonic() < until:
            has_ended = process.poll() is not None  # before the file is looked for, or it could come in between
            if os.path.exists(path):
                with open(path) as file:
                    return json.load(file)
            if has_ended:
                return {"status": "died", "reason": f"exit status {process.returncode}; {self._tail()}"}
            time.sleep(POLL_SECONDS)
        return {"status": "too late", "reason": f"not done at its deadline; {self._tail()}"}

    def _tail(self):
        with open(self.log, "rb") as file:
            return "the log ends: " + file.read()[-TAIL:].decode(errors="replace")


def _kill(process):
    """End a worker and all that it has started; none of it may hold the device when the next one starts."""
    if process.poll() is None or process.returncode < 0:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _write(path, value):
    with open(f"{path}.new", "w") as file:
        json.dump(value, file)
    os.replace(f"{path}.new", path)
