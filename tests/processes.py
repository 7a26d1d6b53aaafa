"""Processes of other backends, which work beside a test and meet it in a folder."""

import contextlib
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import keras

PATIENCE = 300  # seconds


def wait_for(path, begin):
    """Wait until another process has put a whole file or folder there; `begin` is when this one started to wait."""
    while not path.exists():
        assert time.monotonic() - begin < PATIENCE, f"no {path.name}"
        time.sleep(0.1)


@contextlib.contextmanager
def of_other_backends(module, backends, *arguments):
    """`python -m module *arguments` with each of the backends but this process' own, while the block runs.

    At its end all of them must have succeeded; after an error in it they are killed.
    """
    command = [sys.executable, "-m", module, *arguments]
    options = {"cwd": pathlib.Path(__file__).parents[1]}
    others = [backend for backend in backends if backend != keras.backend.backend()]
    environments = [{**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"} for backend in others]
    with contextlib.ExitStack() as files:  # a pipe that nobody reads would fill up
        errors = [files.enter_context(tempfile.TemporaryFile("w+")) for _ in others]
        processes = [
            subprocess.Popen(command, env=environment, stderr=error, **options)
            for environment, error in zip(environments, errors, strict=True)
        ]
        try:
            yield
            codes = [process.wait(timeout=PATIENCE) for process in processes]
        finally:
            for process in processes:
                process.kill()
        for error in errors:
            error.seek(0)
        assert codes == [0] * len(others), [error.read() for error in errors]
