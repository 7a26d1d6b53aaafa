"""TensorFlow's greeting, which it writes past Python while it is imported, and which says nothing about a run.

Keras imports TensorFlow, where it is installed, on every backend; `TF_CPP_MIN_LOG_LEVEL` comes too late for these.
"""

import contextlib
import importlib.abc
import importlib.machinery
import os
import sys
import tempfile

GREETING = (
    b"All log messages before absl::InitializeLog()",
    b"oneDNN custom operations are on",
    b"Could not find cuda drivers",
    b"binary is optimized to use available CPU instructions",
    b"To enable the following instructions",
)


def keep_quiet(name="tensorflow"):
    """Leave out the greeting of a module that hasn't been imported yet; what else it writes follows its import.

    Example:

    >>> keep_quiet()

    Args:
        name: String, the module.
    """
    if name not in sys.modules and not any(isinstance(f, _Finder) and f.name == name for f in sys.meta_path):
        sys.meta_path.insert(0, _Finder(name))


class _Finder(importlib.abc.MetaPathFinder):
    """Finds one module, as Python would, and makes its import quiet."""

    def __init__(self, name):
        self.name = name

    def find_spec(self, fullname, path=None, target=None):
        spec = importlib.machinery.PathFinder.find_spec(fullname, path) if fullname == self.name else None
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def execute_quietly(module):
            with _without_greeting():
                execute(module)

        spec.loader.exec_module = execute_quietly  # of this loader alone: it stays what resources are read by
        return spec


@contextlib.contextmanager
def _without_greeting():
    """A context that holds back what is written to the process's standard error, and leaves out the greeting."""
    try:
        before = os.dup(2)
    except OSError:  # it is closed
        yield
        return
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(before, 2)
            os.close(before)
            file.seek(0)
            for line in file:
                if not any(words in line for words in GREETING):
                    os.write(2, line)
